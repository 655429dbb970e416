"""Real engines for the tests of this folder. `make e2e` sets them up and names their home.

Engines take half a minute to start and are shared: prompts are seeded by the test that sends them, so that
no test finds another one's in a cache. A test that kills one takes `mortal_vllm_pair`, whose engines are
started again behind it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.engines.engine import Engine, running
from e2e.engines.kinds import KINDS
from e2e.findings import Findings
from e2e.predictions import APPROXIMATE, EXACT, knows_kv_events
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

_FINDINGS = pytest.StashKey[Findings]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FINDINGS] = Findings()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table of what was measured."""
    lines = config.stash[_FINDINGS].table()
    if lines:
        terminalreporter.section("measured end to end")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def findings(request: pytest.FixtureRequest) -> Findings:
    """Where a test notes what it measured."""
    return request.config.stash[_FINDINGS]


@pytest.fixture(scope="session")
def e2e_home() -> Path:
    """The folder that tests/e2e/engines/setup.sh made."""
    home = os.environ.get("WARMROUTE_E2E")
    if not home:
        pytest.skip("needs real engines: run `make e2e`, which sets them up")
    return Path(home)


def _running(kind: str, count: int, home: Path, temporary: pytest.TempPathFactory) -> Iterator[list[Engine]]:
    folder = temporary.mktemp(kind)
    with running(lambda number: KINDS[kind](home, folder, number), count) as engines:
        yield engines


@pytest.fixture(scope="session")
def vllm_pair(e2e_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Engine]]:
    """Two vLLM engines."""
    yield from _running("vllm", 2, e2e_home, tmp_path_factory)


@pytest.fixture
def mortal_vllm_pair(vllm_pair: list[Engine]) -> Iterator[list[Engine]]:
    """The two, to be killed: what does not run at the test's end is started again, with an empty cache."""
    yield vllm_pair
    dead = [engine for engine in vllm_pair if not engine.runs]
    for engine in dead:
        engine.start()
    for engine in dead:
        engine.wait_until_healthy()


@pytest.fixture(scope="session")
def sglang_engine(e2e_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    for (engine,) in _running("sglang", 1, e2e_home, tmp_path_factory):
        yield engine


@pytest.fixture(scope="session")
def llamacpp_server(e2e_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """llama.cpp, with the tokens of the other engines' model."""
    for (engine,) in _running("llamacpp", 1, e2e_home, tmp_path_factory):
        yield engine


@pytest.fixture(scope="session")
def mixed_fleet(vllm_pair: list[Engine], sglang_engine: Engine, llamacpp_server: Engine) -> list[Engine]:
    """All of them, under one model's name."""
    return [*vllm_pair, sglang_engine, llamacpp_server]


@pytest.fixture(scope="session", params=list(KINDS))
def engine(request: pytest.FixtureRequest) -> Engine:
    """One of each kind."""
    kind: str = request.param
    if kind == "vllm":
        pair: list[Engine] = request.getfixturevalue("vllm_pair")
        return pair[0]
    names = {"sglang": "sglang_engine", "llamacpp": "llamacpp_server"}
    single: Engine = request.getfixturevalue(names[kind])
    return single


@pytest.fixture(params=[APPROXIMATE, EXACT])
def mode(request: pytest.FixtureRequest) -> str:
    """How the router knows."""
    if request.param == EXACT and not knows_kv_events():
        pytest.skip("this router has no --kv-events")
    found: str = request.param
    return found


@pytest.fixture
def start_router(tmp_path: Path) -> Iterator[StartRouter]:
    """Starts routers with an access log; what still runs at the test's end is killed."""
    with _routers(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def router_before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Engine], Router]]:
    """A router with this engine alone behind it, the same for a module's tests."""
    started: dict[str, Router] = {}
    with _routers(tmp_path_factory.mktemp("routers")) as start:

        def before(engine: Engine) -> Router:
            if engine.url not in started:
                started[engine.url] = start(engine.url)
            return started[engine.url]

        yield before


@contextlib.contextmanager
def _routers(folder: Path) -> Iterator[StartRouter]:
    with contextlib.ExitStack() as running:

        def start(*backends: str, flags: tuple[str, ...] = (), tolerant: bool = False) -> Router:
            log = folder / f"router-{len(list(folder.glob('router-*')))}.log"
            listed = [word for url in backends for word in ("--backend", url)]
            router = spawn_router(log, *listed, *_CHECKS, "--access-log", *flags)
            if not tolerant:
                running.callback(_no_faults, router)
            running.callback(router.kill)
            return router

        yield start


def _no_faults(router: Router) -> None:
    assert not router.faults(), router.text()
