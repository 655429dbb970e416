"""Chat, agent and RAG users against any URL that speaks the OpenAI API: `make load HOST=http://…`.

All text is made up from a seed. What matters to a router is the shape of the prompts:

- chat: one of a few system prompts, then a conversation that grows by a short turn at a time;
- agent: a long system prompt with tools, many steps in a row, each adding a tool's output;
- RAG: one of a set of documents, chosen with a heavy head, and a question of its own.

Every answer is streamed. Beside the POST (time to the head) three figures are recorded per kind of user:
TTFT (first token), ITL (mean gap between tokens) and full (the whole answer). At the end the share of prompt
tokens that came from a cache is printed, where the engines report it.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from locust import HttpUser, between, constant, events, task
from locust.env import Environment

SYSTEM_PROMPTS = 8
DOCUMENTS = 150
# Zipf's exponent of the documents: a few are asked about often.
DOCUMENT_SKEW = 1.1
CHAT_TURNS = 6
AGENT_STEPS = 12

# About four bytes each with their space, and so about one token.
WORDS = (
    "the",
    "cat",
    "runs",
    "from",
    "old",
    "tree",
    "and",
    "sees",
    "more",
    "blue",
    "sky",
    "then",
    "goes",
    "home",
)

_numbers = itertools.count()


@dataclass(slots=True)
class Tally:
    """Prompt tokens of all answers that told them."""

    prompt_tokens: int = 0
    cached_tokens: int = 0


tally = Tally()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model", env_var="LOAD_MODEL", default="", help="model (default: first of /v1/models)"
    )
    parser.add_argument("--api-key", env_var="LOAD_API_KEY", default="", help="sent as Authorization: Bearer")
    parser.add_argument("--max-tokens", env_var="LOAD_MAX_TOKENS", type=int, default=48, help="per answer")
    parser.add_argument(
        "--scale", env_var="LOAD_SCALE", type=float, default=1.0, help="length of prompts, times"
    )
    parser.add_argument("--seed", env_var="LOAD_SEED", type=int, default=0, help="of all text and choices")


@events.test_stop.add_listener  # type: ignore[untyped-decorator]
def _report(environment: Environment, **_: Any) -> None:
    if tally.prompt_tokens:
        share = tally.cached_tokens / tally.prompt_tokens
        print(f"prompt tokens {tally.prompt_tokens}, of these cached {tally.cached_tokens} ({share:.1%})")


def text(seed: str, tokens: float) -> str:
    """About that many tokens of words, the same for the same seed."""
    return " ".join(random.Random(seed).choices(WORDS, k=max(1, round(tokens))))


class StreamingUser(HttpUser):
    """Sends chats, reads the streams and records when tokens came."""

    abstract = True
    kind = ""

    def on_start(self) -> None:
        """Takes a number of its own and asks for the model's name when none was given."""
        options = self.environment.parsed_options
        self.number = next(_numbers)
        self.random = random.Random(f"{options.seed} {self.number}")
        self.headers = {"authorization": f"Bearer {options.api_key}"} if options.api_key else {}
        self.model = options.model or self._first_model()

    def _first_model(self) -> str:
        with self.client.get("/v1/models", headers=self.headers, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}; name a model with --model")
                return "default"
            response.success()
            name: str = response.json()["data"][0]["id"]
            return name

    def tokens(self, count: float) -> float:
        """A prompt's length after --scale."""
        return count * float(self.environment.parsed_options.scale)

    def seeded(self, *parts: object) -> str:
        """A seed for `text` that differs from run to run only with --seed."""
        return " ".join(map(str, (self.environment.parsed_options.seed, self.kind, *parts)))

    def chat(self, messages: list[dict[str, str]], session: str) -> str:
        """Sends one request, records its times, and returns what was answered."""
        body = {
            "model": self.model,
            "messages": messages,
            "max_tokens": self.environment.parsed_options.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        started = time.perf_counter()
        with self.client.post(
            "/v1/chat/completions",
            json=body,
            headers={**self.headers, "x-session-id": session},
            name=self.kind,
            stream=True,
            catch_response=True,
        ) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}: {response.text[:200]}")
                return ""
            pieces, moments, complete = self._read(response)
            if not complete:
                response.failure("the stream ended without [DONE]")
                return ""
            response.success()
        ended = time.perf_counter()
        if moments:
            self._record("TTFT", moments[0] - started)
        if len(moments) > 1:
            self._record("ITL", (moments[-1] - moments[0]) / (len(moments) - 1))
        self._record("full", ended - started)
        return "".join(pieces)

    def _read(self, response: Any) -> tuple[list[str], list[float], bool]:
        pieces: list[str] = []
        moments: list[float] = []
        for event in sse_events(response.iter_lines(chunk_size=None)):
            if event == "[DONE]":
                return pieces, moments, True
            chunk = json.loads(event)
            if usage := chunk.get("usage"):
                count(usage)
            for choice in chunk.get("choices") or ():
                if content := (choice.get("delta") or {}).get("content"):
                    pieces.append(content)
                    moments.append(time.perf_counter())
        return pieces, moments, False

    def _record(self, what: str, seconds: float) -> None:
        self.environment.events.request.fire(
            request_type=what,
            name=self.kind,
            response_time=seconds * 1000,
            response_length=0,
            exception=None,
            context={},
        )


