"""Starts llama.cpp's server as a process of its own, so that a test may kill it like a real one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

SERVER = Path(__file__).with_name("llamacpp_server.py")
MODEL_NAME = "tiny"
# It is up after some 0.3 s; a loaded machine gets a hundred times that.
READY_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """A running server."""

    url: str
    model: str
    process: subprocess.Popen[str]


@contextmanager
def llamacpp(model: Path, log: Path) -> Iterator[LlamaCpp]:
    """A server for the block's time; it writes to `log`. Raises RuntimeError when it does not come up."""
    command = [sys.executable, str(SERVER), str(model), MODEL_NAME]
    with (
        log.open("w", encoding="utf-8") as messages,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError(f"the server ended before it listened:\n{log.read_text(encoding='utf-8')}")
            _wait_until_healthy(url, log)
            yield LlamaCpp(url, MODEL_NAME, process)
        finally:
            process.kill()


def _wait_until_healthy(url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    with httpx.Client() as client:
        while time.monotonic() < deadline:
            try:
                if client.get(f"{url}/health").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
    raise RuntimeError(f"{url} was not healthy in time:\n{log.read_text(encoding='utf-8')}")
