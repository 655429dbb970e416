"""Clients come by TLS: what is served, how it ends, and what becomes of who does not shake hands."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from listen.conftest import Authority, faults_counted
from live.fake_worker import Call, chunk
from live.front import CHAT, CHAT_PATH, STREAM, Front
from live.polling import PATIENCE_S, eventually
from live.wire import Connection, request, socket_to

StartFront = Callable[..., Front]


def tls_flags(authority: Authority) -> tuple[str, ...]:
    cert, key = authority.issue("router")
    return "--tls-cert", str(cert), "--tls-key", str(key)


def test_both_planes_are_served_on_one_tls_connection(start_front: StartFront, authority: Authority) -> None:
    front = start_front(*tls_flags(authority))
    assert front.router.url.startswith("https://127.0.0.1:")
    with Connection(front.router.url, tls=authority.client_context()) as connection:
        assert isinstance(connection.socket, ssl.SSLSocket)
        assert connection.socket.selected_alpn_protocol() is None  # none was offered
        assert connection.ask("GET", "/health").json() == {"status": "ok"}
        assert connection.ask("POST", CHAT_PATH, CHAT).status == 200
        assert connection.ask("GET", "/workers").json()["total"] == 1
        large = {"model": "m", "messages": [{"role": "user", "content": "x" * 3_000_000}]}
        assert connection.ask("POST", CHAT_PATH, large).status == 200
    assert len(front.calls[-1].body) > 3_000_000


@pytest.mark.parametrize(("offered", "chosen"), [(["h2", "http/1.1"], "http/1.1"), (["h2"], None)])
def test_http_1_1_is_what_is_agreed_on(
    start_front: StartFront, authority: Authority, offered: list[str], chosen: str | None
) -> None:
    front = start_front(*tls_flags(authority))
    context = authority.client_context()
    context.set_alpn_protocols(offered)
    with Connection(front.router.url, tls=context) as connection:
        assert isinstance(connection.socket, ssl.SSLSocket)
        assert connection.socket.selected_alpn_protocol() == chosen


def test_tls_older_than_1_2_is_refused_and_newer_is_not(
    start_front: StartFront, authority: Authority
) -> None:
    front = start_front(*tls_flags(authority))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = authority.client_context()
        context.minimum_version = context.maximum_version = version
        with Connection(front.router.url, tls=context) as connection:
            assert connection.ask("GET", "/health").status == 200
    context = authority.client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError):
        Connection(front.router.url, tls=context)


def test_a_whole_answer_without_length_ends_in_order_and_a_cut_one_does_not(
    start_front: StartFront, authority: Authority
) -> None:
    front = start_front(*tls_flags(authority), "--retries", "0")

    def old(connection: Connection) -> bytes:
        connection.send(request("POST", CHAT_PATH, STREAM).replace(b"HTTP/1.1", b"HTTP/1.0"))
        connection._until(b"\r\n\r\n")
        return connection._rest()

    def whole(call: Call) -> None:
        call.stream()
        call.write(chunk(b"data: 1\n\n"), b"0\r\n\r\n")

    front.script(whole)
    with Connection(front.router.url, tls=authority.client_context()) as connection:
        assert old(connection) == b"data: 1\n\n"  # and its end was announced: close_notify

    def half(call: Call) -> None:
        call.stream()
        call.write(chunk(b"data: 1\n\n"))
        call.hold(told)
        call.close()

    told = threading.Event()
    front.script(half)
    with Connection(front.router.url, tls=authority.client_context()) as connection:
        connection.send(request("POST", CHAT_PATH, STREAM).replace(b"HTTP/1.1", b"HTTP/1.0"))
        connection._until(b"data: 1\n\n")
        told.set()
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            connection._rest()


def test_a_slow_reader_holds_its_worker_back(start_front: StartFront, authority: Authority) -> None:
    front = start_front(*tls_flags(authority), "--max-client-buffer-bytes", "64KiB")
    written = 0
    size = 1 << 20

    def pour(call: Call) -> None:
        nonlocal written
        call.stream()
        for _ in range(64):
            call.write(chunk(b"x" * size))
            written += 1
        call.end()

    front.script(pour)
    with Connection(front.router.url, 65536, tls=authority.client_context()) as connection:
        connection.send(request("POST", CHAT_PATH, STREAM))
        connection._until(b"\r\n\r\n")
        eventually(lambda: _stands(lambda: written), "the worker is not read any further")
        assert written < 60
        assert len(connection._chunks()) == 64 * size


def _stands(count: Callable[[], int]) -> bool:
    before = count()
    threading.Event().wait(0.5)
    return count() == before


def test_a_client_that_leaves_frees_its_worker(start_front: StartFront, authority: Authority) -> None:
    front = start_front(*tls_flags(authority))
    left = threading.Event()

    def wait(call: Call) -> None:
        if call.wait_gone():
            left.set()

    front.script(wait)
    with Connection(front.router.url, tls=authority.client_context()) as connection:
        connection.send(request("POST", CHAT_PATH, STREAM))
        front.wait_calls(1)
    assert left.wait(PATIENCE_S)


def test_who_does_not_shake_hands_is_closed_counted_and_logged_at_debug(
    start_front: StartFront, authority: Authority
) -> None:
    front = start_front(*tls_flags(authority), "--head-timeout-s", "1")
    with socket_to(front.router.url.replace("https", "http")) as plain:
        plain.sendall(request("GET", "/health"))
        assert _ends(plain)
    with socket_to(front.router.url.replace("https", "http")) as silent:
        assert _ends(silent), "the handshake has a time-out"
    with socket_to(front.router.url.replace("https", "http")) as rude:
        rude.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        Connection(front.router.url, tls=ssl.create_default_context())
    with Connection(front.router.url, tls=authority.client_context()) as connection:
        eventually(lambda: faults_counted(connection, "tls_handshake") == 4, "all four are counted")
    lines = [line for line in front.router.lines() if line["message"] == "connection not usable"]
    assert {line["level"] for line in lines} == {"debug"}
    assert {line["client"] for line in lines} == {"127.0.0.1"}


def _ends(connection: socket.socket) -> bool:
    """Whether the other side closes; an alert before that is fine."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def test_handshakes_under_way_are_bounded_like_clients(start_front: StartFront, authority: Authority) -> None:
    front = start_front(*tls_flags(authority), "--max-connections", "2", "--head-timeout-s", "600")
    url = front.router.url.replace("https", "http")
    with socket_to(url), socket_to(url), socket_to(url) as third:  # the first two say nothing
        assert _ends(third)
    assert eventually(lambda: _too_many(front, authority), "there is room again") >= 1


