"""The router in front of two real vLLM engines: what it predicts is what they report, and what a dying
engine takes with it."""

from __future__ import annotations

import asyncio
import inspect
import json
import random
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from e2e.engines.vllm import BLOCK_TOKENS, BLOCKS, Vllm
from live.polling import eventually
from live.processes import Router, StartRouter

pytestmark = pytest.mark.e2e

INDEX_BLOCK_BYTES = 512

# A restarted engine takes some 15 s on an idle core, a minute on a busy one.
RESTART_WITHIN_S = 240.0

# More than the two engines run at a time (16 each), so that some wait without a first token.
CROWD = 44
CROWD_ANSWER_TOKENS = 400
BEGUN = 6

# Some ten seconds of decoding on one core, far longer than it takes to notice that nobody listens.
LONG_ANSWER_TOKENS = 6000

Message = dict[str, str]

# Lines of a module of the standard library: text of the kind that the tokenizer was trained on, and of
# one kind, so that every prompt has about the same bytes per token.
LINES = [line for line in inspect.getsource(textwrap).splitlines() if line.strip()]


def prose(seed: str, size: int) -> str:
    """About `size` bytes of source lines in a random order, always the same for a seed."""
    rng = random.Random(seed)
    lines: list[str] = []
    while sum(map(len, lines)) < size:
        lines.append(rng.choice(LINES))
    return f"{seed}\n" + "\n".join(lines)


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def body(messages: list[Message], max_tokens: int, *, stream: bool = False) -> dict[str, Any]:
    """A chat whose answer has exactly that length."""
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": messages,
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": stream,
    }
    return asked | ({"stream_options": {"include_usage": True}} if stream else {})


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: who gave it, what the router had predicted, what the engine reports."""

    worker: str
    predicted_hit_tokens: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    text: str


def ask(router: Router, messages: list[Message], max_tokens: int = 4, *, stream: bool = False) -> Answer:
    with httpx.stream(
        "POST",
        f"{router.url}/v1/chat/completions",
        json=body(messages, max_tokens, stream=stream),
        timeout=120,
        trust_env=False,
    ) as response:
        response.read()
    assert response.status_code == httpx.codes.OK, response.text
    if stream:
        documents = list(events(response.text))
        text = "".join(choice["delta"].get("content") or "" for d in documents for choice in d["choices"])
        usage = documents[-1]["usage"]
    else:
        document = response.json()
        text, usage = document["choices"][0]["message"]["content"] or "", document["usage"]
    return Answer(
        response.headers["x-router-worker"],
        int(response.headers["x-router-predicted-hit-tokens"]),
        usage["prompt_tokens"],
        usage["prompt_tokens_details"]["cached_tokens"],
        usage["completion_tokens"],
        text,
    )


def events(stream: str) -> Iterator[dict[str, Any]]:
    """The JSON of every event but the end marker, which must be the last."""
    datas = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    assert datas[-1] == "[DONE]"
    for data in datas[:-1]:
        yield json.loads(data)


def tolerance_tokens(bytes_per_token: float) -> int:
    """One block of the index, which counts whole blocks of bytes, and one of the engine's pages."""
    return int(INDEX_BLOCK_BYTES / bytes_per_token) + BLOCK_TOKENS


def teach(router: Router, seed: str) -> float:
    """A few answers tell the router how many bytes make a token; returns what they told."""
    sent = tokens = 0
    for number in range(6):
        messages = [user(prose(f"{seed} {number}", 3000))]
        tokens += ask(router, messages).prompt_tokens
        sent += len(json.dumps(messages))
    return sent / tokens


def workers(router: Router) -> dict[str, dict[str, Any]]:
    rows = httpx.get(f"{router.url}/workers", trust_env=False).json()["workers"]
    return {row["url"]: row for row in rows}


def metric(engine: Vllm, name: str) -> float:
    """The sum over all series of a metric."""
    page = httpx.get(f"{engine.url}/metrics", trust_env=False).text
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.partition("{")[0] == name)


