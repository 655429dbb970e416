"""What passes the router unchanged: every answer of every engine, good or bad, is the engine's own.

Each request goes to the engine twice, so that its cache holds the prompt, and then through the router. What
the engine answered the second time is what the router's client gets: status, headers, and the body byte for
byte, but for ids and times.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest

from e2e.asking import LONG_ANSWER_TOKENS, prose, user
from e2e.engines.engine import CONTEXT_TOKENS, MODEL_NAME, Engine, running
from e2e.engines.kinds import computing, generated_tokens, in_progress
from e2e.engines.llamacpp import llamacpp
from e2e.findings import Findings
from e2e.sameness import engine_headers, gist, lasting, shape
from live.polling import eventually
from live.processes import Router, StartRouter
from live.wire import Connection, request

pytestmark = pytest.mark.e2e

RouterBefore = Callable[[Engine], Router]

CITY: Final = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Final = {"type": "function", "function": {"name": "weather", "description": "of", "parameters": CITY}}
CHOSEN: Final = {"type": "function", "function": {"name": "weather"}}
SCHEMA: Final = {"type": "json_schema", "json_schema": {"name": "place", "schema": CITY}}

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
EVERY: Final = frozenset(("vllm", "sglang", "llamacpp"))


@dataclass(frozen=True)
class Case:
    """One request, and which engines answer it with 200."""

    name: str
    path: str
    body: dict[str, Any]
    answered_by: frozenset[str] = field(default=EVERY)


def chat(name: str, *answered_by: str, **more: Any) -> Case:
    messages = [user(prose(f"passing {name}", 700))]
    asked = {"model": MODEL_NAME, "messages": messages, "max_tokens": 8, "temperature": 0, **more}
    return Case(name, CHAT, asked, frozenset(answered_by) or EVERY)


def of(name: str, path: str, *answered_by: str, **body: Any) -> Case:
    return Case(name, path, {"model": MODEL_NAME, **body}, frozenset(answered_by) or EVERY)


def only(*answered_by: str) -> frozenset[str]:
    return frozenset(answered_by)


TEXT: Final = prose("passing text", 500)
MESSAGES: Final = [user(TEXT)]
SAMPLING: Final = {"max_tokens": 4, "temperature": 0}

CASES: Final = [
    chat("chat"),
    chat("a seeded sample", temperature=1, seed=7),
    chat("several samples", temperature=1, seed=7, n=3),
    chat("logprobs", logprobs=True, top_logprobs=3, max_tokens=3),
    chat("several greedy answers", "sglang", "llamacpp", n=3),
    chat("a stop word", stop=["a", "e", "n"], max_tokens=64),
    chat("a choice of tools", tools=[TOOL], tool_choice="auto"),
    chat("a tool that must be called", tools=[TOOL], tool_choice=CHOSEN, max_tokens=48),
    chat("a tool's result", messages=[
        user("weather?"),
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
    ], tools=[TOOL]),
    chat("an answer by schema", response_format=SCHEMA, max_tokens=48),
    chat("text in parts", messages=[{"role": "user", "content": [{"type": "text", "text": TEXT}]}]),
    of("a completion", COMPLETIONS, prompt=TEXT, **SAMPLING),
    of("a completion of token ids", COMPLETIONS, prompt=list(range(300, 400)), **SAMPLING),
    of("several completions", COMPLETIONS, prompt=["import os", "def main"], **SAMPLING),
    of("a completion with its prompt", COMPLETIONS, prompt=TEXT, echo=True, logprobs=2, **SAMPLING),
    of("a response", "/v1/responses", input=TEXT, max_output_tokens=4, temperature=0),
    of("a message", "/v1/messages", messages=MESSAGES, **SAMPLING),
    of("a message's length", "/v1/messages/count_tokens", messages=MESSAGES),
    of("tokens of a text", "/tokenize", prompt=TEXT, content=TEXT),
    of("tokens of a chat", "/tokenize", messages=MESSAGES),
    of("text of tokens", "/detokenize", tokens=[300, 400]),
    of("token ids generated", "/generate", "sglang", input_ids=[300, 400, 500], sampling_params={
        "max_new_tokens": 4, "temperature": 0
    }),
    of("embeddings of a chat model", "/v1/embeddings", "none", input="hello"),
    of("a score of a chat model", "/score", "none", text_1="a", text_2="b"),
    # What engines refuse.
    chat("a tool choice that is none", "none", tools=[TOOL], tool_choice="nonsense"),
    chat("a temperature below zero", "llamacpp", temperature=-3),
    chat("no messages", "none", messages=None),
    chat("a role without content", "vllm", messages=[{"role": "user"}]),
    chat("a prompt that is too long", "none", messages=[user(prose("too long", 6 * CONTEXT_TOKENS))]),
]  # fmt: skip


def answers(engine: Engine, router: Router, path: str, body: bytes) -> tuple[httpx.Response, httpx.Response]:
    """The engine's own answer with a warm cache, and the one through the router."""
    headers = {"content-type": "application/json"}
    # Of a connection of its own each: llama.cpp closes some behind a stream without a word.
    _, own, through = (
        httpx.post(url + path, content=body, headers=headers, timeout=120, trust_env=False)
        for url in (engine.url, engine.url, router.url)
    )
    return own, through


