"""The router under test, engines for it, and their end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from live.fake_worker import fake_workers
from live.front import Front
from live.fronts import FORGIVING, front_before
from live.processes import (
    Engines,
    Process,
    Router,
    StartEngines,
    StartRouter,
    spawn_engines,
    spawn_router,
)

# Ten times faster checks than a user would want.
_QUICK = ("--health-interval-s", "0.2", "--health-timeout-s", "5", "--health-rise", "1", "--health-fall", "1")


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
    """Starts routers; what still runs at the test's end is killed, and no log may hold a traceback."""
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


@pytest.fixture(scope="module")
def shared_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A router in front of two scripted workers, for all tests of a module that need no flags of their own.
    It forgives workers everything, so that no test's failures are another one's."""
    log = tmp_path_factory.mktemp("front") / "router.log"
    flags = (*_QUICK, *FORGIVING, "--no-model-discovery", "--policy", "least_requests")
    with fake_workers(2) as workers, front_before(workers, log, *flags) as front:
        yield front


@pytest.fixture
def front(shared_front: Front) -> Iterator[Front]:
    """The module's router and workers. Behind every test: all that was routed has been finished."""
    for worker in shared_front.workers:
        worker.forget()
    yield shared_front
    shared_front.wait_idle()


@pytest.fixture
def start_front(start_router: StartRouter) -> Iterator[Callable[..., Front]]:
    """A router of the test's own in front of `count` scripted workers."""
    with contextlib.ExitStack() as stack:

        def start(*flags: str, count: int = 1) -> Front:
            workers = stack.enter_context(fake_workers(count))
            urls = [worker.url for worker in workers]
            return Front(start_router(*urls, flags=("--no-model-discovery", *flags)), workers)

        yield start


@pytest.fixture
def engines(start_engines: StartEngines) -> Engines:
    """Two engines of one model."""
    return start_engines(2)


@pytest.fixture
def router(start_router: StartRouter, engines: Engines) -> Router:
    """A router with default settings, but for quick checks, in front of two engines."""
    return start_router(*engines.urls)
