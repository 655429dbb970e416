"""Workers are reached by TLS: who is believed, what is shown to them, and how a failure is told."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from listen.conftest import Authority
from live.fake_worker import Call, FakeWorker, ok
from live.front import CHAT, STREAM, Front
from live.polling import eventually
from live.processes import Router
from live.wire import Connection, request

StartRouter = Callable[..., Router]
StartWorker = Callable[..., FakeWorker]


def why(front: Front, worker: FakeWorker) -> str:
    """What the last check found."""
    check = front.worker_state(worker)["last_check"]
    return "" if check is None else check["why"] or ""


def test_requests_streams_and_checks_go_over_tls_on_warm_connections(
    start_router: StartRouter, start_worker: StartWorker, authority: Authority
) -> None:
    worker = start_worker(tls=authority.server_context("worker"))
    front = Front(start_router("--backend", worker.url, "--upstream-ca", str(authority.file)), [worker])
    assert worker.url.startswith("https://")
    assert front.worker_state(worker)["status"] == "healthy"
    with front.connect() as connection:
        for _ in range(3):
            answer = connection.ask("POST", "/v1/chat/completions", CHAT)
            assert answer.status == 200
            assert answer.headers["x-router-worker"] == worker.url
    assert worker.calls[-1].number_on_connection == 3
    assert worker.calls[0].headers["host"] == worker.url.removeprefix("https://")

    def stream(call: Call) -> None:
        call.stream()
        for number in range(100):
            call.chunk(b"data: %d\n\n" % number * 1000)
        call.end()

    worker.script = stream
    assert len(front.ask(STREAM).body) > 800_000
    large = {"model": "m", "messages": [{"role": "user", "content": "x" * 2_000_000}]}
    worker.script = ok
    assert front.ask(large).status == 200
    assert len(worker.calls[-1].body) > 2_000_000
    front.wait_idle()


def test_a_certificate_that_is_not_believed_is_a_failed_connection_with_its_reason(
    start_router: StartRouter, start_worker: StartWorker, authority: Authority
) -> None:
    stranger = start_worker(tls=authority.server_context("worker"))
    misnamed = start_worker(tls=authority.server_context("misnamed", "elsewhere.example"))
    believing = ("--upstream-ca", str(authority.file))
    issuer = "its certificate is not accepted: unable to get local issuer certificate"
    assert issuer in first_check(start_router("--backend", stranger.url))
    name = "its certificate is not accepted: IP address mismatch"
    assert name in first_check(start_router("--backend", misnamed.url, *believing))
    with refusing_tls() as url:
        assert "it does not speak TLS" in first_check(start_router("--backend", url, *believing))
    assert not stranger.calls + misnamed.calls


def first_check(router: Router) -> str:
    """Why the only worker is not well."""
    (worker,) = httpx.get(f"{router.url}/workers", trust_env=False).json()["workers"]
    assert worker["status"] == "unhealthy"
    return str(worker["last_check"]["why"])


@contextlib.contextmanager
def refusing_tls() -> Iterator[str]:
    """The https:// URL of a server that speaks plain HTTP, and says so to whatever comes."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_request_to_a_worker_with_a_wrong_certificate_counts_as_not_connected(
    start_router: StartRouter, start_worker: StartWorker, authority: Authority
) -> None:
    worker = start_worker(tls=authority.server_context("worker"))
    ca = authority.file
    other = Authority(trustme.CA(), authority.folder / "other")
    other.folder.mkdir()
    # Checks come so seldom that requests find it out first.
    flags = ("--upstream-ca", str(ca), "--health-interval-s", "1000", "--eject-after-failures", "99")
    front = Front(start_router("--backend", worker.url, *flags), [worker])
    assert front.ask().status == 200
    worker.tls = other.server_context("worker")
    worker.close_connections()
    answer = front.ask()
    assert answer.status == 502
    assert "its certificate is not accepted" in answer.json()["error"]["message"]
    assert front.counted("router_worker_failures_total", worker=worker.url, kind="connect") >= 1
    front.wait_idle()


def test_a_name_that_is_not_the_hosts_may_be_asked_for(
    start_router: StartRouter, start_worker: StartWorker, authority: Authority
) -> None:
    context = authority.server_context("worker", "engine.example")
    asked: list[str | None] = []
    context.sni_callback = lambda _connection, name, _context: asked.append(name)
    worker = start_worker(tls=context)
    front = Front(
        start_router(
            "--backend", f"{worker.url},tls_name=engine.example", "--upstream-ca", str(authority.file)
        ),
        [worker],
    )
    assert front.ask().status == 200
    assert set(asked) == {"engine.example"}


