"""The official clients of OpenAI and Anthropic, pointed at the router and at nothing else."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from engines.llamacpp import LlamaCpp
from live.fake_worker import Call
from live.front import Front, die, status
from live.processes import Engines, Router, StartEngines, StartRouter, spawn_engines, spawn_router

StartFront = Callable[..., Front]

MODEL = "llama-3.1-8b"


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """In front of two engines, for all tests of this module: each sends a prompt of its own."""
    folder = tmp_path_factory.mktemp("clients")
    engines = spawn_engines(folder / "engines.log", 2, "--speed", "20")
    try:
        router = spawn_router(
            folder / "router.log", *(word for url in engines.urls for word in ("--backend", url))
        )
        try:
            yield router
        finally:
            router.kill()
        assert not router.faults(), router.text()
    finally:
        engines.kill()


@pytest.fixture
def prompt(request: pytest.FixtureRequest) -> str:
    """A prompt that no other test sends."""
    return f"{request.node.nodeid}: the quick brown fox jumps over the lazy dog. " * 40


@pytest.fixture
def openai_client(router: Router) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{router.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(router: Router) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=router.url, api_key="any", max_retries=0) as client:
        yield client


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_openai_chats_and_its_second_turn_is_cached(openai_client: openai.OpenAI, prompt: str) -> None:
    workers, cached, prompt_tokens = set(), [], 0
    for _ in range(2):
        raw = openai_client.chat.completions.with_raw_response.create(
            model=MODEL, messages=user(prompt), max_tokens=5
        )
        workers.add(raw.headers["x-router-worker"])
        usage = raw.parse().usage
        assert usage is not None
        assert usage.completion_tokens == 5
        assert usage.prompt_tokens_details is not None
        prompt_tokens = usage.prompt_tokens
        cached.append(usage.prompt_tokens_details.cached_tokens or 0)
    assert len(workers) == 1
    assert cached[0] == 0
    assert cached[1] > prompt_tokens * 0.9


def test_openai_streams_and_the_usage_comes_last(openai_client: openai.OpenAI, prompt: str) -> None:
    stream = openai_client.chat.completions.create(
        model=MODEL, messages=user(prompt), max_tokens=7, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert len("".join(c.choices[0].delta.content or "" for c in chunks if c.choices)) == 4 * 7
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 7
    completion = openai_client.completions.create(model=MODEL, prompt=prompt, max_tokens=3, stream=True)
    assert len("".join(chunk.choices[0].text for chunk in completion)) == 4 * 3


def test_openai_sends_tools_and_uses_the_other_endpoints(openai_client: openai.OpenAI, prompt: str) -> None:
    tools: Any = [
        {"type": "function", "function": {"name": f"tool{n}", "description": prompt, "parameters": {}}}
        for n in range(5)
    ]
    usages = [
        openai_client.chat.completions.create(
            model=MODEL, messages=user(text), tools=tools, max_tokens=2
        ).usage
        for text in ("one", "two")
    ]
    assert all(usage is not None and usage.prompt_tokens > 1000 for usage in usages)
    assert [model.id for model in openai_client.models.list()] == [MODEL]
    answer = openai_client.responses.create(model=MODEL, input=prompt, max_output_tokens=4)
    assert len(answer.output_text) == 4 * 4
    events = openai_client.responses.create(model=MODEL, input=prompt, max_output_tokens=4, stream=True)
    assert [event.type for event in events][-1] == "response.completed"


def test_anthropic_chats_streams_and_reads_its_cache(
    anthropic_client: anthropic.Anthropic, prompt: str
) -> None:
    first = anthropic_client.messages.create(
        model=MODEL, messages=user(prompt), max_tokens=5, system="be kind"
    )
    assert first.usage.output_tokens == 5
    with anthropic_client.messages.stream(
        model=MODEL, messages=user(prompt), max_tokens=5, system="be kind"
    ) as stream:
        text = "".join(stream.text_stream)
        usage = stream.get_final_message().usage
    assert len(text) == 4 * 5
    assert (usage.cache_read_input_tokens or 0) > first.usage.input_tokens * 0.9


def test_what_anthropic_streamed_is_counted_with_its_cached_tokens(
    anthropic_client: anthropic.Anthropic, router: Router, prompt: str
) -> None:
    before = hit_tokens(router)
    cached: int | None = None
    for _ in range(2):
        with anthropic_client.messages.stream(model=MODEL, messages=user(prompt), max_tokens=5) as stream:
            cached = stream.get_final_message().usage.cache_read_input_tokens
    assert hit_tokens(router) - before == cached
    assert cached


def hit_tokens(router: Router) -> float:
    page = httpx.get(f"{router.url}/metrics", trust_env=False).text
    lines = [line for line in page.splitlines() if line.startswith("router_actual_hit_tokens_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def test_fifty_requests_at_a_time_are_all_answered(
    start_router: StartRouter, start_engines: StartEngines
) -> None:
    engines = start_engines(3, speed=200.0)
    router = start_router(*engines.urls)
    async with openai.AsyncOpenAI(base_url=f"{router.url}/v1", api_key="any", max_retries=0) as client:

        async def ask(number: int) -> int:
            messages = user(f"user {number % 10} " * 100 + str(number))
            if number % 2:
                answer = await client.chat.completions.create(model=MODEL, messages=messages, max_tokens=8)
                return len(answer.choices[0].message.content or "")
            stream = await client.chat.completions.create(
                model=MODEL, messages=messages, max_tokens=8, stream=True
            )
            return sum([len(c.choices[0].delta.content or "") async for c in stream if c.choices])

        for _ in range(3):
            assert await asyncio.gather(*map(ask, range(50))) == [4 * 8] * 50


# --- errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "openai_error", "anthropic_error"),
    [
        (400, openai.BadRequestError, anthropic.BadRequestError),
        (401, openai.AuthenticationError, anthropic.AuthenticationError),
        (404, openai.NotFoundError, anthropic.NotFoundError),
        (422, openai.UnprocessableEntityError, anthropic.UnprocessableEntityError),
        (429, openai.RateLimitError, anthropic.RateLimitError),
        (500, openai.InternalServerError, anthropic.InternalServerError),
    ],
)
def test_a_workers_refusal_is_the_clients_exception(
    front: Front,
    code: int,
    openai_error: type[openai.APIStatusError],
    anthropic_error: type[anthropic.APIStatusError],
) -> None:
    front.script(status(code))
    ask_openai, ask_anthropic = asking(front.router)
    with pytest.raises(openai_error, match="from the worker"):
        ask_openai()
    with pytest.raises(anthropic_error, match="from the worker"):
        ask_anthropic()


def asking(
    router: Router, key: str = "any", model: str = "m"
) -> tuple[Callable[[], object], Callable[[], object]]:
    """One request of each client."""

    def ask_openai() -> None:
        with openai.OpenAI(base_url=f"{router.url}/v1", api_key=key, max_retries=0) as client:
            client.chat.completions.create(model=model, messages=user("hi"))

    def ask_anthropic() -> None:
        with anthropic.Anthropic(base_url=router.url, api_key=key, max_retries=0) as client:
            client.messages.create(model=model, messages=user("hi"), max_tokens=5)

    return ask_openai, ask_anthropic


def test_the_routers_own_refusals_are_the_clients_exceptions(
    start_front: StartFront, start_router: StartRouter, engines: Engines
) -> None:
    locked = start_router(*engines.urls, flags=("--api-key", "secret"))
    ask_openai, ask_anthropic = asking(locked, key="wrong")
    with pytest.raises(openai.AuthenticationError, match="a valid API key is needed"):
        ask_openai()
    with pytest.raises(anthropic.AuthenticationError, match="a valid API key is needed"):
        ask_anthropic()
    ask_openai, ask_anthropic = asking(locked, key="secret", model="unknown")
    with pytest.raises(openai.NotFoundError, match=MODEL) as not_found:
        ask_openai()
    assert (not_found.value.code, not_found.value.param) == ("model_not_found", "model")
    with pytest.raises(anthropic.NotFoundError, match=MODEL):
        ask_anthropic()
    broken = start_front("--eject-after-failures", "1000")
    broken.script(die)
    ask_openai, ask_anthropic = asking(broken.router)
    with pytest.raises(openai.InternalServerError) as failed:
        ask_openai()
    assert failed.value.status_code == 502
    assert failed.value.request_id
    with pytest.raises(anthropic.InternalServerError):
        ask_anthropic()


def test_a_stream_that_breaks_is_an_exception_and_not_a_short_answer(front: Front) -> None:
    chunk = {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": "half"}, "finish_reason": None}],
    }

    def run(call: Call) -> None:
        call.stream()
        call.chunk(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        call.close()

    front.script(run)
    with openai.OpenAI(base_url=f"{front.router.url}/v1", api_key="any", max_retries=0) as client:
        stream = client.chat.completions.create(model="m", messages=user("hi"), stream=True)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError, openai.APIConnectionError)):
            list(stream)


# --- a real engine ----------------------------------------------------------------------------------


def test_a_real_engine_has_a_repeated_prompt_cached_and_the_router_knows(
    start_router: StartRouter, start_engines: StartEngines, llamacpp_engine: LlamaCpp
) -> None:
    """llama.cpp's server beside an engine that serves another model: the model chooses."""
    router = start_router(llamacpp_engine.url, *start_engines(1).urls)
    prompt = random.Random("through the router").randbytes(600).hex()
    with openai.OpenAI(base_url=f"{router.url}/v1", api_key="any", max_retries=0) as client:
        assert {model.id for model in client.models.list()} == {llamacpp_engine.model, MODEL}
        seen = []
        for stream in (False, True):
            raw = client.chat.completions.with_raw_response.create(
                model=llamacpp_engine.model, messages=user(prompt), max_tokens=4, temperature=0
            )
            usage = raw.parse().usage
            assert usage is not None
            assert usage.prompt_tokens_details is not None
            seen.append((raw.headers["x-router-worker"], usage.prompt_tokens_details.cached_tokens or 0))
            if stream:
                assert int(raw.headers["x-router-predicted-hit-tokens"]) > 0
        assert {worker for worker, _ in seen} == {llamacpp_engine.url}
        assert seen[0][1] < 50
        assert seen[1][1] > 1000
        chunks = list(
            client.chat.completions.create(
                model=llamacpp_engine.model, messages=user(prompt), max_tokens=4, temperature=0, stream=True,
                stream_options={"include_usage": True},
            )
        )  # fmt: skip
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 4
