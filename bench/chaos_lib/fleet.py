"""Engines as processes behind a router: killed, stopped, continued and started again by their ids."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx

from live.processes import Process, Router, spawn_router

ENGINES = 8

_ENGINE = Path(__file__).with_name("engine.py")

# Short time-outs, so that a run of seconds sees all of them; retries that no fault of ours can use up.
_FLAGS = (
    *("--no-model-discovery", "--health-interval-s", "0.5", "--health-timeout-s", "1", "--health-rise", "1"),
    *(
        "--health-fall",
        "2",
        "--first-byte-timeout-s",
        "4",
        "--idle-timeout-s",
        "4",
        "--connect-timeout-s",
        "2",
    ),
    *("--eject-after-failures", "3", "--eject-for-s", "1", "--retries", "4", "--retry-budget-ratio", "1"),
    *("--retry-budget-min-per-s", "1000"),
)


@dataclass
class Engine:
    """One engine. State: its process."""

    port: int = 0
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Writes. Starts it on its port, or on a free one."""
        self.process = subprocess.Popen(
            [sys.executable, str(_ENGINE), str(self.port)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        """Writes. Ends it as a crash would. Twice is once."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def hang(self) -> None:
        """Writes. It takes connections, as the kernel does that for it, and says nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Writes."""
        self.process.send_signal(signal.SIGCONT)


@dataclass
class Fleet:
    """A router and its engines."""

    router: Router
    engines: list[Engine]
    admin: httpx.AsyncClient

    async def slow(self, engine: Engine, seconds: float) -> None:
        """Writes. Every answer of it takes so much longer."""
        with contextlib.suppress(httpx.HTTPError):
            await self.admin.post(f"{engine.url}/__slow", content=str(seconds))

    async def drain(self, engine: Engine, *, draining: bool) -> None:
        """Writes. No new requests for it, or requests again."""
        path = f"{self.router.url}/workers/{quote(engine.url, safe='')}"
        answer = await self.admin.patch(path, json={"draining": draining})
        answer.raise_for_status()

    async def switches_policies(self) -> bool:
        """Reads. Whether this router can."""
        described = await self.admin.get(f"{self.router.url}/openapi.json")
        return "/policy" in described.json()["paths"]

    async def switch(self, policy: str) -> None:
        """Writes. Another policy from now on."""
        answer = await self.admin.post(f"{self.router.url}/policy", json={"policy": policy})
        answer.raise_for_status()

    async def leaked(self) -> int:
        """Reads. Requests that are still in somebody's books."""
        state = (await self.admin.get(f"{self.router.url}/debug/state")).json()
        booked = sum(worker["inflight_requests"] for worker in state["workers"])
        return max(int(state["exchanges"]["total"]), int(state["memory"]["in_flight"]), int(booked))


@contextlib.contextmanager
def fleet(folder: Path, count: int = ENGINES) -> Iterator[Fleet]:
    """Engines and a router for the block's time."""
    with contextlib.ExitStack() as stack:
        engines = []
        for _ in range(count):
            engines.append(engine := Engine())
            stack.callback(lambda engine=engine: engine.kill())  # type: ignore[misc]
        listed = [word for engine in engines for word in ("--backend", engine.url)]
        router = spawn_router(folder / "router.log", *listed, *_FLAGS)
        stack.callback(Process.kill, router)
        yield Fleet(router, engines, httpx.AsyncClient(trust_env=False, timeout=10))
