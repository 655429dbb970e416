"""Requests that go on while the fleet changes. Whoever stops it learns of each one that was not answered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from live.front import CHAT, CHAT_PATH
from live.polling import eventually
from live.wire import Connection

_CLIENTS = 2

# An end for the case that a test hangs.
_REQUESTS_MAX = 20_000

# Between two requests of a client: some hundred a second in all leave the machine to the others.
_PAUSE_S = 0.01


@dataclass
class Traffic:
    """State: what was answered, by which worker, and what was not."""

    url: str
    by_worker: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def answered(self) -> int:
        with self.lock:
            return sum(self.by_worker.values())

    def wait_answers(self, more: int = 20) -> None:
        """Until so many further requests were answered."""
        goal = self.answered + more
        eventually(lambda: self.answered >= goal or self.lost, f"{more} more answers")

    def wait_worker(self, url: str) -> None:
        """Until this worker has answered once more."""
        before = self.by_worker.get(url, 0)
        eventually(lambda: self.by_worker.get(url, 0) > before, f"{url} gets requests")

    def run(self, client: int) -> None:
        """One client, until it is stopped."""
        with Connection(self.url) as connection:
            for number in range(_REQUESTS_MAX):
                if self.stop.wait(_PAUSE_S):
                    return
                content = f"{client} {number} " * 100
                body = CHAT | {"messages": [{"role": "user", "content": content}]}
                try:
                    answer = connection.ask("POST", CHAT_PATH, body)
                except (OSError, ValueError, IndexError, AssertionError) as error:
                    self.lost.append(f"{type(error).__name__}: {error}")
                    return
                with self.lock:
                    if answer.status == 200:
                        worker = answer.headers["x-router-worker"]
                        self.by_worker[worker] = self.by_worker.get(worker, 0) + 1
                    else:
                        self.lost.append(f"{answer.status} {answer.body[:200]!r}")


@contextmanager
def traffic(url: str) -> Iterator[Traffic]:
    """Traffic for the block's time; at its end no request may have been lost."""
    one = Traffic(url)
    clients = [threading.Thread(target=one.run, args=(number,), daemon=True) for number in range(_CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield one
    finally:
        one.stop.set()
        for client in clients:
            client.join(20)
    assert not one.lost, one.lost[:3]
    assert one.answered, "there was traffic"
