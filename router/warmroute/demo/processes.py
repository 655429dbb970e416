"""The engines and the routers of the demo: processes of their own that never outlive it.

Rules kept: children are in a session of their own, so that Ctrl-C reaches only this process, which then
stops them; where the kernel can (Linux), they also end when this process is killed. Stopping is synchronous,
so nothing can interrupt it. The router does not import the simulator: it is a command like any other engine.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

import httpx

HOST = "127.0.0.1"

READY_WITHIN_S = 30.0
"""A cold start of Python on a loaded machine, with room."""

POLL_S = 0.05
STOP_WITHIN_S = 5.0
"""Between the polite signal and the one that cannot be refused."""

LOG_LINES = 12
"""Of a child that failed, shown to the user."""

_PR_SET_PDEATHSIG = 1


class StartFailed(Exception):
    """The engines or the router did not come up; the message has the end of their log."""


class Child:
    """One process with its output in a file. Use as a context manager."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self._log = log
        # Settings meant for a router of the user's own must not change the demo's.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ROUTER_")}
        demo = os.getpid()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                preexec_fn=lambda: die_with(demo),
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    async def ended(self) -> None:
        """Waits until the process ends by itself."""
        while self.running:  # noqa: ASYNC110  (its end is no event of the loop)
            await asyncio.sleep(POLL_S)

    def output(self) -> str:
        """Reads. Everything that it printed so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def failure(self, what: str) -> str:
        """Reads. What went wrong, and the end of the log."""
        lines = self.output().splitlines()[-LOG_LINES:]
        return "\n".join([f"the {self.name} {what}", *(f"  {line}" for line in lines)])

    def stop(self) -> None:
        """Ends the process and waits for its end. Twice is once."""
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


def start_engines(count: int, speed: float, kv_tokens: int, seed: int, logs: Path) -> Child:
    """Simulated engines, on free ports. Raises OSError."""
    arguments = [
        *("warmroute_simulator", "serve", "--workers", str(count), "--port", "0", "--host", HOST),
        *("--speed", str(speed), "--kv-tokens", str(kv_tokens), "--seed", str(seed)),
    ]
    return Child("engines", arguments, logs / "engines.log")


def start_router(policy: str, port: int, backends: Sequence[str], seed: int, logs: Path) -> Child:
    """A router as a user starts it. Raises OSError."""
    arguments = [
        *("warmroute", "serve", "--policy", policy, "--host", HOST, "--port", str(port)),
        *("--seed", str(seed), "--backend", *backends),
    ]
    return Child("router", arguments, logs / f"router-{policy}.log")


async def engine_urls(engines: Child, count: int) -> list[str]:
    """Waits until all engines listen. Raises StartFailed."""

    def urls() -> list[str] | None:
        lines = [line.split() for line in engines.output().splitlines()]
        found = [words[1] for words in lines if len(words) == 2 and words[0] == "ready"]
        return found if len(found) >= count else None

    return await _until(engines, urls)


async def router_ready(router: Child, port: int, http: httpx.AsyncClient) -> None:
    """Waits until the router says that it has workers. Raises StartFailed."""
    deadline = monotonic() + READY_WITHIN_S
    while True:
        try:
            ready = (await http.get(f"http://{HOST}:{port}/readiness")).is_success
        except httpx.TransportError:
            ready = False
        if ready:
            return
        await _next_look(router, deadline)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


async def _until(child: Child, look: Callable[[], list[str] | None]) -> list[str]:
    deadline = monotonic() + READY_WITHIN_S
    while (found := look()) is None:
        await _next_look(child, deadline)
    return found


async def _next_look(child: Child, deadline: float) -> None:
    if not child.running:
        raise StartFailed(child.failure("ended at once"))
    if monotonic() > deadline:
        raise StartFailed(child.failure(f"did not come up within {READY_WITHIN_S:g} s"))
    await asyncio.sleep(POLL_S)


# Looked up here and not between fork and exec, where little may be done.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with(parent: int) -> None:
    """In a new process: it ends when its parent does, also when that ended before this was called.

    By the signal that cannot be refused: until it runs a program of its own, a new process has the parent's
    handlers, which would swallow any other. Engines and routers of a demo have nothing to keep.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
