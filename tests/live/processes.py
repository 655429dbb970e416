"""Routers and engines as processes: started with a free port, known by their URL, ended by their id."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from live.polling import PATIENCE_S, eventually
from live.prefork import Forked, Prefork, preforking

_prefork: list[Prefork] = []
"""What starts processes without their imports, where it was asked for; measurements do without."""


def _environment() -> dict[str, str]:
    """The tests' own, without what would configure a router and what names the test."""
    ours = ("ROUTER_", "PYTEST_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@contextmanager
def quick_starts() -> Iterator[None]:
    """Within, processes of the environment of now start as forks."""
    with preforking(_environment()) as prefork:
        _prefork.append(prefork)
        try:
            yield
        finally:
            _prefork.remove(prefork)


@dataclass
class Process:
    """A process that writes a log. State: the process."""

    process: subprocess.Popen[bytes] | Forked
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def kill(self) -> None:
        """Ends it as a crash would. Twice is once."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """Asks it to stop; `wait` says how it did."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        return self.process.wait(patience_s)

    def _died(self) -> bool:
        return self.process.poll() is not None


@dataclass
class Router(Process):
    """A running router."""

    url: str = ""

    @property
    def port(self) -> int:
        return httpx.URL(self.url).port or 0

    def lines(self) -> list[dict[str, Any]]:
        """Its log so far."""
        whole = self.text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines()]

    def faults(self) -> list[str]:
        """Tracebacks and whatever else is not a line of its log: there should be none."""
        lines = self.text().splitlines()
        return [line for line in lines if not line.startswith("{") or '"exception"' in line]


@dataclass
class Engines(Process):
    """One process with several engines."""

    urls: tuple[str, ...] = ()

    def fault(self, worker: int, kind: str, **more: object) -> None:
        """Breaks the engine, or heals it with `none`. The first one is asked, so do not let it hang."""
        body = {"kind": kind, "worker": worker, **more}
        httpx.post(f"{self.urls[0]}/__fault", json=body, trust_env=False).raise_for_status()

    def state(self, worker: int = 0) -> dict[str, Any]:
        """What the engine itself counted."""
        answer: dict[str, Any] = httpx.get(f"{self.urls[worker]}/__state", trust_env=False).json()
        return answer


class StartRouter(Protocol):
    def __call__(self, *backends: str, flags: tuple[str, ...] = (), tolerant: bool = False) -> Router:
        """A router in front of `backends`. With `tolerant`, its log may hold tracebacks."""
        ...


class StartEngines(Protocol):
    def __call__(self, count: int = 1, *flags: str, speed: float = 20.0, port: int = 0) -> Engines:
        """`count` simulated engines in one process."""
        ...


def spawn_router(
    log: Path, *flags: str, env: dict[str, str] | None = None, command: tuple[str, ...] = ("serve",)
) -> Router:
    """A router on a free port, ready for requests. AssertionError with its log when it ends instead."""
    words = ["warmroute", *command, "--port", "0", "--log-format", "json", *flags]
    return ready_router(_popen(words, log, env), log)


def ready_router(process: subprocess.Popen[bytes] | Forked, log: Path) -> Router:
    """A router that was started otherwise, once it is ready. AssertionError with its log when it ends."""
    router = Router(process, log)
    with _killed_unless_ready(router):
        router.url = eventually(lambda: _ready_url(router), "the router is ready") or ""
    return router


def _ready_url(router: Router) -> str | None:
    assert not router._died(), f"the router ended:\n{router.text()}"
    return next((line["url"] for line in router.lines() if line["message"] == "router ready"), None)


def spawn_engines(log: Path, count: int, *flags: str, port: int = 0) -> Engines:
    """Engines on free ports (or from `port` on), ready for requests."""
    words = ["warmroute_simulator", "serve", "--workers", str(count), "--port", str(port), *flags]
    engines = Engines(_popen(words, log, None), log)
    with _killed_unless_ready(engines):
        engines.urls = eventually(lambda: _engine_urls(engines, count), "the engines are ready")
    return engines


def _engine_urls(engines: Engines, count: int) -> tuple[str, ...]:
    assert not engines._died(), f"the engines ended:\n{engines.text()}"
    lines = engines.text().splitlines()
    urls = tuple(line.removeprefix("ready ") for line in lines if line.startswith("ready "))
    return urls if len(urls) == count else ()


@contextmanager
def _killed_unless_ready(process: Process) -> Iterator[None]:
    try:
        yield
    except BaseException:
        process.kill()
        raise


def _popen(words: list[str], log: Path, env: dict[str, str] | None) -> subprocess.Popen[bytes] | Forked:
    """`python -m` with the words, in the log's folder."""
    environment = _environment() | (env or {})
    with log.open("wb") as output:
        for prefork in _prefork:
            if prefork.environment == environment:
                return prefork.start(words, log.parent, output.fileno())
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=log.parent,
        )