def test_capacity_and_page_size_are_read_from_the_engines(
    engines: list[Vllm], start_router: StartRouter
) -> None:
    router = start_router(*(engine.url for engine in engines))
    rows = workers(router)
    assert rows.keys() == {engine.url for engine in engines}
    for row in rows.values():
        assert row["status"] == "healthy"
        assert row["models"] == ["tiny"]
        assert row["engine"] == "vllm"
        assert row["block_tokens"] == BLOCK_TOKENS
        assert row["kv_capacity_tokens"] == BLOCKS * BLOCK_TOKENS
        assert row["kv_capacity_from"] == "engine"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_repeated_prompt_returns_to_the_worker_that_holds_it_and_hits_as_predicted(
    engines: list[Vllm], start_router: StartRouter, stream: bool
) -> None:
    router = start_router(*(engine.url for engine in engines))
    tolerance = tolerance_tokens(teach(router, f"teach repeated {stream}"))
    used = set()
    for number in range(6):
        messages = [user(prose(f"repeated {stream} {number}", 2000 + 1500 * number))]
        first = ask(router, messages, stream=stream)
        again = ask(router, messages, stream=stream)
        assert first.cached_tokens <= BLOCK_TOKENS, first
        assert first.predicted_hit_tokens == 0, first
        assert again.worker == first.worker, (first, again)
        assert again.cached_tokens > 0, again
        assert abs(again.predicted_hit_tokens - again.cached_tokens) <= tolerance, (again, tolerance)
        used.add(first.worker)
    assert len(used) == 2, "new prompts are spread over both engines"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_growing_conversations_stay_and_hit_as_predicted(
    engines: list[Vllm], start_router: StartRouter, stream: bool
) -> None:
    router = start_router(*(engine.url for engine in engines))
    tolerance = tolerance_tokens(teach(router, f"teach growing {stream}"))
    conversations = [[user(prose(f"growing {stream} {number}", 2500))] for number in range(3)]
    homes = ["", "", ""]
    for turn in range(5):
        for number, messages in enumerate(conversations):
            answer = ask(router, messages, 24, stream=stream)
            if turn:
                assert answer.worker == homes[number], (turn, number, answer, homes)
                assert answer.cached_tokens > 0, (turn, number, answer)
                off = abs(answer.predicted_hit_tokens - answer.cached_tokens)
                assert off <= tolerance, (turn, number, answer, tolerance)
            homes[number] = answer.worker
            messages.append({"role": "assistant", "content": answer.text})
            messages.append(user(prose(f"turn {turn} of {number} {stream}", 600)))


def test_a_client_that_leaves_frees_the_engine(engines: list[Vllm], start_router: StartRouter) -> None:
    router = start_router(*(engine.url for engine in engines))
    before = {engine.url: metric(engine, "vllm:generation_tokens_total") for engine in engines}
    with httpx.stream(
        "POST",
        f"{router.url}/v1/chat/completions",
        json=body([user(prose("leaves", 1000))], LONG_ANSWER_TOKENS, stream=True),
        timeout=60,
        trust_env=False,
    ) as response:
        (engine,) = (e for e in engines if e.url == response.headers["x-router-worker"])
        lines = response.iter_lines()
        for _ in range(8):
            next(lines)
        assert server_load(engine) == 1
    eventually(lambda: server_load(engine) == 0, "the engine knows that nobody listens")
    eventually(lambda: metric(engine, "vllm:num_requests_running") == 0, "the engine computes nothing")
    generated = metric(engine, "vllm:generation_tokens_total") - before[engine.url]
    assert generated < LONG_ANSWER_TOKENS
    assert workers(router)[engine.url]["inflight_requests"] == 0
    assert workers(router)[engine.url]["failures"] == {}
    line = eventually(
        lambda: next((line for line in router.lines() if line["message"] == "request"), None),
        "the access log says how it ended",
    )
    assert line is not None
    assert line["outcome"] == "client_gone"


def server_load(engine: Vllm) -> int:
    load: int = httpx.get(f"{engine.url}/load", trust_env=False).json()["server_load"]
    return load


