"""The access log: one line per request, refused ones too, with what the person on call needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from live.fake_worker import USAGE, Call
from live.front import CHAT, STREAM, Front, die, status, streams
from live.polling import eventually


@pytest.fixture
def logged(start_front: Callable[..., Front]) -> Front:
    """A router with an access log and a key."""
    return start_front("--access-log", "--api-key", "k", "--first-byte-timeout-s", "1")


def line_of(front: Front, **fields: object) -> dict[str, Any]:
    """The one line of the access log with these fields."""

    def find() -> dict[str, Any] | None:
        lines = [line for line in front.router.lines() if line["message"] == "request"]
        found = [line for line in lines if fields.items() <= line.items()]
        assert len(found) <= 1
        return found[0] if found else None

    line = eventually(find, f"a line with {fields}")
    assert line is not None
    return line


def ask(front: Front, body: object = CHAT, path: str = "/v1/chat/completions", **headers: str) -> int:
    return front.ask(body, path, authorization="Bearer k", **headers).status


def test_a_line_says_what_came_where_it_went_and_how_it_ended(logged: Front) -> None:
    usage = b"data: %b\n\n" % json.dumps({"usage": USAGE}).encode()
    logged.script(streams(lambda: [b"data: 1\n\n", usage]))
    assert ask(logged, STREAM, x_request_id="a", x_session_id="s") == 200
    line = line_of(logged, request_id="a")
    assert 0 < line.pop("ttft_s") <= line.pop("duration_s") < 20
    assert line.pop("reason")
    for ours in ("time", "level", "logger", "message"):
        line.pop(ours)
    assert line == {
        "request_id": "a",
        "trace_id": None,
        "client": "127.0.0.1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "model": "m",
        "session": "s",
        "stream": True,
        "worker": logged.workers[0].url,
        "outcome": "ok",
        "status": 200,
        "attempts": 1,
        "prompt_tokens": 100,
        "predicted_hit_tokens": 0,
        "reusable_tokens": 0,
        "cached_tokens": 40,
        "completion_tokens": 5,
    }


def test_a_request_without_a_key_has_a_line(logged: Front) -> None:
    assert logged.ask(x_request_id="b").status == 401
    line = line_of(logged, request_id="b")
    assert (line["outcome"], line["status"], line["code"]) == ("refused", 401, "invalid_api_key")
    assert (line["client"], line["path"]) == ("127.0.0.1", "/v1/chat/completions")


def test_a_request_that_no_worker_may_take_has_a_line(logged: Front) -> None:
    logged.router.lines()
    assert ask(logged, b"{", x_request_id="c") == 400
    assert line_of(logged, request_id="c", outcome="refused")["code"] == "invalid_json"
    logged.workers[0].script = die
    assert ask(logged, x_request_id="d") == 502
    assert line_of(logged, request_id="d", outcome="worker_error")["status"] == 502


def test_an_unknown_model_has_a_line_with_its_name(start_front: Callable[..., Front]) -> None:
    front = start_front("--access-log", count=0)
    assert front.ask(x_request_id="e").status in (404, 503)
    line = line_of(front, request_id="e", outcome="refused")
    assert (line["model"], line["status"]) == ("m", front.ask().status)


def test_a_line_has_the_status_that_the_client_got(logged: Front) -> None:
    logged.script(status(429))
    assert ask(logged, x_request_id="f") == 429
    assert line_of(logged, request_id="f")["status"] == 429
    logged.script(fails_in_pieces)
    assert ask(logged, STREAM, x_request_id="i") == 429
    assert line_of(logged, request_id="i")["ttft_s"] is None, "an error is no token"
    logged.script(lambda call: call.wait_gone())
    assert ask(logged, x_request_id="g") == 504
    line = line_of(logged, request_id="g", outcome="timeout")
    assert (line["status"], line["ttft_s"]) == (504, None)


def fails_in_pieces(call: Call) -> None:
    call.write(b"HTTP/1.1 429 Too Many Requests\r\ntransfer-encoding: chunked\r\n\r\n")
    call.chunk(b"slow down")
    call.end()


def test_bytes_that_are_no_request_have_a_line(logged: Front) -> None:
    with logged.connect() as connection:
        connection.send(b"nonsense\r\n\r\n")
        assert connection.answer().status == 400
    line = line_of(logged, code="bad_request")
    assert (line["client"], line["status"]) == ("127.0.0.1", 400)
    assert "path" not in line


def test_a_clients_words_cannot_forge_a_line(logged: Front) -> None:
    forged = 'm"}\n{"message": "router ready"\u2028'
    assert ask(logged, CHAT | {"model": forged}, x_request_id="h") == 200
    assert line_of(logged, request_id="h")["model"] == forged
    assert logged.router.messages().count("router ready") == 1
