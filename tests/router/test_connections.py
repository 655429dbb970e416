"""Clients: what they may send, how long they may take, what happens when they leave or do not read."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from live.fake_worker import Call, fake_workers, ok
from live.front import CHAT, CHAT_PATH, STREAM, Front, first
from live.fronts import front_before
from live.polling import eventually
from live.wire import request

StartFront = Callable[..., Front]

MIB = 1 << 20


# --- leaving ------------------------------------------------------------------------------------


def head_only(call: Call) -> None:
    call.stream()
    call.wait_gone()


def mid_stream(call: Call) -> None:
    call.stream()
    call.chunk(b"data: 1\n\n")
    while not call.wait_gone(0.05):
        call.chunk(b"data: 1\n\n")


@pytest.mark.parametrize("script", [Call.wait_gone, head_only, mid_stream], ids=["waits", "head", "stream"])
@pytest.mark.parametrize("how", ["closes", "resets", "half-closes"])
def test_a_client_that_leaves_stops_its_worker_at_once(
    front: Front, script: Callable[[Call], None], how: str
) -> None:
    front.script(script)
    gone = front.counted("router_requests_total", outcome="client_gone")
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, STREAM))
        (call,) = front.wait_calls(1)
        if script is mid_stream:
            connection._until(b"data: 1\n\n")
        if how == "resets":
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        elif how == "half-closes":
            connection.socket.shutdown(socket.SHUT_WR)
            eventually(call.gone.is_set, "the worker sees that it was given up")
    eventually(call.gone.is_set, "the worker sees that it was given up")
    front.wait_idle()
    assert front.counted("router_requests_total", outcome="client_gone") == gone + 1
    assert len(front.calls) == 1, "nobody else is asked"


def test_a_client_may_leave_while_its_worker_is_being_connected(start_front: StartFront) -> None:
    front = start_front("--connect-timeout-s", "60", "--health-fall", "1000", "--health-timeout-s", "0.2")
    (worker,) = front.workers
    with worker.full():
        with front.connect() as connection:
            connection.send(request("POST", CHAT_PATH, CHAT))
            eventually(lambda: front.state()["exchanges"]["total"] == 1, "the request is on its way")
        front.wait_idle()
    assert front.counted("router_requests_total", outcome="client_gone") == 1
    assert front.ask().status == 200
    assert len(worker.calls) == 1, "the request whose client had left never arrived"


def test_a_worker_that_cannot_be_connected_in_time_is_given_up(start_front: StartFront) -> None:
    front = start_front("--connect-timeout-s", "0.3", "--health-fall", "1000", "--health-timeout-s", "0.2")
    with front.workers[0].full():
        answer = front.ask()
    assert (answer.status, answer.json()["error"]["code"]) == (502, "worker_failed")
    assert front.counted("router_worker_failures_total", kind="connect_timeout") == 1


def test_a_client_may_leave_in_the_middle_of_its_request(front: Front) -> None:
    whole = request("POST", CHAT_PATH, b"x" * MIB)
    for size in (1, 50, 200, MIB // 2):
        with front.connect() as connection:
            connection.send(whole[:size])
    eventually(lambda: front.state()["held_body_bytes"] == 0, "nothing of it is kept")
    assert not front.calls


# --- what is refused ------------------------------------------------------------------------------


def refused(front: Front, data: bytes) -> tuple[int, str]:
    """Status and code of the refusal, behind which the router closes."""
    with front.connect() as connection:
        connection.send(data)
        answer = connection.answer()
        assert answer.headers["connection"] == "close"
        assert connection.at_end()
        return answer.status, answer.json()["error"]["code"]


POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    "head",
    [
        POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        POST + b"content-length: 5\r\ncontent-length: 5\r\n\r\n12345",
        POST + b"x: a\r\n b\r\n\r\n",
        b"POST / HTTP/1.1\ncontent-length: 5\nhost: x\n\n12345",
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 5\r\n\r\n12345",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_no_worker_sees_it(front: Front, head: bytes) -> None:
    before = front.counted("router_refusals_total", code="bad_request")
    assert refused(front, head) == (400, "bad_request")
    assert not front.calls
    assert front.counted("router_refusals_total", code="bad_request") == before + 1


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_head_without_end_is_refused(front: Front, pieces: int) -> None:
    head = POST + b"x: " + b"y" * 70_000 + b"\r\n\r\n"
    with front.connect() as connection:
        for n in range(pieces):
            connection.send(head[len(head) * n // pieces : len(head) * (n + 1) // pieces])
        answer = connection.answer()
    assert (answer.status, answer.json()["error"]["code"]) == (431, "head_too_large")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [1_001, 50_000, 3 * MIB])
def test_a_body_beyond_the_limit_is_refused_before_it_is_held(
    small: Front, size: int, *, chunked: bool
) -> None:
    if chunked:
        head = request("POST", CHAT_PATH, transfer_encoding="chunked")
        data = head + b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size)
    else:
        data = request("POST", CHAT_PATH, b"x" * size)
    with small.connect() as connection:
        connection.send(data)
        answer = connection.answer()
    assert (answer.status, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert not small.calls
    assert small.state()["held_body_bytes"] == 0


@pytest.fixture(scope="module")
def small_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A router with small limits and short time-outs."""
    log = tmp_path_factory.mktemp("small") / "router.log"
    flags = (
        *("--no-model-discovery", "--max-body-bytes", "1000"),
        *("--head-timeout-s", "1", "--body-timeout-s", "1", "--keepalive-timeout-s", "1"),
    )
    with fake_workers(1) as workers, front_before(workers, log, *flags) as front:
        yield front