def sse_events(lines: Iterator[bytes]) -> Iterator[str]:
    """The data of each event of an OpenAI stream: one line each."""
    for line in lines:
        if line.startswith(b"data:"):
            yield line[5:].strip().decode()


def count(usage: dict[str, Any]) -> None:
    """Writes the tally."""
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    if cached is not None:
        tally.prompt_tokens += usage["prompt_tokens"]
        tally.cached_tokens += cached


class ChatUser(StreamingUser):
    """A person: reads and thinks between short turns."""

    kind = "chat"
    weight = 5
    wait_time = between(0.5, 2.0)
    messages: list[dict[str, str]]
    conversation = 0

    @task
    def turn(self) -> None:
        """One turn; after the last of a conversation a new one begins."""
        if not getattr(self, "messages", None):
            self.conversation += 1
            system = text(self.seeded("system", self.random.randrange(SYSTEM_PROMPTS)), self.tokens(600))
            self.messages = [{"role": "system", "content": system}]
        seed = self.seeded(self.number, self.conversation, len(self.messages))
        self.messages.append({"role": "user", "content": text(seed, self.tokens(40))})
        answer = self.chat(self.messages, f"chat-{self.number}-{self.conversation}")
        self.messages.append({"role": "assistant", "content": answer})
        if len(self.messages) > 2 * CHAT_TURNS or not answer:
            self.messages = []


class AgentUser(StreamingUser):
    """A coding agent: step after step, each as soon as its tool has answered."""

    kind = "agent"
    weight = 3
    wait_time = between(0.05, 0.5)
    job = 0

    @task
    def run_job(self) -> None:
        """One job from its first step to its last."""
        self.job += 1
        messages = [
            {"role": "system", "content": text(self.seeded("tools"), self.tokens(1200))},
            {"role": "user", "content": text(self.seeded(self.number, self.job), self.tokens(80))},
        ]
        for step in range(AGENT_STEPS):
            answer = self.chat(messages, f"agent-{self.number}-{self.job}")
            if not answer:
                return
            output = text(self.seeded(self.number, self.job, step), self.tokens(self.random.uniform(50, 300)))
            messages += [
                {"role": "assistant", "content": answer},
                {"role": "user", "content": f"tool output: {output}"},
            ]
            self.wait()  # type: ignore[no-untyped-call]


class RagUser(StreamingUser):
    """Questions about documents that many ask about."""

    kind = "rag"
    weight = 2
    wait_time = constant(1)
    asked = 0
    popularity = tuple(1 / rank**DOCUMENT_SKEW for rank in range(1, DOCUMENTS + 1))

    @task
    def ask(self) -> None:
        """One question, about one document."""
        self.asked += 1
        (document,) = self.random.choices(range(DOCUMENTS), self.popularity)
        content = text(self.seeded("document", document), self.tokens(1500))
        question = text(self.seeded(self.number, self.asked), self.tokens(20))
        self.chat(
            [{"role": "user", "content": f"{content}\n\nQuestion: {question}"}],
            f"rag-{self.number}-{self.asked}",
        )
