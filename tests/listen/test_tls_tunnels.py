"""WebSockets over TLS, which knows no end of one side alone."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable

import pytest

from listen.conftest import Authority
from live.fake_worker import Call, FakeWorker
from live.front import Front
from live.polling import eventually
from live.processes import Router
from live.wire import Connection, request

StartRouter = Callable[..., Router]
StartWorker = Callable[..., FakeWorker]

KIB = 1 << 10
HANDSHAKE = request(
    "GET", "/v1/realtime", connection="Upgrade", upgrade="websocket", sec_websocket_version="13",
    sec_websocket_key="x",
)  # fmt: skip
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"

# More than sockets take at once.
LAST_WORDS = bytes(range(256)) * 4 * KIB


@pytest.mark.parametrize("ends", ["client", "worker"])
@pytest.mark.parametrize("by_tls", [("client",), ("worker",), ("client", "worker")], ids="-".join)
def test_the_end_of_either_is_the_end_of_both_and_its_last_words_arrive(
    start_router: StartRouter,
    start_worker: StartWorker,
    authority: Authority,
    by_tls: tuple[str, ...],
    ends: str,
) -> None:
    tls = authority.server_context("worker") if "worker" in by_tls else None
    worker = start_worker(tls=tls)
    flags = ["--backend", worker.url, "--upstream-ca", str(authority.file)]
    if "client" in by_tls:
        cert, key = authority.issue("router")
        flags += ["--tls-cert", str(cert), "--tls-key", str(key)]
    front = Front(start_router(*flags), [worker])
    heard: list[bytes] = []

    def end(endpoint: object) -> None:
        """As a program does that has said all it will say."""
        if isinstance(endpoint, ssl.SSLSocket):
            with contextlib.suppress(OSError):
                endpoint.unwrap()

    def serves(call: Call, ahead: bytearray) -> None:
        call.write(SWITCHED)
        if ends == "worker":
            call.write(LAST_WORDS)
            end(call.socket)
            call.close()
            return
        said = bytearray(ahead)
        while data := call.socket.recv(64 * KIB):
            said += data
        heard.append(bytes(said))
        call.close()

    worker.on_head = serves
    context = authority.client_context() if "client" in by_tls else None
    with Connection(front.router.url, tls=context) as connection:
        connection.send(HANDSHAKE)
        assert connection._until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        if ends == "worker":
            heard.append(connection._rest())
        else:
            connection.send(LAST_WORDS)
            end(connection.socket)
    eventually(lambda: heard, "the other side has seen the end")
    assert heard == [LAST_WORDS]
    with Connection(front.router.url, tls=context) as operator:

        def counted(name: str) -> float:
            lines = operator.ask("GET", "/metrics").body.decode().splitlines()
            return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

        eventually(lambda: counted("router_requests_total") == 1, "the request has ended")
        assert (counted("router_tunnels "), counted("router_worker_failures_total")) == (0, 0)
    assert "eof_received" not in front.router.text(), "nothing is said of it in the log"