@pytest.fixture
def small(small_front: Front) -> Front:
    small_front.workers[0].forget()
    return small_front


BODY = json.dumps({"messages": []}).encode()


def test_a_slow_head_and_a_slow_body_are_refused_in_time(small: Front) -> None:
    whole = request("POST", CHAT_PATH, BODY)
    for size in (10, len(whole) - 5):
        assert refused(small, whole[:size])[0] == 408
    chunked = request("POST", CHAT_PATH, transfer_encoding="chunked") + b"5\r\nhel"
    assert refused(small, chunked) == (408, "body_timeout")
    assert not small.calls


def test_an_idle_connection_is_closed_without_a_word(small: Front) -> None:
    with small.connect() as connection:
        assert connection.at_end()
    with small.connect() as connection:
        assert connection.ask("POST", CHAT_PATH, BODY).status == 200
        assert connection.at_end()


def test_a_refused_client_that_sends_on_gets_its_refusal_and_is_let_go(small: Front) -> None:
    with small.connect() as connection:
        connection.send(request("POST", CHAT_PATH, b"x" * 2000)[:-1000])
        assert connection.answer().status == 413
        connection.send(b"x" * 1000, request("POST", CHAT_PATH, BODY))
        assert connection.at_end(), "what follows a refusal is not a request"
    assert not small.calls


# --- keys, models ------------------------------------------------------------------------------------


def test_a_request_without_a_known_key_is_refused(start_front: StartFront) -> None:
    front = start_front("--api-key", "one", "--api-key", "two")
    for headers in (
        {"authorization": "Bearer one"},
        {"authorization": "bearer two"},
        {"x_api_key": "two"},
        {"authorization": "Bearer wrong", "x_api_key": "one"},
    ):
        assert front.ask(**headers).status == 200
    assert len(front.calls) == 4
    for wrong in (
        {},
        {"authorization": "Bearer on"},
        {"authorization": "Bearer onee"},
        {"authorization": "Basic one"},
        {"authorization": "one"},
        {"authorization": "Bearer "},
        {"x_api_key": ""},
        {"x_api_key": "wrong"},
    ):
        for path in (CHAT_PATH, "/v1/rerank"):
            answer = front.ask(None, path, **wrong)
            assert (answer.status, answer.json()["error"]["code"]) == (401, "invalid_api_key")
            assert answer.headers["www-authenticate"] == "Bearer"
    large = front.ask(CHAT | {"more": "x" * MIB}, "/v1/messages")
    assert (large.status, large.json()["error"]["type"]) == (401, "authentication_error")
    assert len(front.calls) == 4
    assert front.counted("router_refusals_total", code="invalid_api_key") == 17


