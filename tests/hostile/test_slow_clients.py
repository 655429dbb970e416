"""Clients that take their time, come in thousands, or use up the router's files."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from live.fake_worker import Call, chunk
from live.front import CHAT, CHAT_PATH, STREAM, Front
from live.polling import eventually
from live.wire import Connection, request

StartFront = Callable[..., Front]

MIB = 1 << 20
IDLE_CLIENTS = 10_000

# What the test's own process and the router need beside the clients.
SPARE_FILES = 500

# Closing resets: ten thousand connections in TIME_WAIT would take the ports of other tests.
RESET = struct.pack("ii", 1, 0)


# --- slow ----------------------------------------------------------------------------------------------


def test_heads_and_bodies_that_trickle_are_refused_in_time_and_others_are_served(
    start_front: StartFront,
) -> None:
    front = start_front("--head-timeout-s", "1", "--body-timeout-s", "1")
    whole = request("POST", CHAT_PATH, CHAT | {"user": "y" * 20_000}, x="y" * 20_000)
    start = whole.index(b"\r\n\r\n") + 4
    with contextlib.ExitStack() as stack:
        heads = [stack.enter_context(front.connect()) for _ in range(50)]
        bodies = [stack.enter_context(front.connect()) for _ in range(50)]
        for connection in heads:
            connection.send(whole[:1])
        for connection in bodies:
            connection.send(whole[: start + 1])
        refused: list[int] = []

        def take(connection: Connection) -> None:
            refused.append(connection.answer().status)

        waiting = [threading.Thread(target=take, args=(c,), daemon=True) for c in (*heads, *bodies)]
        for thread in waiting:
            thread.start()
        sent = 1
        while any(thread.is_alive() for thread in waiting):  # a byte now and then wins no time
            assert front.ask().status == 200
            for connection, first in (*((c, 0) for c in heads), *((c, start) for c in bodies)):
                with contextlib.suppress(OSError):
                    connection.send(whole[first + sent : first + sent + 1])
            sent += 1
            assert sent < start, "they are refused before they have said anything"
    assert refused == [408] * 100


def test_a_body_that_comes_byte_by_byte_arrives_whole(front: Front) -> None:
    body = json.dumps(CHAT | {"user": "x" * 30_000}).encode()
    whole = request("POST", CHAT_PATH, body)
    with front.connect() as connection:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(whole)):
            connection.send(whole[at : at + 1])
        assert connection.answer().status == 200
    assert front.calls[0].body == body


def test_a_client_that_reads_byte_by_byte_gets_its_stream_whole(front: Front) -> None:
    events = [b"data: %d\n\n" % number for number in range(300)]

    def run(call: Call) -> None:
        call.stream()
        for event in events:
            call.chunk(event)
        call.end()

    front.script(run)
    with front.connect(receive_buffer_bytes=1024) as connection:
        connection.send(request("POST", CHAT_PATH, STREAM))
        seen = b""
        while not seen.endswith(b"\r\n0\r\n\r\n"):
            seen += connection.socket.recv(1)
    assert seen.partition(b"\r\n\r\n")[2] == b"".join(map(chunk, events)) + b"0\r\n\r\n"


# --- many ----------------------------------------------------------------------------------------------


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many files as the kernel allows this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE_CLIENTS + SPARE_FILES:
        pytest.skip(f"a process may have {hard} files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_ten_thousand_idle_clients_leave_room_for_one_that_asks(start_front: StartFront) -> None:
    front = start_front("--keepalive-timeout-s", "600", "--head-timeout-s", "600")
    clients: list[socket.socket] = []
    try:
        for number in range(IDLE_CLIENTS):
            client = socket.socket()
            clients.append(client)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.bind((f"127.0.0.{2 + number % 8}", 0))  # a port range of its own
            client.connect(("127.0.0.1", front.router.port))
            if number % 2:
                client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n")
        eventually(lambda: front.state()["client_connections"] > IDLE_CLIENTS, "all are accepted")
        assert front.ask().status == 200
        for client in clients[1:100:2]:
            client.sendall(request("POST", CHAT_PATH, CHAT).partition(b"\r\n")[2])
        for client in clients[1:100:2]:
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    finally:
        for client in clients:
            client.close()
    eventually(lambda: front.state()["client_connections"] == 1, "none is left")
    front.wait_idle()


def test_a_router_without_a_file_left_lives_blames_no_worker_and_recovers(start_front: StartFront) -> None:
    front = start_front("--health-interval-s", "600", "--eject-after-failures", "1")
    open_files = len(list(Path(f"/proc/{front.router.pid}/fd").iterdir()))
    with contextlib.ExitStack() as stack:
        asking = stack.enter_context(front.connect())
        assert asking.ask("GET", "/health").status == 200
        _, hard = resource.prlimit(front.router.pid, resource.RLIMIT_NOFILE)
        limit = open_files + 10
        resource.prlimit(front.router.pid, resource.RLIMIT_NOFILE, (limit, hard))
        crowd = [stack.enter_context(front.connect()) for _ in range(40)]
        for client in crowd:
            client.send(request("GET", "/health"))
        eventually(
            lambda: len(list(Path(f"/proc/{front.router.pid}/fd").iterdir())) >= limit - 1, "no file is left"
        )
        for _ in range(20):
            refused = asking.ask("POST", CHAT_PATH, CHAT)
            assert refused.status == 503
            assert refused.json()["error"]["code"] == "router_exhausted"
        assert asking.ask("GET", "/health").status == 200, "the loop goes on"
        assert front.router.log.stat().st_size < MIB, "and does not log without end"
    eventually(lambda: _answers(front), "clients are accepted again")
    assert front.ask().status == 200, "no worker was blamed for what the router lacked"
    front.wait_idle()


def _answers(front: Front) -> bool:
    try:
        with front.connect() as connection:
            return connection.ask("GET", "/health").status == 200
    except (OSError, AssertionError):
        return False
