"""A router in front of scripted workers, and what a test asks of the two."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from live.fake_worker import Call, FakeWorker, Script
from live.polling import eventually
from live.processes import Router
from live.wire import Answer, Connection

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello " * 200}]}
STREAM = CHAT | {"stream": True}
CHAT_PATH = "/v1/chat/completions"


@dataclass
class Front:
    """State: the router and its workers."""

    router: Router
    workers: list[FakeWorker]

    def script(self, script: Script) -> None:
        """What every worker does from now on."""
        for worker in self.workers:
            worker.script = script

    @property
    def calls(self) -> list[Call]:
        """All requests that reached a worker."""
        return [call for worker in self.workers for call in worker.calls]

    def connect(self, receive_buffer_bytes: int | None = None) -> Connection:
        return Connection(self.router.url, receive_buffer_bytes)

    def ask(self, body: object = None, path: str = CHAT_PATH, **headers: str) -> Answer:
        """One request on a connection of its own."""
        with self.connect() as connection:
            return connection.ask("POST", path, CHAT if body is None else body, **headers)

    def state(self) -> dict[str, Any]:
        """/debug/state"""
        answer = httpx.get(f"{self.router.url}/debug/state", trust_env=False, timeout=20)
        state: dict[str, Any] = answer.json()
        return state

    def worker_state(self, worker: FakeWorker) -> dict[str, Any]:
        found: dict[str, Any] = next(view for view in self.state()["workers"] if view["id"] == worker.url)
        return found

    def counted(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        page = httpx.get(f"{self.router.url}/metrics", trust_env=False, timeout=20).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def wait_calls(self, count: int) -> list[Call]:
        """Until so many requests have reached workers."""
        eventually(lambda: len(self.calls) >= count, f"{count} requests reach a worker")
        return self.calls

    def wait_idle(self) -> None:
        """Until nothing is in flight, held or booked: every `route` has met its `finish`."""
        eventually(self._books_are_empty, "the books are empty")

    def _books_are_empty(self) -> bool:
        state = self.state()
        books = [
            (w["inflight_requests"], w["queued_prompt_tokens"], w["queued_prefill_s"])
            for w in state["workers"]
        ]
        left = state["exchanges"]["total"], state["memory"]["in_flight"], state["held_body_bytes"]
        return left == (0, 0, 0) and all(book == (0, 0, 0.0) for book in books)


def first(fails: Script, then: Script) -> Script:
    """One script for the first request, another one for all that follow, on whichever worker."""
    return in_turn([fails], then)


def in_turn(scripts: list[Script], then: Script) -> Script:
    """A script for each of the first requests, and one for all later ones."""
    left = list(scripts)

    def run(call: Call) -> None:
        (left.pop(0) if left else then)(call)

    return run


def status(code: int, body: bytes = b'{"error": {"message": "from the worker"}}') -> Script:
    """A plain answer of this status."""
    return lambda call: call.answer(body, code)


def at_word(event: threading.Event) -> Script:
    """A small answer, once the test says so."""

    def run(call: Call) -> None:
        call.hold(event)
        call.answer(b"{}")

    return run


def die(call: Call) -> None:
    """Closes the connection without a word."""
    call.close()


def die_after(count: int) -> Script:
    """Streams some chunks, then closes the connection."""

    def run(call: Call) -> None:
        call.stream()
        for number in range(count):
            call.chunk(b"data: %d\n\n" % number)
        call.close()

    return run


def streams(events: Callable[[], list[bytes]]) -> Script:
    """A whole stream."""

    def run(call: Call) -> None:
        call.stream()
        for event in events():
            call.chunk(event)
        call.end()

    return run
