"""`simulator serve` as a child process on free ports, for tests over real sockets."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

SPEED = 20.0
"""Faster than real hardware, so that tests wait for little; results do not depend on it."""
DEADLINE_S = 20.0


class Served:
    """A running `simulator serve` and its workers' URLs."""

    def __init__(self, process: subprocess.Popen[str], urls: list[str]) -> None:
        self.process, self.urls = process, urls

    @property
    def url(self) -> str:
        return self.urls[0]

    def state(self, worker: int = 0) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(self.urls[worker] + "/__state").json()
        return answer

    def fault(self, kind: str, worker: int = 0, **fields: object) -> None:
        # Asked through the other worker: the one that refuses connections does not take any.
        other = self.urls[1 - worker]
        body = {"kind": kind, "worker": worker, **fields}
        httpx.post(other + "/__fault", json=body).raise_for_status()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)


@contextmanager
def serving(*arguments: str, workers: int = 1) -> Iterator[Served]:
    command = [sys.executable, "-m", "warmroute_simulator", "serve", "--port", "0"]
    command += ["--workers", str(workers), "--speed", str(SPEED), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        # A child that never gets ready is killed, which ends the reading below.
        watchdog = threading.Timer(DEADLINE_S, process.kill)
        watchdog.start()
        try:
            lines = [process.stdout.readline() for _ in range(workers)]
            watchdog.cancel()
            assert all(line.startswith("ready http://") for line in lines), lines
            yield Served(process, [line.split()[1] for line in lines])
        finally:
            watchdog.cancel()
            process.terminate()


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until `holds` does; fails after the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, "did not become true in time"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """Two workers shared by the tests of a module. Tests use prompts of their own."""
    with serving(workers=2) as fleet:
        yield fleet
