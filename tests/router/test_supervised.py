"""Under systemd's `Type=notify`: a datagram when the port is open, and one when the router stops."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from live.polling import PATIENCE_S
from live.processes import Process, spawn_router


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(PATIENCE_S)
        yield receiver


def test_the_supervisor_hears_of_a_router_that_listens_and_of_one_that_stops(
    tmp_path: Path, supervisor: socket.socket
) -> None:
    router = spawn_router(tmp_path / "router.log", env={"NOTIFY_SOCKET": supervisor.getsockname()})
    try:
        assert supervisor.recv(100) == b"READY=1"
        assert httpx.get(f"{router.url}/liveness", trust_env=False).status_code == 200
        router.terminate()
        assert supervisor.recv(100) == b"STOPPING=1"
        assert router.wait() == 0
        assert not router.faults()
    finally:
        Process.kill(router)


def test_a_supervisor_that_is_gone_does_not_end_the_router(tmp_path: Path) -> None:
    router = spawn_router(tmp_path / "router.log", env={"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    try:
        assert httpx.get(f"{router.url}/liveness", trust_env=False).status_code == 200
        assert "the supervisor was not told READY=1: No such file or directory" in router.messages()
    finally:
        Process.kill(router)
