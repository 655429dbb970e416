"""Real vLLM engines for the tests of this folder. `make e2e` installs them and names their home."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.engines.vllm import Vllm, vllm_engines
from live.processes import Router, StartRouter, spawn_router

# One failed check makes a worker unhealthy and one good one brings it back; checks come often, and have
# time, because engine, router and test share two cores.
_CHECKS = (
    "--health-interval-s",
    "0.5",
    "--health-timeout-s",
    "10",
    "--health-rise",
    "1",
    "--health-fall",
    "1",
)


@pytest.fixture(scope="session")
def e2e_home() -> Path:
    """The folder that tests/e2e/engines/setup.sh made."""
    home = os.environ.get("WARMROUTE_E2E")
    if not home:
        pytest.skip("needs vLLM: run `make e2e`, which sets it up")
    return Path(home)


@pytest.fixture(scope="session")
def engines(e2e_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Vllm]]:
    """Two engines, shared by the tests. One that kills an engine takes `mortal_engines`."""
    with vllm_engines(e2e_home, tmp_path_factory.mktemp("engines"), 2) as running:
        yield running


@pytest.fixture
def mortal_engines(e2e_home: Path, tmp_path: Path) -> Iterator[list[Vllm]]:
    """Two engines of one test's own, to be killed."""
    with vllm_engines(e2e_home, tmp_path, 2) as running:
        yield running


@pytest.fixture
def start_router(tmp_path: Path) -> Iterator[StartRouter]:
    """Starts routers with an access log; what still runs at the test's end is killed."""
    with contextlib.ExitStack() as running:

        def start(*backends: str, flags: tuple[str, ...] = (), tolerant: bool = False) -> Router:
            log = tmp_path / f"router-{len(list(tmp_path.glob('router-*')))}.log"
            listed = [word for url in backends for word in ("--backend", url)]
            router = spawn_router(log, *listed, *_CHECKS, "--access-log", *flags)
            if not tolerant:
                running.callback(_no_faults, router)
            running.callback(router.kill)
            return router

        yield start


def _no_faults(router: Router) -> None:
    assert not router.faults(), router.text()
