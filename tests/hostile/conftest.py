"""The router under test, in front of scripted workers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from live.fake_worker import fake_workers
from live.front import Front
from live.fronts import FORGIVING, front_before
from live.processes import Process, Router, spawn_router

# Ten times faster checks than a user would want.
_QUICK = (
    *("--health-interval-s", "0.2", "--health-timeout-s", "5", "--health-rise", "1", "--health-fall", "1"),
    "--no-model-discovery",
)


@pytest.fixture(scope="module")
def shared_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A router in front of two workers, for all tests of a module. No log may hold a traceback."""
    log = tmp_path_factory.mktemp("front") / "router.log"
    flags = (*_QUICK, *FORGIVING, "--policy", "least_requests")
    with fake_workers(2) as workers, front_before(workers, log, *flags) as front:
        yield front


@pytest.fixture
def front(shared_front: Front) -> Iterator[Front]:
    """The module's router and workers. Behind every test the books are empty and the router serves."""
    for worker in shared_front.workers:
        worker.forget()
    yield shared_front
    shared_front.wait_idle()


@pytest.fixture
def start_front(tmp_path: Path) -> Iterator[Callable[..., Front]]:
    """A router of the test's own in front of `count` scripted workers."""
    routers: list[Router] = []
    with contextlib.ExitStack() as stack:

        def start(*flags: str, count: int = 1, env: dict[str, str] | None = None) -> Front:
            workers = stack.enter_context(fake_workers(count))
            listed = [word for worker in workers for word in ("--backend", worker.url)]
            log = tmp_path / f"router-{len(routers)}.log"
            router = spawn_router(log, *listed, *_QUICK, *flags, env=env)
            stack.callback(Process.kill, router)
            routers.append(router)
            return Front(router, workers)

        yield start
    for router in routers:
        assert not router.faults(), router.text()
