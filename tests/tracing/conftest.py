"""Routers that send their spans to a collector of the tests'."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.fake_worker import fake_workers
from live.front import Front
from live.fronts import FORGIVING, front_before
from live.otlp import Collector, StartTraced, collector


@pytest.fixture(scope="module")
def shared_collector() -> Iterator[Collector]:
    with collector() as one:
        yield one


@pytest.fixture
def spans(shared_collector: Collector) -> Collector:
    """The module's collector, with nothing in it."""
    shared_collector.spans.clear()
    return shared_collector


@pytest.fixture(scope="module")
def shared_front(tmp_path_factory: pytest.TempPathFactory, shared_collector: Collector) -> Iterator[Front]:
    """A tracing router in front of two workers; quick to send its spans, and it forgives everything."""
    with _front(tmp_path_factory.mktemp("traced"), shared_collector.url, 2, ()) as front:
        yield front


@pytest.fixture
def front(shared_front: Front) -> Iterator[Front]:
    for worker in shared_front.workers:
        worker.forget()
    yield shared_front
    shared_front.wait_idle()


@pytest.fixture
def start_traced(tmp_path: Path, spans: Collector) -> Iterator[StartTraced]:
    """A router of the test's own, and the module's collector behind it."""
    with contextlib.ExitStack() as stack:

        def start(*flags: str, count: int = 1, env: dict[str, str] | None = None) -> Front:
            return stack.enter_context(_front(tmp_path, spans.url, count, flags, env))

        yield start


@contextlib.contextmanager
def _front(
    folder: Path, url: str, count: int, flags: tuple[str, ...], env: dict[str, str] | None = None
) -> Iterator[Front]:
    ours = (
        *FORGIVING,
        "--no-model-discovery",
        "--policy",
        "least_requests",
        "--access-log",
        "--otel-endpoint",
        url,
    )
    quick = {"OTEL_BSP_SCHEDULE_DELAY": "20"} | (env or {})  # ms; else every test would wait for 5 s
    with (
        fake_workers(count) as workers,
        front_before(workers, folder / "router.log", *ours, *flags, env=quick) as front,
    ):
        yield front
