"""Requests and answers through the router, byte for byte, over real sockets."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

from live.fake_worker import Call, chunk
from live.front import CHAT, CHAT_PATH, Front, status, streams
from live.wire import Connection, request

ENDPOINTS: dict[str, bytes | dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "m", "prompt": "hello " * 100},
    "/v1/responses": {"model": "m", "input": "hello " * 100},
    "/v1/messages": {"model": "m", "max_tokens": 9, "messages": CHAT["messages"]},
    "/v1/embeddings": {"model": "m", "input": ["a", "b"]},
    "/generate": {"text": "hello " * 100, "sampling_params": {"max_new_tokens": 4}},
    "/v1/rerank": {"model": "m", "query": "x", "documents": ["0\r\n\r\n"]},
    "/v1/audio/transcriptions": b"\0\xff not json \r\n\r\n",
}

EVENTS = [
    b"data: 0\r\n\r\n", b'data: {"choices": []}\n\n', b"0\r\n\r\n", b"\r\n", b": ping\n\n",
    b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 70_000, b"data: [DONE]\n\n",
]  # fmt: skip


@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_request_arrives_and_its_plain_answer_comes_back_byte_for_byte(front: Front, path: str) -> None:
    body = ENDPOINTS[path]
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    front.script(lambda call: call.answer(b"\0answer\r\n\r\n0\r\n\r\n" * 100, 200, "x-engine: yes"))
    answer = front.ask(sent, path + "?x=1", x_mine="1")
    assert (answer.status, answer.body) == (200, b"\0answer\r\n\r\n0\r\n\r\n" * 100)
    assert answer.headers["x-engine"] == "yes"
    (call,) = front.calls
    assert call.line == f"POST {path}?x=1 HTTP/1.1"
    assert call.body == sent
    assert call.headers["x-mine"] == "1"
    assert call.headers["host"] == call.worker.url.removeprefix("http://")


@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_streamed_answer_comes_back_byte_for_byte(front: Front, path: str) -> None:
    body = ENDPOINTS[path]
    front.script(streams(lambda: EVENTS))
    asked = body if isinstance(body, bytes) else body | {"stream": True}
    answer = front.ask(asked, path)
    assert (answer.status, answer.body) == (200, b"".join(EVENTS))
    assert answer.headers["content-type"] == "text/event-stream"


@pytest.mark.parametrize("seed", range(6))
def test_an_answer_in_any_pieces_comes_back_with_its_own_framing(front: Front, seed: int) -> None:
    """Chunk sizes, extensions and trailers included: nothing is written anew."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    written = b"".join(chunk(event) for event in EVENTS * 2) + b"4;a=b\r\n\r\n\r\n\r\n00\r\nx-sum: 1\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    def run(call: Call) -> None:
        data = head + written
        cuts = sorted(chance.randrange(len(data)) for _ in range(40))
        call.write(*(data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)))

    front.script(run)
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, CHAT, connection="close"))
        raw = connection._rest()
    assert raw.partition(b"\r\n\r\n")[2] == written


def test_a_large_body_in_pieces_arrives_whole(front: Front) -> None:
    body = random.Random(1).randbytes(1_000_000)
    front.script(lambda call: call.answer(call.body[::-1]))
    whole = request("POST", "/v1/rerank", body)
    with front.connect() as connection:
        for start in range(0, len(whole), 9_973):
            connection.send(whole[start : start + 9_973])
        assert connection.answer().body == body[::-1]
    assert front.calls[0].headers["content-length"] == "1000000"


@pytest.mark.parametrize("size", [0, 1, 7, 5000])
def test_a_chunked_request_arrives_with_a_length(front: Front, size: int) -> None:
    body = json.dumps(CHAT).encode() + b" \r\n0\r\n\r\n" * (size > 0)
    pieces = [body[start : start + (size or len(body))] for start in range(0, len(body), size or len(body))]
    whole = request("POST", "/v1/rerank", transfer_encoding="chunked", trailer="x")
    whole += b"".join(map(chunk, pieces)) + b"0\r\nx: y\r\n\r\n"
    with front.connect() as connection:
        connection.send(whole + request("POST", CHAT_PATH, CHAT))  # the next one, behind it
        assert connection.answer().status == connection.answer().status == 200
    chunked, plain = sorted(front.calls, key=lambda call: call.path, reverse=True)
    assert chunked.body == body
    assert chunked.headers["content-length"] == str(len(body))
    assert "transfer-encoding" not in chunked.headers
    assert json.loads(plain.body) == CHAT


