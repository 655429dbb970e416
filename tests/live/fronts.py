"""Routers in front of scripted workers, for as long as a block runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from live.fake_worker import FakeWorker
from live.front import Front
from live.processes import Process, spawn_router

FORGIVING = (
    *("--eject-after-failures", "1000000", "--eject-error-rate", "0"),
    *("--retry-budget-min-per-s", "10000"),
)
"""For a router that many tests share: no test's failures are another one's."""


@contextlib.contextmanager
def front_before(
    workers: list[FakeWorker],
    log: Path,
    *flags: str,
    options: Sequence[str] = (),
    env: dict[str, str] | None = None,
) -> Iterator[Front]:
    """A router for the block's time; its log may hold no traceback. `options` are what stands behind each
    worker's URL."""
    backends = [
        worker.url + option for worker, option in zip(workers, options or [""] * len(workers), strict=True)
    ]
    listed = [word for backend in backends for word in ("--backend", backend)]
    router = spawn_router(log, *listed, *flags, env=env)
    try:
        yield Front(router, workers)
    finally:
        Process.kill(router)
    assert not router.faults(), router.text()