def test_a_worker_that_asks_for_a_certificate_gets_it(
    start_router: StartRouter, start_worker: StartWorker, authority: Authority
) -> None:
    context = authority.server_context("worker")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    worker = start_worker(tls=context)
    cert, key = authority.issue("router", "router.example")
    believing = ("--backend", worker.url, "--upstream-ca", str(authority.file))
    shown = ("--upstream-client-cert", str(cert), "--upstream-client-key", str(key))
    assert Front(start_router(*believing, *shown), [worker]).ask().status == 200
    assert Front(start_router(*believing), [worker]).ask().status in (502, 503)


def test_a_new_authority_is_believed_and_the_old_one_no_more(
    start_router: StartRouter, start_worker: StartWorker, authority: Authority, tmp_path: Path
) -> None:
    worker = start_worker(tls=authority.server_context("worker"))
    file = tmp_path / "believed.pem"
    file.write_bytes(authority.file.read_bytes())
    front = Front(start_router("--backend", worker.url, "--upstream-ca", str(file)), [worker])
    assert front.ask().status == 200
    newer = Authority(trustme.CA(), tmp_path / "newer")
    newer.folder.mkdir()
    worker.tls = newer.server_context("worker")
    worker.close_connections()
    eventually(lambda: "not accepted" in why(front, worker), "the old authority did not issue that")
    file.write_bytes(newer.file.read_bytes())
    eventually(lambda: front.worker_state(worker)["status"] == "healthy", "the checks believe the new one")
    eventually(lambda: front.ask().status == 200, "and so do requests")


@pytest.mark.parametrize("announced", [True, False])
def test_an_answer_that_ends_with_its_connection_is_whole_only_where_the_end_was_announced(
    start_router: StartRouter, start_worker: StartWorker, authority: Authority, announced: bool
) -> None:
    worker = start_worker(tls=authority.server_context("worker"))
    front = Front(start_router("--backend", worker.url, "--upstream-ca", str(authority.file)), [worker])

    def answer(call: Call) -> None:
        call.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nall of it")
        call.keep = False
        if announced:
            assert isinstance(call.socket, ssl.SSLSocket)
            call.socket.unwrap().close()
        else:
            call.close()

    worker.script = answer
    with Connection(front.router.url) as connection:
        connection.send(request("POST", "/v1/chat/completions", CHAT))
        if announced:
            assert connection.answer().body == b"all of it"
        else:
            with pytest.raises(ConnectionResetError):
                connection.answer()
    front.wait_idle()
    outcome = "ok" if announced else "worker_error"
    assert front.counted("router_requests_total", outcome=outcome) == 1


def test_a_worker_is_added_and_found_by_its_https_url(
    start_router: StartRouter, start_worker: StartWorker, authority: Authority, tmp_path: Path
) -> None:
    added, listed = (start_worker(tls=authority.server_context("worker")) for _ in range(2))
    found = tmp_path / "workers.yaml"
    found.write_text(f"backend:\n  - url: {listed.url}\n    tls_name: localhost\n")
    router = start_router(
        "--upstream-ca", str(authority.file), "--discover-file", str(found),
        "--discover-file-interval-s", "0.1",
    )  # fmt: skip
    front = Front(router, [added, listed])
    with httpx.Client(base_url=router.url, trust_env=False) as client:
        answer = client.post("/workers", json={"url": added.url.upper()})
        assert answer.status_code == 201
        assert answer.json()["id"] == added.url
        assert answer.json()["status"] == "healthy"
        assert client.get(answer.headers["location"]).json()["id"] == added.url
        assert client.get(f"/workers/127.0.0.1:{added.port}").json()["id"] == added.url
        assert client.get(f"/workers/http://127.0.0.1:{added.port}").status_code == 404
        refused = client.post("/workers", json={"url": "http://127.0.0.1:1", "tls_name": "x"})
        assert refused.status_code == 422
        assert client.delete(f"/workers/127.0.0.1:{added.port}").status_code == 200
    eventually(lambda: front.worker_state(listed)["status"] == "healthy", "the file's worker is well")
    assert front.ask().headers["x-router-worker"] == listed.url