def test_a_client_that_waits_for_100_continue_gets_it_before_its_body(front: Front) -> None:
    body = json.dumps(CHAT).encode()
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, body, expect="100-continue").removesuffix(body))
        assert connection._until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue"
        connection.send(body)
        assert connection.answer().status == 200
        both = request("POST", CHAT_PATH, body, expect="100-continue")  # it did not wait: no 100 is due
        connection.send(both)
        assert connection.answer().status == 200
    assert "expect" not in front.calls[0].headers


def test_pipelined_requests_are_answered_in_order_whatever_they_take(front: Front) -> None:
    def run(call: Call) -> None:
        number = json.loads(call.body)["n"]
        if number % 2:
            call.stream()
            call.chunk(b"n%d" % number)
            call.end()
        else:
            call.answer(b"n%d" % number)

    front.script(run)
    chance = random.Random(5)
    for _ in range(3):
        whole = b"".join(request("POST", CHAT_PATH, CHAT | {"n": n}) for n in range(30))
        with front.connect() as connection:
            at = 0
            while at < len(whole):
                size = chance.choice((1, 20, 1000, 20_000))
                connection.send(whole[at : at + size])
                at += size
            assert [connection.answer().body for _ in range(30)] == [b"n%d" % n for n in range(30)]


def test_one_connection_to_a_worker_carries_one_request_after_the_other(front: Front) -> None:
    before = [worker.accepted for worker in front.workers]
    with front.connect() as connection:
        for _ in range(20):
            assert connection.ask("POST", CHAT_PATH, CHAT).status == 200
    opened = sum(call.number_on_connection == 1 for call in front.calls)
    assert opened <= 2, before
    assert max(call.number_on_connection for call in front.calls) >= 10


def test_a_connection_with_bytes_behind_its_answer_carries_no_other_request(front: Front) -> None:
    def run(call: Call) -> None:
        call.answer(b"one")
        call.write(b"HTTP/1.1 200 OK\r\n")

    front.script(run)
    with front.connect() as connection:
        for _ in range(6):
            answer = connection.ask("POST", CHAT_PATH, CHAT)
            assert (answer.status, answer.body) == (200, b"one")


def test_junk_in_the_same_write_as_the_answer_does_not_reach_the_client(front: Front) -> None:
    junk = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"
    front.script(lambda call: call.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none" + junk))
    with front.connect() as connection:
        for _ in range(4):
            assert connection.ask("POST", CHAT_PATH, CHAT).body == b"one"
    assert all(call.number_on_connection == 1 for call in front.calls)


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 3000,
    ],
    ids=["one", "two", "many"],
)
@pytest.mark.parametrize("apart", [False, True])
def test_interim_answers_of_a_worker_are_dropped(front: Front, interim: bytes, *, apart: bool) -> None:
    final = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none"
    front.script(lambda call: call.write(interim, final) if apart else call.write(interim + final))
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, CHAT, connection="close"))
        raw = connection._rest()
    assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
    assert raw.endswith(b"\r\n\r\none")
    assert raw.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("code", [204, 304])
def test_an_answer_that_has_no_body_ends_with_its_head(front: Front, code: int) -> None:
    front.script(lambda call: call.write(b"HTTP/1.1 %d X\r\netag: x\r\n\r\n" % code))
    with front.connect() as connection:
        for _ in range(3):
            assert connection.ask("POST", CHAT_PATH, CHAT).status == code


def until_close(call: Call) -> None:
    call.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nall ", b"of it")
    call.close()


def test_an_answer_without_length_ends_with_the_workers_connection(front: Front) -> None:
    front.script(until_close)
    with front.connect() as connection:
        answer = connection.ask("POST", CHAT_PATH, CHAT)
        assert (answer.status, answer.body) == (200, b"all of it")
        assert answer.headers["connection"] == "close"