def test_a_model_goes_to_its_workers_and_an_unknown_one_is_answered_with_those_that_are_known(
    start_front: StartFront,
) -> None:
    with fake_workers(3) as workers:
        urls = [f"{w.url},model={m}" for w, m in zip(workers, ("a", "b", "b"), strict=True)]
        front = start_front("--backend", *urls, count=0)
        front.workers.extend(workers)
        for _ in range(6):
            assert front.ask(CHAT | {"model": "a"}).json()["worker"] == workers[0].url
            assert front.ask(CHAT | {"model": "b"}).json()["worker"] != workers[0].url
        answer = front.ask(CHAT | {"model": "c"})
        error = answer.json()["error"]
        assert (answer.status, error["code"], error["param"]) == (404, "model_not_found", "model")
        assert "a, b" in error["message"]
        anthropic = front.ask(CHAT | {"model": "c"}, "/v1/messages")
        assert anthropic.json()["error"]["type"] == "not_found_error"
        assert front.ask({"messages": []}).status == 200, "a request that names none may go to any"
        front.wait_idle()


# --- bounded memory -----------------------------------------------------------------------------------


def resident_bytes(front: Front) -> int:
    with open(f"/proc/{front.router.pid}/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096


PIECE = bytes(range(256)) * 256


def fast(total: int) -> Callable[[Call], None]:
    def run(call: Call) -> None:
        call.stream()
        for _ in range(total // len(PIECE)):
            call.chunk(PIECE)
        call.end()

    return run


def fast_plain(total: int) -> Callable[[Call], None]:
    return lambda call: call.answer(PIECE * (total // len(PIECE)))


@pytest.mark.parametrize("answer", [fast, fast_plain])
def test_a_fast_answer_to_a_client_that_does_not_read_waits_at_the_worker(
    front: Front, answer: Callable[[int], Callable[[Call], None]]
) -> None:
    total = 50 * MIB
    front.script(answer(total))
    before = resident_bytes(front)
    with front.connect(receive_buffer_bytes=64 * 1024) as connection:
        connection.send(request("POST", CHAT_PATH, STREAM))

        def stalled() -> bool:
            return any(exchange["client_paused"] for exchange in front.state()["exchanges"]["oldest"])

        eventually(stalled, "the client's buffers are full")
        assert resident_bytes(front) - before < 16 * MIB
        body = connection.answer().body
    assert len(body) == total
    assert body == PIECE * (total // len(PIECE))


@pytest.mark.parametrize("start", [0, 2])
def test_an_answer_that_ends_in_a_full_buffer_holds_up_its_client_and_nobody_else(
    start_front: StartFront, start: int
) -> None:
    """Some of these sizes end just when the client's buffer is full: the worker's connection is free in the
    moment in which it was told to wait, and the client is paused without an answer that could be."""
    front = start_front("--max-client-buffer-bytes", "1KiB", "--first-byte-timeout-s", "5")
    (worker,) = front.workers
    ended = 0
    step = MIB // 8
    for size in range(2 * MIB + start * step, 6 * MIB, 4 * step):
        worker.calls.clear()
        worker.script = first(fast_plain(size), ok)
        with front.connect(receive_buffer_bytes=4096) as slow, front.connect() as other:
            slow.send(request("POST", CHAT_PATH, CHAT))
            front.wait_calls(1)
            eventually(lambda: paused_or_done(front), "the answer has ended, or the client is full")
            whole = front.state()["exchanges"]["total"] == 0
            ended += whole
            assert other.ask("POST", CHAT_PATH, CHAT).status == 200, size
            worker.script = fast_plain(MIB)
            for _ in range(5):
                slow.send(request("POST", CHAT_PATH, CHAT))
                assert other.ask("GET", "/health").status == 200
            if whole:
                eventually(Quiet(front), "the router waits")
            assert len(front.calls) <= 4, "it is not answered ahead"
            assert len(slow.answer().body) == size
            assert [len(slow.answer().body) for _ in range(5)] == [MIB] * 5
    print(f"{ended} answers had ended")


def paused_or_done(front: Front) -> bool:
    return all(exchange["client_paused"] for exchange in front.state()["exchanges"]["oldest"])


def test_a_client_that_pipelines_and_does_not_read_is_not_answered_ahead(front: Front) -> None:
    count, size = 60, 1 * MIB
    front.script(fast_plain(size))
    before = resident_bytes(front)
    with front.connect(receive_buffer_bytes=64 * 1024) as connection:
        small = request("POST", CHAT_PATH, {"messages": []})
        connection.send(small * count)
        front.wait_calls(1)
        eventually(Quiet(front), "the router has filled the client's buffers")
        assert len(front.calls) < 12
        assert resident_bytes(front) - before < 16 * MIB
        for _ in range(count):
            assert len(connection.answer().body) == size
    assert len(front.calls) == count


def test_bodies_that_wait_are_counted_and_turned_away_beyond_the_limit(start_front: StartFront) -> None:
    front = start_front("--max-buffered-bytes", "1MiB")
    may_answer = threading.Event()

    def slow(call: Call) -> None:
        call.hold(may_answer)
        ok(call)

    front.script(slow)
    body = CHAT | {"more": "x" * 300_000}
    waiting = [front.connect() for _ in range(3)]
    for connection in waiting:
        connection.send(request("POST", CHAT_PATH, body))
    front.wait_calls(3)
    assert 900_000 < front.state()["held_body_bytes"] < MIB
    for _ in range(3):
        answer = front.ask(body)
        assert (answer.status, answer.json()["error"]["code"]) == (503, "buffers_full")
        assert "retry-after" in answer.headers
    may_answer.set()
    assert [connection.answer().status for connection in waiting] == [200] * 3
    assert front.ask(body).status == 200
    for connection in waiting:
        connection.socket.close()
    front.wait_idle()


def test_a_worker_that_answers_before_it_has_read_the_request_gets_no_other_one_behind_it(
    start_front: StartFront,
) -> None:
    """The rest of the body still waits to be written: whatever came next would wait behind it."""
    front = start_front()
    (worker,) = front.workers
    worker.eager = b"HTTP/1.1 413 X\r\ncontent-length: 9\r\n\r\ntoo large"
    with front.connect() as connection:
        answer = connection.ask("POST", CHAT_PATH, CHAT | {"more": "x" * (32 * MIB)})
        assert (answer.status, answer.body) == (413, b"too large")
        worker.eager = b""
        for _ in range(3):
            assert connection.ask("POST", CHAT_PATH, CHAT).status == 200
    assert worker.calls[1].number_on_connection == 1


def test_a_slow_worker_gets_a_large_request_whole(front: Front) -> None:
    body = bytes(range(256)) * (20 * MIB // 256)
    front.script(lambda call: call.answer(b"%d" % sum(call.body[:: 1 << 12])))
    assert front.ask(body, "/v1/rerank").body == b"%d" % sum(body[:: 1 << 12])
    assert front.calls[0].body == body


def test_more_clients_than_allowed_are_turned_away(start_front: StartFront) -> None:
    front = start_front("--max-connections", "3")
    held = [front.connect() for _ in range(3)]
    for connection in held:
        assert connection.ask("GET", "/health").status == 200
    with front.connect() as one_more:
        answer = one_more.answer()
        assert (answer.status, answer.json()["error"]["code"]) == (503, "too_many_connections")
    for connection in held:
        connection.socket.close()
    eventually(lambda: front.ask().status == 200, "there is room again")


def test_the_order_of_pipelined_bytes_survives_any_timing(front: Front) -> None:
    """Bytes that arrive between an answer's end and the reading of the backlog stand behind it."""
    count = 400
    front.script(lambda call: call.answer(call.body))
    with front.connect() as connection:
        reader_sees: list[bytes] = []

        def read() -> None:
            reader_sees.extend(connection.answer().body for _ in range(count))

        reader = threading.Thread(target=read)
        reader.start()
        whole = b"".join(request("POST", "/v1/rerank", b"n%d" % n) for n in range(count))
        at = 0
        while at < len(whole):
            size = 37 + at % 301
            connection.send(whole[at : at + size])
            at += size
            if at % 5 == 0:
                time.sleep(0)
        reader.join(20)
        assert not reader.is_alive()
    assert reader_sees == [b"n%d" % n for n in range(count)]


class Quiet:
    """True once no further request reaches the workers. State: how many had, since when."""

    _QUIET_S = 0.15

    def __init__(self, front: Front) -> None:
        self._front = front
        self._calls, self._since = -1, time.monotonic()

    def __call__(self) -> bool:
        calls = len(self._front.calls)
        if calls != self._calls:
            self._calls, self._since = calls, time.monotonic()
        return time.monotonic() - self._since > self._QUIET_S
