"""A router with traffic, and `router top` in a terminal in front of it."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.fake_worker import fake_workers
from live.front import Front
from live.processes import spawn_router
from live.terminal import StartTop, Terminal, terminal

# Enough for the slowest test on a busy machine; the traffic ends by itself.
_REQUESTS_MAX = 3000
_PAUSE_S = 0.03


def chat(number: int) -> dict[str, object]:
    """A turn of one of five conversations."""
    return {"model": "m", "messages": [{"role": "user", "content": f"hello {number % 5} " * 300}]}


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A router in front of three workers, and clients that ask it all the time."""
    stop = threading.Event()
    with fake_workers(3) as workers:
        backends = [word for worker in workers for word in ("--backend", worker.url)]
        router = spawn_router(
            tmp_path_factory.mktemp("busy") / "router.log",
            *(*backends, "--no-model-discovery", "--kv-capacity-tokens", "100000"),
        )
        front = Front(router, workers)

        def ask() -> None:
            for number in range(_REQUESTS_MAX):
                if stop.wait(_PAUSE_S):
                    return
                front.ask(chat(number), x_session_id=f"session-{number % 5}")

        clients = threading.Thread(target=ask)
        clients.start()
        try:
            yield front
        finally:
            stop.set()
            clients.join()
            router.kill()
        assert not router.faults(), router.text()


@pytest.fixture
def start_top(tmp_path: Path) -> Iterator[StartTop]:
    """`router top` in a terminal; what still runs at the test's end is killed."""
    with contextlib.ExitStack() as stack:

        def start(
            url: str, *flags: str, columns: int = 80, lines: int = 24, env: dict[str, str] | None = None
        ) -> Terminal:
            command = [sys.executable, "-m", "warmroute", "top", "--url", url, *flags]
            return stack.enter_context(terminal(command, columns, lines, env))

        yield start