def old_plain(call: Call) -> None:
    call.write(b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\n", b"one")
    call.close()


def closing(call: Call) -> None:
    call.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nKeep-Alive: x\r\ncontent-length: 3\r\n\r\none")
    call.close()


@pytest.mark.parametrize("script", [old_plain, closing])
def test_a_worker_that_closes_behind_its_answer_does_not_close_the_client(
    front: Front, script: object
) -> None:
    front.script(script)  # type: ignore[arg-type]
    with front.connect() as connection:
        for _ in range(3):
            answer = connection.ask("POST", CHAT_PATH, CHAT)
            assert (answer.status, answer.body) == (200, b"one")
            assert "connection" not in answer.headers


def old_client(connection: Connection, more: str = "") -> tuple[bytes, bytes]:
    """Head and body of the answer to an HTTP/1.0 request, up to the end of the connection."""
    body = json.dumps(CHAT)
    connection.send(f"POST {CHAT_PATH} HTTP/1.0\r\n{more}content-length: {len(body)}\r\n\r\n{body}".encode())
    head, _, answer = connection._rest().partition(b"\r\n\r\n")
    return head.lower(), answer


def pieces() -> Iterator[tuple[bytes, ...]]:
    whole = (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"".join(map(chunk, EVENTS)) + b"0\r\n\r\n"
    )
    yield (whole,)
    yield (*(whole[n : n + 1] for n in range(300)), whole[300:])
    yield tuple(whole[n : n + 4096] for n in range(0, len(whole), 4096))


@pytest.mark.parametrize("written", list(pieces()), ids=["whole", "bytes", "blocks"])
@pytest.mark.parametrize("more", ["", "connection: keep-alive\r\n"])
def test_a_client_of_http_1_0_gets_a_chunked_answer_without_chunks(
    front: Front, written: tuple[bytes, ...], more: str
) -> None:
    front.script(lambda call: call.write(*written))
    with front.connect() as connection:
        head, body = old_client(connection, more)
    assert body == b"".join(EVENTS)
    assert b"transfer-encoding" not in head
    assert b"\r\nconnection: close" in head


def test_a_client_of_http_1_0_gets_a_plain_answer_as_it_is(front: Front) -> None:
    front.script(
        lambda call: call.answer(b"keep-alive: no\r\nconnection: maybe", 200, "connection: keep-alive")
    )
    with front.connect() as connection:
        head, body = old_client(connection)
    assert body == b"keep-alive: no\r\nconnection: maybe"
    assert re.findall(rb"connection: (\S+)", head) == [b"close"]


def test_a_client_that_wants_its_connection_closed_is_told_so_once(front: Front) -> None:
    front.script(lambda call: call.answer(b"connection: maybe", 200, "Connection: keep-alive"))
    with front.connect() as connection:
        answer = connection.ask("POST", CHAT_PATH, CHAT, connection="close")
        assert (answer.headers["connection"], answer.body) == ("close", b"connection: maybe")
        assert connection.at_end()


def test_headers_say_where_the_request_went_and_why(front: Front) -> None:
    for body in (CHAT, CHAT | {"stream": True}):
        front.script(streams(lambda: EVENTS))
        answer = front.ask(body)
        assert answer.headers["x-router-worker"] in {worker.url for worker in front.workers}
        assert re.fullmatch(r"[a-z_]+", answer.headers["x-router-reason"])
        assert answer.headers["x-router-predicted-hit-tokens"].isdigit()


def test_request_ids_are_made_or_kept_and_sent_to_the_worker(front: Front) -> None:
    made = {front.ask().headers["x-request-id"] for _ in range(5)}
    assert len(made) == 5
    assert {call.headers["x-request-id"] for call in front.calls} == made
    assert front.ask(x_request_id="mine").headers["x-request-id"] == "mine"
    assert any(call.headers["x-request-id"] == "mine" for call in front.calls)
    assert front.ask(x_request_id="m" * 500).headers["x-request-id"] != "m" * 500
    assert front.ask(b"[]", x_request_id="bad").headers["x-request-id"] == "bad"


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 413, 422, 499])
@pytest.mark.parametrize("body", [CHAT, CHAT | {"stream": True}], ids=["plain", "stream"])
def test_a_refusal_of_the_worker_is_passed_on_and_not_counted_against_it(
    front: Front, code: int, body: object
) -> None:
    failures = front.counted("router_worker_failures_total")
    front.script(status(code))
    answer = front.ask(body)
    assert (answer.status, answer.json()) == (code, {"error": {"message": "from the worker"}})
    assert len(front.calls) == 1
    assert front.counted("router_worker_failures_total") == failures


def test_a_refusal_is_no_first_token(front: Front) -> None:
    front.script(status(400))
    before = front.counted("router_ttft_seconds_count")
    assert front.ask(CHAT | {"stream": True}).status == 400
    front.wait_idle()
    assert front.counted("router_ttft_seconds_count") == before
    assert front.counted("router_ttft_seconds_sum") >= 0


def test_a_router_error_has_the_shape_that_the_clients_api_knows(front: Front) -> None:
    openai = front.ask(b"no json")
    assert openai.status == 400
    error = openai.json()["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_json")
    anthropic = front.ask(b"no json", "/v1/messages")
    assert anthropic.status == 400
    assert anthropic.json()["type"] == "error"
    assert set(anthropic.json()["error"]) == {"type", "message"}
    assert not front.calls


def test_a_target_in_absolute_form_reaches_its_endpoint(front: Front) -> None:
    answer = front.ask(path=f"http://router.example:30000{CHAT_PATH}?x=1")
    assert answer.status == 200
    [call] = front.calls
    assert call.line == f"POST {CHAT_PATH}?x=1 HTTP/1.1"
