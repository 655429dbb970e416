"""Inference and administration share one port, and one connection."""

from __future__ import annotations

import fcntl
import struct
import termios
import time

import httpx

from live.polling import eventually
from live.processes import Router, StartRouter
from live.wire import Connection, request

CHAT = {"model": "llama-3.1-8b", "messages": [{"role": "user", "content": "hi " * 300}], "max_tokens": 4}
STREAM = CHAT | {"stream": True}


def test_one_connection_asks_for_models_and_for_completions_in_turns(router: Router) -> None:
    with Connection(router.url) as connection:
        for _ in range(5):
            assert connection.ask("GET", "/v1/models").json()["object"] == "list"
            assert connection.ask("POST", "/v1/chat/completions", CHAT).json()["object"] == "chat.completion"
            assert connection.ask("GET", "/nothing").status == 404
            streamed = connection.ask("POST", "/v1/chat/completions", STREAM)
            assert streamed.body.endswith(b"data: [DONE]\n\n")
            assert connection.ask("POST", "/v1/chat/completions", b"no json").status == 400
            assert connection.ask("GET", "/health").json() == {"status": "ok"}


def test_pipelined_requests_of_both_kinds_are_answered_in_order(router: Router) -> None:
    with Connection(router.url) as connection:
        connection.send(
            request("GET", "/health"),
            request("POST", "/v1/chat/completions", CHAT),
            request("GET", "/v1/models/one"),
            request("POST", "/route", CHAT),
            request("POST", "/v1/chat/completions", STREAM),
            request("GET", "/v1/models/two"),
            request("DELETE", "/v1/chat/completions"),
            request("POST", "/v1/chat/completions", CHAT),
        )
        answers = [connection.answer() for _ in range(8)]
    assert [answer.status for answer in answers] == [200, 200, 404, 200, 200, 404, 405, 200]
    assert b"`one`" in answers[2].body
    assert b"`two`" in answers[5].body
    assert answers[3].json()["reason"]
    assert answers[4].body.startswith(b"data: ")


def test_a_control_request_may_come_in_pieces_and_in_chunks(router: Router) -> None:
    body = b'{"messages": [{"role": "user", "content": "hi"}]}'
    pieces = [body[start : start + 7] for start in range(0, len(body), 7)]
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    whole = request("POST", "/route", transfer_encoding="chunked") + chunked
    with Connection(router.url) as connection:
        for start in range(0, len(whole), 11):
            connection.send(whole[start : start + 11])
        assert connection.answer().status == 200
        assert connection.ask("GET", "/health").status == 200


def test_a_client_that_asks_to_close_is_closed_after_its_answer(router: Router) -> None:
    with Connection(router.url) as connection:
        assert connection.ask("GET", "/health", connection="close").status == 200
        assert connection.at_end()


def test_a_body_that_is_too_large_is_refused_on_control_endpoints_too(
    start_router: StartRouter,
) -> None:
    router = start_router(flags=("--max-body-bytes", "1000"))
    with Connection(router.url) as connection:
        answer = connection.ask("POST", "/workers", b"x" * 2000)
    assert answer.status == 413
    assert answer.json()["error"]["code"] == "body_too_large"


def test_a_client_that_does_not_read_gets_all_its_answers_later_and_costs_no_memory(
    start_router: StartRouter,
) -> None:
    """200 answers of 100 KB each, asked for at once and not read: they wait to be made."""
    nowhere = [f"http://127.0.0.1:{port}" for port in range(1, 201)]
    router = start_router(*nowhere)
    count = 200
    with Connection(router.url, receive_buffer_bytes=64 * 1024) as connection:
        size = len(connection.ask("GET", "/workers").body)
        assert size > 50_000
        before = resident_bytes(router)
        connection.send(
            *(request("GET", "/workers") + request("GET", f"/v1/models/{n}") for n in range(count))
        )
        eventually(Stalled(connection), "the router has filled the client's buffers")
        assert httpx.get(f"{router.url}/health", trust_env=False).status_code == 200
        assert resident_bytes(router) - before < count * size / 2
        for number in range(count):
            assert abs(len(connection.answer().body) - size) < size / 10
            assert connection.answer().status in (404, 503), number


def test_a_client_that_leaves_inside_a_control_answer_harms_nobody(router: Router) -> None:
    for _ in range(20):
        with Connection(router.url) as connection:
            connection.send(request("GET", "/openapi.json") * 20)
        with Connection(router.url) as connection:
            connection.send(request("POST", "/workers", b'{"url":'))
    assert httpx.get(f"{router.url}/readiness", trust_env=False).status_code == 200

    def connections() -> int:
        state = httpx.get(f"{router.url}/debug/state", trust_env=False).json()
        return int(state["client_connections"])

    eventually(lambda: connections() == 1, "only the asking connection is left")


class Stalled:
    """True once nothing more arrives for a client that does not read. State: what waited, since when."""

    # The loopback delivers in microseconds.
    _QUIET_S = 0.3

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting = -1
        self._since = time.monotonic()

    def __call__(self) -> bool:
        answer = fcntl.ioctl(self._connection.socket.fileno(), termios.FIONREAD, b"\0" * 4)
        waiting = struct.unpack("i", answer)[0]
        if waiting != self._waiting:
            self._waiting, self._since = waiting, time.monotonic()
        return waiting > 0 and time.monotonic() - self._since > self._QUIET_S


def resident_bytes(router: Router) -> int:
    with open(f"/proc/{router.pid}/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096
