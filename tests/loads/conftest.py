"""Scripted engines that tell their load, and routers that ask for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from live.fake_worker import FakeWorker
from live.front import Front
from live.processes import Process, Router, spawn_router
from loads.engines import LoadedWorker

QUICK = (
    *("--health-interval-s", "0.2", "--health-rise", "1", "--no-model-discovery"),
    *("--policy", "least_requests", "--load-poll", "auto"),
    *("--load-poll-min-s", "0.1", "--load-poll-max-s", "0.2", "--load-poll-share", "1"),
    *("--load-smoothing-s", "0"),  # what a test tells is believed at once
)


@pytest.fixture
def start_loaded() -> Iterator[Callable[..., list[LoadedWorker]]]:
    """Starts so many engines; they end with the test."""
    with contextlib.ExitStack() as stack:

        def start(count: int = 2) -> list[LoadedWorker]:
            workers = []
            for _ in range(count):
                worker = LoadedWorker()
                stack.callback(worker.stop)
                workers.append(worker)
            return workers

        yield start


@pytest.fixture
def start_asker(tmp_path: Path) -> Iterator[Callable[..., Front]]:
    """Starts routers before given workers, that ask for loads unless flags say otherwise; no log may hold a
    traceback."""
    started: list[Router] = []

    def start(workers: list[FakeWorker], *flags: str) -> Front:
        listed = [word for worker in workers for word in ("--backend", worker.url)]
        log = tmp_path / f"router-{len(started)}.log"
        router = spawn_router(log, *listed, *QUICK, *flags)
        started.append(router)
        return Front(router, workers)

    yield start
    for router in started:
        Process.kill(router)
    for router in started:
        assert not router.faults(), router.text()


@pytest.fixture
def word() -> Iterator[threading.Event]:
    """For which answers wait; given at the test's end at the latest."""
    event = threading.Event()
    yield event
    event.set()