def sampled(engine: Engine, case: Case) -> bool:
    """Whether this engine's answer is another one each time. SGLang takes seeds as hints."""
    return engine.kind == "sglang" and bool(case.body.get("temperature"))


@pytest.mark.parametrize("case", CASES, ids=[case.name.replace(" ", "-") for case in CASES])
def test_an_answer_is_the_engines_own_byte_for_byte(
    engine: Engine, router_before: RouterBefore, case: Case, findings: Findings
) -> None:
    own, through = answers(engine, router_before(engine), case.path, json.dumps(case.body).encode())
    assert through.status_code == own.status_code, through.text
    if sampled(engine, case):
        assert shape(through.json()) == shape(own.json())
    else:
        assert lasting(through.content) == lasting(own.content)
    assert engine_headers(through.headers) == engine_headers(own.headers)
    assert through.headers["x-router-worker"] == engine.url
    assert (own.status_code == httpx.codes.OK) == (engine.kind in case.answered_by), own.text
    findings.count("answers that are the engine's own", engine.kind)


STREAMS: Final = [
    chat("chat", stream=True),
    chat("chat with its usage", stream=True, stream_options={"include_usage": True}, max_tokens=60),
    chat("several greedy answers", "sglang", "llamacpp", stream=True, n=2),
    chat("several samples", stream=True, temperature=1, seed=7, n=2),
    chat("logprobs", stream=True, logprobs=True, top_logprobs=2),
    chat("a stop word", stream=True, stop=["a", "e", "n"], max_tokens=64),
    chat("a tool that must be called", stream=True, tools=[TOOL], tool_choice=CHOSEN, max_tokens=48),
    of("a completion", COMPLETIONS, prompt=TEXT, stream=True, **SAMPLING),
    of("a response", "/v1/responses", input=TEXT, max_output_tokens=8, temperature=0, stream=True),
    of("a message", "/v1/messages", messages=MESSAGES, stream=True, **SAMPLING),
    of("a text generated", "/generate", "sglang", text=TEXT, stream=True, sampling_params={
        "max_new_tokens": 4, "temperature": 0
    }),
    chat("a prompt that is too long", "none", stream=True, messages=[
        user(prose("too long", 6 * CONTEXT_TOKENS))
    ]),
]  # fmt: skip


@pytest.mark.parametrize("case", STREAMS, ids=[case.name.replace(" ", "-") for case in STREAMS])
def test_a_stream_says_what_the_engine_says(
    engine: Engine, router_before: RouterBefore, case: Case, findings: Findings
) -> None:
    own, through = answers(engine, router_before(engine), case.path, json.dumps(case.body).encode())
    assert through.status_code == own.status_code, through.text
    assert engine_headers(through.headers) == engine_headers(own.headers)
    streamed = own.headers["content-type"].startswith("text/event-stream")
    if sampled(engine, case):
        assert gist(through.text).keys() == gist(own.text).keys()
    elif streamed:
        assert gist(through.text) == gist(own.text)
    else:
        assert lasting(through.content) == lasting(own.content)
    assert streamed == (engine.kind in case.answered_by), own.text
    findings.count("streams that say what the engine says", engine.kind)


def test_a_long_prompt_passes_whole(engine: Engine, router_before: RouterBefore) -> None:
    body = {"model": MODEL_NAME, "prompt": [300 + n % 3000 for n in range(8000)], **SAMPLING}
    own, through = answers(engine, router_before(engine), COMPLETIONS, json.dumps(body).encode())
    assert lasting(through.content) == lasting(own.content)
    assert through.json()["usage"]["prompt_tokens"] == 8000


def test_what_the_router_answers_itself_has_the_status_and_the_form_that_clients_know(
    engine: Engine, router_before: RouterBefore
) -> None:
    """It knows the models, and reads bodies: neither error costs an engine anything."""
    router = router_before(engine)
    unknown = {"model": "nobody's", "messages": MESSAGES, **SAMPLING}
    own, through = answers(engine, router, CHAT, json.dumps(unknown).encode())
    assert through.status_code == 404
    assert through.json()["error"]["code"] == "model_not_found"
    if engine.kind == "vllm":
        assert own.status_code == 404, "the others answer for any model"
    own, through = answers(engine, router, CHAT, b'{"model": "tiny", "messages": ')
    assert through.status_code == 400
    assert through.json()["error"]["code"] == "invalid_json"
    if engine.kind != "llamacpp":
        assert own.status_code == 400, "llama.cpp answers with 500"


