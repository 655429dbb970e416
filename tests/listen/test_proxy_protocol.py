"""Behind a proxy that says who the client is, before HTTP and before TLS."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from listen.conftest import Authority, faults_counted
from listen.test_tls_clients import tls_flags
from live.front import CHAT, CHAT_PATH, Front
from live.polling import eventually
from live.wire import Connection, request, socket_to

StartFront = Callable[..., Front]

V1 = b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n"
V2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21"
    + struct.pack(">H", 36 + 5)
    + socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + struct.pack(">HH", 4711, 443)
    + b"\x04\x00\x02ab"
)
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"


def requests(front: Front, count: int) -> list[dict[str, Any]]:
    def lines() -> list[dict[str, Any]]:
        return [line for line in front.router.lines() if line["message"] == "request"]

    eventually(lambda: len(lines()) >= count, "they are logged")
    return lines()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_the_clients_address_is_the_one_that_the_proxy_told(
    start_front: StartFront, authority: Authority, secure: bool
) -> None:
    front = start_front("--proxy-protocol", "--access-log", *(tls_flags(authority) if secure else ()))
    context = authority.client_context() if secure else None
    heads = {V1: "203.0.113.7", V2: "2001:db8::7", LOCAL: "127.0.0.1", b"PROXY UNKNOWN\r\n": "127.0.0.1"}
    for head in heads:
        with Connection(front.router.url, tls=context, preface=head) as connection:
            assert connection.ask("POST", CHAT_PATH, CHAT).status == 200
            assert connection.ask("GET", "/health").status == 200
    assert [line["client"] for line in requests(front, 4)] == [*heads.values()]


def test_head_and_request_in_one_write_and_byte_by_byte(start_front: StartFront) -> None:
    front = start_front("--proxy-protocol", "--access-log")
    whole = V1 + request("POST", CHAT_PATH, CHAT)
    with Connection(front.router.url) as connection:
        connection.send(whole)
        assert connection.answer().status == 200
    with Connection(front.router.url) as connection:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(V2)):
            connection.send(V2[place : place + 1])
        assert connection.ask("POST", CHAT_PATH, CHAT).status == 200
    assert [line["client"] for line in requests(front, 2)] == ["203.0.113.7", "2001:db8::7"]


def test_without_a_head_nothing_is_answered(start_front: StartFront) -> None:
    front = start_front("--proxy-protocol", "--head-timeout-s", "1")
    bad = (
        request("GET", "/health"),
        V1.replace(b"TCP4", b"TCP6"),
        b"PROXY " + b"x" * 200,
        V2[:12] + b"\x41" + V2[13:],
    )
    for first in bad:
        with socket_to(front.router.url) as connection:
            connection.sendall(first)
            with contextlib.suppress(ConnectionResetError):  # what was not read is dropped
                assert connection.recv(100) == b""
    with socket_to(front.router.url) as silent:
        assert silent.recv(1) == b"", "it has a time-out"
    with socket_to(front.router.url) as gone:
        gone.sendall(V1[:20])
    with Connection(front.router.url, preface=V1) as connection:
        eventually(lambda: faults_counted(connection, "proxy_head") == 6, "all are counted")
    lines = [line for line in front.router.lines() if line["message"] == "connection not usable"]
    assert {line["level"] for line in lines} == {"debug"}
    assert not front.calls


def test_a_hand_over_works_behind_a_proxy(
    start_router: Callable[..., Any], start_worker: Callable[..., Any]
) -> None:
    """A connection of the router's own to its port carries no head, and must be seen all the same."""
    worker = start_worker()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    flags = ("--port", port, "--reuse-port", "--proxy-protocol", "--backend", worker.url)
    old = start_router(*flags, "--shutdown-idle-s", "0.1")
    new = start_router(*flags)
    old.terminate()
    answered = 0
    while old.process.poll() is None:
        with Connection(new.url, preface=V1) as connection:
            assert connection.ask("GET", "/health").status == 200
            answered += 1
    assert old.wait() == 0
    assert answered
