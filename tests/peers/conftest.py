"""Routers that are started by command lines of the peers, in front of scripted workers."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from live.fake_worker import fake_workers
from live.front import Front
from live.processes import Process, Router, spawn_router

# What no peer's flag says: quick checks, and the lines that tests read.
_QUICK = ("--health-interval-s", "0.2", "--health-rise", "1", "--health-fall", "1", "--no-model-discovery")

StartLike = Callable[..., Front]


@pytest.fixture
def start_like(tmp_path: Path) -> Iterator[StartLike]:
    """Starts `router COMMAND --worker-urls URL … LINE` with `count` workers. What still runs at the test's
    end is killed, and no log may hold a traceback; lines that tell of a peer's flag are no faults."""
    started: list[Router] = []
    with contextlib.ExitStack() as stack:

        def start(line: str = "", count: int = 2, command: tuple[str, ...] = ()) -> Front:
            workers = stack.enter_context(fake_workers(count)) if count else []
            log = tmp_path / f"router-{len(started)}.log"
            words = ["--worker-urls", *(worker.url for worker in workers), *shlex.split(line), *_QUICK]
            router = spawn_router(log, *words, command=command)
            started.append(router)
            return Front(router, workers)

        yield start
        for router in started:
            Process.kill(router)
    for router in started:
        faults = [line for line in router.faults() if not line.startswith("router: ")]
        assert not faults, router.text()