@dataclass
class Stream:
    """One streamed request as its client saw it. State: what came so far, and how it ended."""

    worker: str = ""
    received: bytearray = field(default_factory=bytearray)
    status: int = 0
    broke: str = ""

    @property
    def whole(self) -> bool:
        return self.status == httpx.codes.OK and self.received.rstrip().endswith(b"data: [DONE]")

    async def run(self, client: httpx.AsyncClient, asked: dict[str, Any]) -> None:
        try:
            async with client.stream("POST", "/v1/chat/completions", json=asked) as response:
                self.status = response.status_code
                self.worker = response.headers.get("x-router-worker", "")
                async for piece in response.aiter_bytes():
                    self.received += piece
        except httpx.HTTPError as error:
            self.broke = repr(error)


async def test_a_killed_engine_takes_nothing_with_it_that_had_not_started(
    mortal_engines: list[Vllm], start_router: StartRouter
) -> None:
    router = start_router(*(engine.url for engine in mortal_engines))
    limits = httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(base_url=router.url, timeout=180, trust_env=False, limits=limits) as client,
        asyncio.TaskGroup() as group,
    ):
        watched = Stream()
        asked = body([user(prose("watched", 1000))], LONG_ANSWER_TOKENS, stream=True)
        watching = group.create_task(watched.run(client, asked))
        await until(lambda: watched.received.count(b"data: ") > 3, "the watched stream runs")
        victim, survivor = sorted(mortal_engines, key=lambda engine: engine.url != watched.worker)

        crowd = [Stream() for _ in range(CROWD)]
        for number, one in enumerate(crowd):
            # Every fourth is not streamed: nothing of it reaches its client before its end.
            asked = body([user(prose(f"crowd {number}", 1200))], CROWD_ANSWER_TOKENS, stream=bool(number % 4))
            group.create_task(one.run(client, asked))
        await until(
            lambda: sum(one.worker == victim.url for one in crowd) >= BEGUN,
            "some of the crowd have begun on the engine that is about to die",
        )
        victim.kill()

        await until(watching.done, "the stream in progress ends")
        assert watched.status == httpx.codes.OK
        assert watched.broke, "a cut stream must not look complete"
        assert not watched.whole

        # New requests are answered while the dead engine is still being found out.
        for number in range(6):
            late = Stream()
            await late.run(client, body([user(prose(f"late {number}", 600))], 4, stream=bool(number % 2)))
            assert late.status == httpx.codes.OK, late
            assert late.worker == survivor.url
    for one in crowd:
        complete = one.whole or (one.status == httpx.codes.OK and one.received.endswith(b"}"))
        begun_and_cut = bool(one.received) and bool(one.broke) and one.worker == victim.url
        assert complete or begun_and_cut, (one.status, one.worker, one.broke, bytes(one.received[-200:]))
    assert any(one.broke for one in crowd)
    retried = [line for line in router.lines() if line["message"] == "request" and line["attempts"] > 1]
    assert retried, "some were waiting at the engine that died"
    assert {line["outcome"] for line in retried} == {"ok"}
    assert {line["worker"] for line in retried} == {survivor.url}

    status = eventually(
        lambda: (row := workers(router)[victim.url])["status"] == "unhealthy" and row,
        "the dead engine is marked",
    )
    assert status["failures"].keys() <= {"broken", "connect"}
    assert workers(router)[survivor.url]["status"] == "healthy"

    victim.start_again()
    victim.wait_until_healthy()
    eventually(lambda: workers(router)[victim.url]["healthy"], "the engine is back", RESTART_WITHIN_S)
    answers = (ask(router, [user(prose(f"back {number}", 800))]) for number in range(20))
    assert any(answer.worker == victim.url for answer in answers), "it gets requests again"


async def until(condition: Any, what: str, patience_s: float = 120.0) -> None:
    """`eventually` for conditions that this loop's tasks make true."""
    deadline = asyncio.get_running_loop().time() + patience_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within {patience_s:g} s: {what}"
        await asyncio.sleep(0.01)
