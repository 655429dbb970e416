"""Prompts for the tiny model, requests through a router, and what their answers say."""

from __future__ import annotations

import inspect
import json
import random
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from e2e.engines.engine import BLOCK_TOKENS, MODEL_NAME
from live.processes import Router

INDEX_BLOCK_BYTES = 512

# Some ten seconds of decoding on one core, far longer than it takes to notice that nobody listens.
LONG_ANSWER_TOKENS = 6000

Message = dict[str, Any]

# Lines of a module of the standard library: text of the kind that the tokenizer was trained on, and of
# one kind, so that every prompt has about the same bytes per token.
LINES = [line for line in inspect.getsource(textwrap).splitlines() if line.strip()]


def prose(seed: str, size: int) -> str:
    """About `size` bytes of source lines in a random order, always the same for a seed."""
    rng = random.Random(seed)
    lines: list[str] = []
    length = 0
    while length < size:
        lines.append(rng.choice(LINES))
        length += len(lines[-1])
    return f"{seed}\n" + "\n".join(lines)


def system(content: str) -> Message:
    return {"role": "system", "content": content}


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def body(messages: list[Message], max_tokens: int, *, stream: bool = False) -> dict[str, Any]:
    """A chat whose answer has exactly that length."""
    asked: dict[str, Any] = {
        "model": MODEL_NAME,
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

    @property
    def off_tokens(self) -> int:
        """By how much the prediction was off."""
        return abs(self.predicted_hit_tokens - self.cached_tokens)


def ask(router: Router, messages: list[Message], max_tokens: int = 4, *, stream: bool = False) -> Answer:
    """A chat through the router. AssertionError unless it is answered."""
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
    """What the router says of each worker, by URL."""
    rows = httpx.get(f"{router.url}/workers", trust_env=False, timeout=20).json()["workers"]
    return {row["url"]: row for row in rows}


@dataclass
class Stream:
    """One request as its client saw it. State: what came so far, and how it ended."""

    worker: str = ""
    received: bytearray = field(default_factory=bytearray)
    status: int = 0
    broke: str = ""

    @property
    def whole(self) -> bool:
        """Whether it is complete, as a stream or as a document."""
        if self.status != httpx.codes.OK or self.broke:
            return False
        return self.received.rstrip().endswith((b"data: [DONE]", b"}"))

    async def run(self, client: httpx.AsyncClient, asked: dict[str, Any]) -> None:
        """Asks, and keeps what comes. Writes."""
        try:
            async with client.stream("POST", "/v1/chat/completions", json=asked) as response:
                self.status = response.status_code
                self.worker = response.headers.get("x-router-worker", "")
                async for piece in response.aiter_bytes():
                    self.received += piece
        except httpx.HTTPError as error:
            self.broke = repr(error)