def _too_many(front: Front, authority: Authority) -> float:
    """How many were, as soon as somebody is let in to ask."""
    with (
        contextlib.suppress(OSError),
        Connection(front.router.url, tls=authority.client_context()) as connection,
    ):
        return faults_counted(connection, "too_many")
    return 0


def test_tls_on_a_plain_port_is_closed_at_once_and_counted(
    start_front: StartFront, authority: Authority
) -> None:
    front = start_front()
    with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
        Connection(front.router.url, tls=authority.client_context())
    assert front.counted("router_connection_faults_total", fault="tls_on_plain_port") == 1


def test_with_a_client_authority_only_its_certificates_come_in(
    start_front: StartFront, authority: Authority, tmp_path: Path
) -> None:
    front = start_front(*tls_flags(authority), "--tls-client-ca", str(authority.file))
    own = authority.client_context(authority.issue("client", "someone"))
    with Connection(front.router.url, tls=own) as connection:
        assert connection.ask("POST", CHAT_PATH, CHAT).status == 200
    strangers = tmp_path / "strangers"
    strangers.mkdir()
    stranger = Authority(trustme.CA(), strangers).issue("client", "someone")
    for shown in (None, stranger):
        # TLS 1.3: the client learns with its first read that it is not let in.
        with (
            pytest.raises(OSError),
            Connection(front.router.url, tls=authority.client_context(shown)) as connection,
        ):
            connection.ask("GET", "/health")


def shown_to(front: Front, authority: Authority) -> bytes:
    with Connection(front.router.url, tls=authority.client_context()) as connection:
        assert isinstance(connection.socket, ssl.SSLSocket)
        return connection.socket.getpeercert(binary_form=True) or b""


