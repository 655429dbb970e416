"""What workers do wrong, byte by byte: what the client gets, and that nothing that began is asked twice."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from live.fake_worker import Call, Script, chunk, ok
from live.front import CHAT, CHAT_PATH, STREAM, Front, die
from live.polling import eventually
from live.resolver import can_be_made, make_resolver
from live.wire import request

StartFront = Callable[..., Front]

MIB = 1 << 20
OK = b"HTTP/1.1 200 OK\r\n"


def says(*pieces: bytes, then: Script = Call.close) -> Script:
    """Writes these bytes, then ends."""

    def run(call: Call) -> None:
        call.write(*pieces)
        then(call)

    return run


# --- before the first byte: another worker is asked, then the client is told --------------------------

SILENT: dict[str, Script] = {
    "closes": Call.close,
    "resets": Call.reset,
    "status-line-cut": says(b"HTTP/1.1 2"),
    "head-cut": says(OK + b"content-length: 5\r\n"),
    "head-cut-by-a-reset": says(OK + b"content-length: 5\r\n", then=Call.reset),
    "head-and-no-byte-of-the-body": says(OK + b"content-length: 5\r\n\r\n"),
    "stream-head-and-no-event": says(OK + b"transfer-encoding: chunked\r\n\r\n"),
    "binary": says(bytes(range(256)) * 4 + b"\r\n\r\n", then=Call.wait_gone),
    "html": says(b"<html><body>Bad Gateway</body></html>\r\n\r\n", then=Call.wait_gone),
    "another-protocol": says(b"SSH-2.0-OpenSSH_9.7\r\n\r\n", then=Call.wait_gone),
    "http-2": says(b"HTTP/2 200\r\n\r\n", then=Call.wait_gone),
    "status-of-four-digits": says(b"HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\n{}", then=Call.wait_gone),
    "length-twice": says(OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}", then=Call.wait_gone),
    "length-negative": says(OK + b"content-length: -2\r\n\r\n{}", then=Call.wait_gone),
    "length-hex": says(OK + b"content-length: 0x2\r\n\r\n{}", then=Call.wait_gone),
    "length-of-400-digits": says(OK + b"content-length: " + b"9" * 400 + b"\r\n\r\n{}", then=Call.wait_gone),
    "length-and-chunks": says(
        OK + b"content-length: 7\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        then=Call.wait_gone,
    ),
    "bare-line-feeds": says(OK + b"content-length: 2\nx: y\r\n\r\n{}", then=Call.wait_gone),
    "folded-field": says(OK + b"x: y\r\n z\r\ncontent-length: 2\r\n\r\n{}", then=Call.wait_gone),
    "nul-in-a-field": says(OK + b"x: \0\r\ncontent-length: 2\r\n\r\n{}", then=Call.wait_gone),
    "head-without-end": says(OK + b"x: " + b"y" * 100_000, then=Call.wait_gone),
    "head-of-many-fields": says(OK + b"x: y\r\n" * 20_000, then=Call.wait_gone),
    "no-chunk-size": says(OK + b"transfer-encoding: chunked\r\n\r\nhello\r\n", then=Call.wait_gone),
    "another-protocol-asked-for": says(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n", then=Call.wait_gone
    ),
    "hints-and-then-nothing": says(b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n" * 50),
    "unavailable": lambda call: call.answer(b'{"error": {"message": "busy"}}', 503),
}


# On a connection that was used before, this is a worker that had just closed it: the same one is asked again.
WORDLESS = ("closes", "resets")


@pytest.mark.parametrize("name", SILENT)
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "stream"])
def test_a_worker_that_fails_before_the_first_byte_is_replaced_and_its_bytes_are_dropped(
    front: Front, name: str, body: dict[str, object]
) -> None:
    fails, lock = [SILENT[name]], threading.Lock()

    def first_fails(call: Call) -> None:
        with lock:
            script = fails.pop() if fails else ok
        script(call)

    front.script(first_fails)
    answer = front.ask(body)
    assert answer.status == 200
    assert answer.json()["usage"], "the answer is the second worker's, and nothing of the first one's"
    if name not in WORDLESS:
        assert [len(worker.calls) for worker in front.workers] == [1, 1]


@pytest.mark.parametrize("name", SILENT)
def test_when_every_worker_fails_before_the_first_byte_the_client_is_told_so(front: Front, name: str) -> None:
    front.script(SILENT[name])
    answer = front.ask()
    assert answer.status == (503 if name == "unavailable" else 502)
    assert len(answer.json()["error"]["message"]) > 3
    if name not in WORDLESS:
        assert [len(worker.calls) for worker in front.workers] == [1, 1], "each one was asked once"


# --- behind the first byte: no way back -----------------------------------------------------------------

EVENT = chunk(b"data: 1\n\n")
STREAM_HEAD = OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

BEGUN: dict[str, Script] = {
    "closes": says(STREAM_HEAD, EVENT),
    "resets": says(STREAM_HEAD, EVENT, then=Call.reset),
    "cuts-a-chunk": says(STREAM_HEAD, EVENT, EVENT[:-4]),
    "cuts-the-last-chunk": says(STREAM_HEAD, EVENT, b"0\r\n"),
    "says-nonsense": says(STREAM_HEAD, EVENT, b"HTTP/1.1 500 Oops\r\n\r\n", then=Call.wait_gone),
    "says-a-negative-size": says(STREAM_HEAD, EVENT, b"-5\r\n", then=Call.wait_gone),
    "says-a-line-without-end": says(STREAM_HEAD, EVENT, b"5;" + b"x" * 5000, then=Call.wait_gone),
    "sends-a-trailer-without-end": says(
        STREAM_HEAD, EVENT, b"0\r\nx: " + b"x" * 5000, then=Call.wait_gone
    ),
    "closes-before-its-length": says(OK + b"content-length: 100\r\n\r\n", b"x" * 50),
    "resets-before-its-length": says(OK + b"content-length: 100\r\n\r\n", b"x" * 50, then=Call.reset),
    "resets-without-length": says(OK + b"\r\n", b"x" * 50, then=Call.reset),
}  # fmt: skip


@pytest.mark.parametrize("name", BEGUN)
def test_an_answer_that_breaks_is_cut_and_nobody_else_is_asked(front: Front, name: str) -> None:
    bad = BEGUN[name]
    seen = threading.Event()

    def run(call: Call) -> None:
        pieces: list[bytes] = []
        write = call.write

        def watched(*data: bytes) -> None:
            for piece in data:
                write(piece)
                pieces.append(piece)
                if len(pieces) == 2:
                    assert seen.wait(20), "the client has the first byte before the answer breaks"

        call.write = watched  # type: ignore[method-assign]
        bad(call)

    front.script(run)
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, STREAM))
        connection._until(b"\r\n\r\n")
        seen.set()
        with pytest.raises(ConnectionResetError):  # closing alone would be an end
            connection._rest()
        assert b"[DONE]" not in connection._ahead
    assert len(front.calls) == 1, "what has begun is never asked for again"


def test_bytes_behind_an_answers_end_reach_nobody(front: Front) -> None:
    front.script(says(OK + b"content-length: 5\r\n\r\nhello world, secret", then=Call.wait_gone))
    with front.connect() as connection:
        for _ in range(3):
            assert connection.ask("POST", CHAT_PATH, CHAT).body == b"hello"
    assert {call.number_on_connection for call in front.calls} == {1}, "such a connection is used once"


# --- answers that are odd and right --------------------------------------------------------------------


@pytest.mark.parametrize("code", [300, 301, 302, 303, 307, 308, 399])
def test_a_redirect_is_passed_on_and_never_followed(front: Front, code: int) -> None:
    to = front.workers[1].url + "/v1/chat/completions"
    front.script(lambda call: call.answer(b"elsewhere", code, f"location: {to}"))
    answer = front.ask()
    assert (answer.status, answer.headers["location"], answer.body) == (code, to, b"elsewhere")
    assert len(front.calls) == 1


def test_a_thousand_interim_answers_are_dropped_and_the_final_one_arrives(front: Front) -> None:
    def run(call: Call) -> None:
        call.write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 1000)
        ok(call)

    front.script(run)
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, CHAT))
        assert connection._until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("framing", ["length", "chunks", "close"])
def test_an_answer_of_100_mb_arrives_whole_and_is_not_kept(front: Front, framing: str) -> None:
    piece, count = hashlib.sha256(b"x").digest() * (MIB // 32), 100

    def run(call: Call) -> None:
        fields = {
            "length": b"content-length: %d\r\n" % (MIB * count),
            "chunks": b"transfer-encoding: chunked\r\n",
            "close": b"",
        }
        call.write(OK + fields[framing] + b"\r\n")
        for _ in range(count):
            call.write(chunk(piece) if framing == "chunks" else piece)
        if framing == "chunks":
            call.end()
        elif framing == "close":
            call.close()

    front.script(run)
    before = memory_bytes(front)
    answer = front.ask()
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(piece * count).digest()
    assert memory_bytes(front) - before < 50 * MIB


def memory_bytes(front: Front) -> int:
    """The most memory that the router has ever used."""
    lines = Path(f"/proc/{front.router.pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


# --- workers that come and go ------------------------------------------------------------------------------


def test_a_worker_that_flaps_costs_no_request(start_front: StartFront) -> None:
    front = start_front("--policy", "round_robin", "--retry-budget-min-per-s", "1000", count=2)
    flapping = front.workers[0]
    for _ in range(6):
        for down in (True, False):
            if down:
                flapping.stop_listening()
                flapping.close_connections()
            else:
                flapping.listen_again()
            for number in range(8):
                nonce = f"{down}-{number}"
                assert front.ask(CHAT | {"user": nonce}).status == 200
    front.wait_idle()


def test_when_all_workers_are_gone_clients_are_told_and_when_one_is_back_they_are_served(
    start_front: StartFront,
) -> None:
    front = start_front(count=2)
    for worker in front.workers:
        worker.stop_listening()
        worker.close_connections()
    refused = front.ask()
    assert refused.status in (502, 503)
    eventually(lambda: front.ask().status == 503, "the workers are known to be away")
    answer = front.ask()
    assert answer.json()["error"]["code"] == "no_worker"
    assert int(answer.headers["retry-after"]) > 0
    front.workers[1].listen_again()
    eventually(lambda: front.ask().status == 200, "the worker that is back serves")
    front.wait_idle()


@pytest.mark.skipif(not can_be_made(), reason="there is no C compiler to make a resolver with")
def test_a_name_that_stops_resolving_keeps_its_connections_and_comes_back(
    start_front: StartFront, tmp_path: Path
) -> None:
    resolver = make_resolver(tmp_path)
    front = start_front("--upstream-keepalive-s", "60", env=resolver.env)
    (named,) = front.workers
    url = f"http://engine.test:{named.port}"
    with httpx.Client(base_url=front.router.url, trust_env=False, timeout=20) as admin:
        assert admin.post("/workers", json={"url": url}).json()["status"] == "healthy"
        admin.delete("/workers/" + quote(named.url, safe=""))
        assert front.ask().headers["x-router-worker"] == url
        resolver.forget()
        assert front.ask().status in (200, 503), (
            "over the connection that is there, if a check has not failed"
        )
        eventually(lambda: front.ask().status == 503, "the check finds that the name is gone")
        resolver.know()
        eventually(lambda: front.ask().status == 200, "the name is back, and with it the worker")
    front.wait_idle()


@pytest.mark.skipif(not can_be_made(), reason="there is no C compiler to make a resolver with")
def test_a_request_to_a_name_that_is_gone_goes_to_another_worker(
    start_front: StartFront, tmp_path: Path
) -> None:
    resolver = make_resolver(tmp_path)
    front = start_front(
        "--policy", "round_robin", "--health-interval-s", "60", "--upstream-keepalive-s", "0.1",
        count=2, env=resolver.env,
    )  # fmt: skip
    named = front.workers[0]
    with httpx.Client(base_url=front.router.url, trust_env=False, timeout=20) as admin:
        admin.post("/workers", json={"url": f"http://engine.test:{named.port}"}).raise_for_status()
        admin.delete("/workers/" + quote(named.url, safe=""))
    resolver.forget()
    assert all(front.ask().status == 200 for _ in range(6))
    assert front.counted("router_worker_failures_total", kind="connect") > 0
    front.wait_idle()


def test_a_worker_that_is_removed_at_once_still_ends_its_stream(start_front: StartFront) -> None:
    front = start_front(count=2)
    removed = threading.Event()

    def run(call: Call) -> None:
        call.stream()
        call.chunk(b"data: 1\n\n")
        call.hold(removed)
        call.chunk(b"data: 2\n\n")
        call.end()

    front.script(run)
    with front.connect() as stream, httpx.Client(base_url=front.router.url, trust_env=False) as admin:
        stream.send(request("POST", CHAT_PATH, STREAM))
        (call,) = front.wait_calls(1)
        stream._until(b"data: 1\n\n")
        path = "/workers/" + quote(call.worker.url, safe="")
        assert admin.delete(path, params={"drain": "false"}).json()["status"] == "removed"
        front.script(ok)
        other = front.ask()
        assert json.loads(other.body)["worker"] != call.worker.url, "new requests go elsewhere at once"
        removed.set()
        stream._until(b"data: 2\n\n")
        assert stream._until(b"0\r\n\r\n") == b"\r\n"
    front.wait_idle()
    front.script(die)
    assert front.ask().status == 502, "who was removed is not asked, not even for a retry"
    assert len(call.worker.calls) == 1