def test_the_list_of_models_is_the_engines(engine: Engine, router_before: RouterBefore) -> None:
    own = httpx.get(f"{engine.url}/v1/models", trust_env=False).json()["data"]
    through = httpx.get(f"{router_before(engine).url}/v1/models", trust_env=False).json()["data"]
    assert [card["id"] for card in through] == [MODEL_NAME]
    (card,), (told,) = own, through
    new = ("created", "permission")
    assert {k: v for k, v in told.items() if k not in new} == {k: v for k, v in card.items() if k not in new}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_client_that_leaves_frees_the_engine(
    engine: Engine, start_router: StartRouter, stream: bool
) -> None:
    router = start_router(engine.url)
    eventually(lambda: in_progress(engine) == 0, "the engine is idle before")
    before = generated_tokens(engine)
    asked = {
        "model": MODEL_NAME,
        "messages": [user(prose(f"leaves {stream}", 1000))],
        "max_tokens": LONG_ANSWER_TOKENS,
        "ignore_eos": True,
        "temperature": 0,
        "stream": stream,
    }
    with Connection(router.url) as client:
        client.send(request("POST", CHAT, asked))
        received = b""
        while stream and b"data: " not in received:
            received += client.socket.recv(1 << 16)
        eventually(lambda: in_progress(engine) == 1, "the engine is at work")
    eventually(lambda: in_progress(engine) == 0, "the engine knows that nobody listens")
    eventually(lambda: computing(engine) == 0, "the engine computes nothing")
    if stream or engine.kind != "llamacpp":  # which computes an answer that is not streamed to its end
        assert generated_tokens(engine) - before < LONG_ANSWER_TOKENS
    line = eventually(
        lambda: next((line for line in router.lines() if line["message"] == "request"), None),
        "the access log says how it ended",
    )
    assert line is not None
    assert line["outcome"] == "client_gone"


def test_whichever_engine_of_a_mixed_fleet_answers_the_answer_is_its_own(
    mixed_fleet: list[Engine], start_router: StartRouter, findings: Findings
) -> None:
    router = start_router(*(engine.url for engine in mixed_fleet))
    urls = {engine.url: engine for engine in mixed_fleet}
    used: dict[str, int] = dict.fromkeys(urls, 0)
    with httpx.Client(timeout=120, trust_env=False) as client:
        for number in range(16):
            messages = [user(prose(f"mixed {number}", 400 + 300 * number))]
            body = {"model": MODEL_NAME, "messages": messages, "max_tokens": 6, "temperature": 0}
            own = {}
            for url in [*urls, *urls]:
                own[url] = client.post(url + CHAT, json=body)
            through = client.post(router.url + CHAT, json=body)
            worker = through.headers["x-router-worker"]
            assert lasting(through.content) == lasting(own[worker].content)
            used[worker] += 1
    assert all(used.values()), used
    shares = ", ".join(f"{urls[url].kind} {count}" for url, count in used.items())
    findings.add("answers that are the engine's own", "mixed fleet", f"16 of 16: {shares}")


def test_a_stored_response_is_asked_for_where_it_was_made(
    vllm_pair: list[Engine], start_router: StartRouter
) -> None:
    router = start_router(*(engine.url for engine in vllm_pair))
    made: dict[str, str] = {}
    with httpx.Client(base_url=router.url, timeout=120, trust_env=False) as client:
        for number in range(6):
            asked = {"model": MODEL_NAME, "input": prose(f"stored {number}", 600), "max_output_tokens": 4}
            answer = client.post("/v1/responses", json=asked)
            assert answer.status_code == httpx.codes.OK, answer.text
            made[answer.json()["id"]] = answer.headers["x-router-worker"]
        assert len(set(made.values())) == 2, "both engines made some"
        for name, worker in made.items():
            found = client.get(f"/v1/responses/{name}")
            assert (found.status_code, found.json()["id"]) == (httpx.codes.OK, name)
            assert found.headers["x-router-worker"] == worker
            more = {"model": MODEL_NAME, "input": "import os", "previous_response_id": name}
            onwards = client.post("/v1/responses", json=more | {"max_output_tokens": 4})
            assert onwards.status_code == httpx.codes.OK, onwards.text
            assert onwards.headers["x-router-worker"] == worker


def test_embeddings_pass(e2e_home: Any, tmp_path: Any, start_router: StartRouter) -> None:
    with running(lambda number: llamacpp(e2e_home, tmp_path, number, embeddings=True)) as (encoder,):
        router = start_router(encoder.url)
        body = json.dumps({"model": MODEL_NAME, "input": ["import os", TEXT]}).encode()
        own, through = answers(encoder, router, "/v1/embeddings", body)
        assert own.status_code == httpx.codes.OK, own.text
        assert lasting(through.content) == lasting(own.content)
        assert len(through.json()["data"]) == 2
