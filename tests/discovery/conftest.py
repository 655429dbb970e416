"""Routers that look for their workers, and workers to be found."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from live.fake_worker import FakeWorker
from live.front import Front
from live.processes import Process, Router, spawn_router

_QUICK = (
    *("--health-interval-s", "0.2", "--health-rise", "1", "--health-fall", "1", "--no-model-discovery"),
    *("--policy", "round_robin", "--discover-file-interval-s", "0.05"),
    # Long enough that a set without workers is not believed before a test has looked.
    *("--discovery-empty-hold-s", "1"),
)


@pytest.fixture
def start_worker() -> Iterator[Callable[..., FakeWorker]]:
    """Starts scripted workers; they end with the test."""
    with contextlib.ExitStack() as stack:

        def start(host: str = "127.0.0.1", port: int = 0) -> FakeWorker:
            worker = FakeWorker(host, port)
            stack.callback(worker.stop)
            return worker

        yield start


@pytest.fixture
def start_finder(tmp_path: Path) -> Iterator[Callable[..., Front]]:
    """Starts routers with flags that say where workers are found; no log may hold a traceback."""
    started: list[Router] = []

    def start(*flags: str, env: dict[str, str] | None = None) -> Front:
        log = tmp_path / f"router-{len(started)}.log"
        router = spawn_router(log, *_QUICK, *flags, env=env)
        started.append(router)
        return Front(router, [])

    yield start
    for router in started:
        Process.kill(router)
    for router in started:
        assert not router.faults(), router.text()