def test_new_files_are_for_new_connections_and_broken_ones_for_nobody(
    start_front: StartFront, authority: Authority
) -> None:
    front = start_front(*tls_flags(authority))
    first = shown_to(front, authority)
    with Connection(front.router.url, tls=authority.client_context()) as running:
        assert running.ask("GET", "/health").status == 200
        cert, key = authority.issue("router")
        eventually(lambda: shown_to(front, authority) != first, "the new certificate is shown")
        second = shown_to(front, authority)
        good = cert.read_bytes()
        cert.write_text("no certificate")
        eventually(
            lambda: "certificates not renewed, the old ones stay" in front.router.messages(), "it is logged"
        )
        assert shown_to(front, authority) == second
        cert.write_bytes(good)
        key.unlink()
        eventually(
            lambda: front.router.messages().count("certificates not renewed, the old ones stay") == 2,
            "a missing key is logged",
        )
        assert shown_to(front, authority) == second
        assert running.ask("POST", CHAT_PATH, CHAT).status == 200, "who was there is not disturbed"


def test_a_stop_lets_a_tls_stream_finish(start_front: StartFront, authority: Authority) -> None:
    front = start_front(*tls_flags(authority), "--shutdown-idle-s", "0.1")
    go = threading.Event()

    def slow(call: Call) -> None:
        call.stream()
        call.chunk(b"data: 1\n\n")
        call.hold(go)
        call.chunk(b"data: 2\n\n")
        call.end()

    front.script(slow)
    with (
        Connection(front.router.url, tls=authority.client_context()) as connection,
        Connection(front.router.url, tls=authority.client_context()) as idle,
    ):
        connection.send(request("POST", CHAT_PATH, STREAM))
        front.wait_calls(1)
        front.router.terminate()
        eventually(lambda: "stopping" in front.router.messages(), "it stops")
        assert idle.at_end(), "announced, or this would raise"
        idle.socket.close()
        go.set()
        assert connection.answer().body == b"data: 1\n\ndata: 2\n\n"
    assert front.router.wait() == 0


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--tls-cert", "none.pem"], "tls_cert: none.pem: No such file or directory"),
        (["--tls-key", "none.pem"], "tls_key needs tls_cert"),
        (["--tls-client-ca", "none.pem"], "tls_client_ca needs tls_cert"),
        (["--tls-cert", "empty.pem"], "tls_cert: not certificates and a key in PEM"),
        (["--tls-cert", "router.pem", "--tls-key", "other.key"], "the key is not that of the certificate"),
        (["--tls-cert", "router.pem", "--tls-key", "closed.key"], "the key is encrypted"),
        (["--upstream-ca", "empty.pem"], "upstream_ca: not certificates and a key in PEM"),
        (["--upstream-client-key", "other.key"], "upstream_client_key needs upstream_client_cert"),
    ],
)
def test_files_that_are_no_good_are_one_line_and_exit_code_2(
    authority: Authority, flags: list[str], told: str
) -> None:
    authority.issue("router")
    _, other = authority.issue("other")
    (authority.folder / "empty.pem").write_text("")
    if "closed.key" in flags:
        from cryptography.hazmat.primitives import serialization

        key = serialization.load_pem_private_key(other.read_bytes(), None)
        (authority.folder / "closed.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
    ended = subprocess.run(
        [sys.executable, "-m", "warmroute", "--port", "0", *flags],
        capture_output=True, text=True, timeout=60, cwd=authority.folder, stdin=subprocess.DEVNULL,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("router: error: ")
    assert told in line


def test_a_refusal_ends_in_order_even_while_the_client_still_sends(
    start_front: StartFront, authority: Authority
) -> None:
    front = start_front(*tls_flags(authority))
    (worker,) = front.workers

    def refuses(call: Call, ahead: bytearray) -> None:
        call.read(1000, ahead)
        call.answer(b"{}", 413)
        call.read_whole(ahead)

    worker.on_head = refuses
    context = authority.client_context()
    with Connection(front.router.url, tls=context) as connection:
        connection.send(b"NONSENSE\r\n\r\n")
        assert connection.answer().status == 400
        assert connection.at_end(), "announced: without that it is an error"
    with Connection(front.router.url, tls=context) as connection:
        connection.send(
            b"POST /v1/sounds?model=m HTTP/1.1\r\nhost: x\r\ncontent-type: audio/wav\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.send(chunk(bytes(100_000)))
        assert connection.answer().status == 413
        assert connection.at_end()
