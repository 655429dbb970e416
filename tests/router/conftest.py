"""The router under test, engines for it, and their end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from live.processes import Engines, Process, Router, spawn_engines, spawn_router

# Ten times faster checks than a user would want.
_QUICK = ("--health-interval-s", "0.2", "--health-timeout-s", "5", "--health-rise", "1", "--health-fall", "1")


class StartRouter(Protocol):
    def __call__(self, *backends: str, flags: tuple[str, ...] = (), tolerant: bool = False) -> Router:
        """A router in front of `backends`. With `tolerant`, its log may hold tracebacks."""
        ...


class StartEngines(Protocol):
    def __call__(self, count: int = 1, *flags: str, speed: float = 20.0, port: int = 0) -> Engines:
        """`count` simulated engines in one process."""
        ...


@pytest.fixture
def start_engines(tmp_path: Path) -> Iterator[StartEngines]:
    """Starts engines; whatever still runs at the test's end is killed."""
    with contextlib.ExitStack() as stack:

        def start(count: int = 1, *flags: str, speed: float = 20.0, port: int = 0) -> Engines:
            log = tmp_path / f"engines-{len(list(tmp_path.glob('engines-*')))}.log"
            engines = spawn_engines(log, count, "--speed", str(speed), *flags, port=port)
            stack.callback(engines.kill)
            return engines

        yield start


@pytest.fixture
def start_router(tmp_path: Path) -> Iterator[StartRouter]:
    """Starts routers; whatever still runs at the test's end is killed, and its log must be free of tracebacks."""
    started: list[tuple[Router, bool]] = []

    def start(*backends: str, flags: tuple[str, ...] = (), tolerant: bool = False) -> Router:
        log = tmp_path / f"router-{len(started)}.log"
        listed = [word for url in backends for word in ("--backend", url)]
        router = spawn_router(log, *listed, *_QUICK, *flags)
        started.append((router, tolerant))
        return router

    yield start
    for router, _ in started:
        Process.kill(router)
    for router, tolerant in started:
        assert tolerant or not router.faults(), router.text()


@pytest.fixture
def engines(start_engines: StartEngines) -> Engines:
    """Two engines of one model."""
    return start_engines(2)


@pytest.fixture
def router(start_router: StartRouter, engines: Engines) -> Router:
    """A router with default settings, but for quick checks, in front of two engines."""
    return start_router(*engines.urls)
