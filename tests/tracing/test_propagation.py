"""The trace that a client is in goes on in the worker, once, and malformed fields are as if not there."""

from __future__ import annotations

from typing import Any

import pytest

from live.fake_worker import Call
from live.front import CHAT, Front
from live.otlp import Collector
from live.polling import eventually
from live.wire import request
from warmroute.tracing.context import parent_of, trace_id_of
from warmroute.wire.heads import Head, HeadCache, take_trace_fields

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


def sent(call: Call, name: str) -> list[str]:
    """All values of a field that a worker got, one for each line."""
    return [value for known, value in call.fields if known == name]


def test_a_sampled_trace_is_continued_by_our_span_and_then_the_worker(front: Front, spans: Collector) -> None:
    assert front.ask(traceparent=SAMPLED, tracestate="a=1,b=2").status == 200
    [span] = spans.wait_spans()
    assert (span.trace_id, span.parent_id, span.state) == (TRACE, SPAN, "a=1,b=2")
    [call] = front.calls
    assert sent(call, "traceparent") == [f"00-{TRACE}-{span.span_id}-01"]
    assert sent(call, "tracestate") == ["a=1,b=2"]


def test_a_trace_that_is_not_sampled_passes_through_as_it_came(front: Front, spans: Collector) -> None:
    assert front.ask(traceparent=UNSAMPLED, tracestate="a=1").status == 200
    front.ask(traceparent=SAMPLED)
    assert len(spans.wait_spans()) == 1
    assert sent(front.calls[0], "traceparent") == [UNSAMPLED]
    assert sent(front.calls[0], "tracestate") == ["a=1"]


def test_several_lines_of_state_become_one_list(front: Front, spans: Collector) -> None:
    body = request(
        "POST", "/v1/chat/completions", CHAT, traceparent=SAMPLED, Tracestate="a=1", tracestate="b=2"
    )
    with front.connect() as connection:
        connection.send(body)
        assert connection.answer().status == 200
    assert sent(front.calls[0], "tracestate") == ["a=1,b=2"]
    assert spans.wait_spans()[0].state == "a=1,b=2"


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "nonsense",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-zz",
    ],
)
def test_a_malformed_parent_begins_a_new_trace_without_its_state(
    front: Front, spans: Collector, malformed: str
) -> None:
    assert front.ask(traceparent=malformed, tracestate="a=1").status == 200
    [span] = spans.wait_spans()
    assert span.parent_id == ""
    assert span.trace_id != TRACE
    [call] = front.calls
    assert sent(call, "traceparent") == [f"00-{span.trace_id}-{span.span_id}-01"]
    assert sent(call, "tracestate") == []


def test_two_parents_are_none() -> None:
    line = f"traceparent: {SAMPLED}\r\n".encode()
    assert parent_of(line) is not None
    assert parent_of(line + line) is None


def test_a_later_version_may_say_more_and_is_understood_as_far_as_this_one_goes() -> None:
    parent = parent_of(f"Traceparent: cc-{TRACE}-{SPAN}-01-what-comes\r\n".encode())
    assert parent is not None
    assert (f"{parent.trace_id:032x}", f"{parent.span_id:016x}", parent.sampled) == (TRACE, SPAN, True)


def test_without_tracing_the_clients_fields_are_forwarded_by_the_head_and_no_id_is_known() -> None:
    assert trace_id_of(b"") is None
    plans = HeadCache(lambda head: head.forwarded())
    head = f"POST /v1/x HTTP/1.1\r\nhost: r\r\ntraceparent: {SAMPLED}\r\ncontent-length: 1\r\n\r\n".encode()
    forwarded, _ = plans.read(head)
    assert b"traceparent: " + SAMPLED.encode() in forwarded


def test_heads_that_differ_only_in_their_trace_are_one_kind_of_head() -> None:
    made: list[bytes] = []

    def plan(head: Head) -> bytes:
        made.append(head.forwarded())
        return made[-1]

    plans = HeadCache(plan)
    for number in range(3):
        head = (
            f"POST /v1/x HTTP/1.1\r\nTraceparent: 00-{number:032x}-{SPAN}-01\r\nhost: r\r\n"
            f"tracestate: n={number}\r\ncontent-length: {number}\r\n\r\n"
        ).encode()
        rest, fields = take_trace_fields(head)
        assert fields == f"Traceparent: 00-{number:032x}-{SPAN}-01\r\ntracestate: n={number}\r\n".encode()
        assert plans.read(rest)[1] == number
    assert made == [b"POST /v1/x HTTP/1.1\r\n"]


@pytest.mark.parametrize(
    "lines",
    [
        b"traceparent: a\r\n  folded\r\nx: y",
        b"traceparent : a",
        b"x: y\ntraceparent: a",
        b"traceparent: a\x00b",
        b"traceparent: a\x01b",
    ],
)
def test_what_no_head_may_hold_is_refused_with_trace_fields_as_without(front: Front, lines: bytes) -> None:
    with front.connect() as connection:
        connection.send(
            b"POST /v1/completions HTTP/1.1\r\nhost: r\r\n" + lines + b"\r\ncontent-length: 2\r\n\r\n{}"
        )
        assert connection.answer().status == 400
    assert front.calls == []


@pytest.mark.parametrize(
    "state",
    [
        ",,,",
        "=",
        "a",
        "a=1,a=2",
        "a=" + "x" * 600,
        ",".join(f"k{n}=1" for n in range(40)),
        "A=1",
        "ä=ö",
        "a=1;;",
    ],
)
def test_a_state_that_is_not_quite_one_costs_nobody_an_answer(
    front: Front, spans: Collector, state: str
) -> None:
    with front.connect() as connection:
        head = (
            f"POST /v1/completions HTTP/1.1\r\nhost: r\r\ntraceparent: {SAMPLED}\r\ntracestate: {state}\r\n"
        )
        connection.send(head.encode() + b"content-length: 2\r\n\r\n{}")
        assert connection.answer().status == 200
    [span] = spans.wait_spans()
    assert span.parent_id == SPAN
    [call] = front.calls
    assert sent(call, "traceparent") == [f"00-{TRACE}-{span.span_id}-01"]
    assert sent(call, "tracestate") == ([span.state] if span.state else [])


def test_pipelined_requests_keep_their_own_traces(front: Front, spans: Collector) -> None:
    parents = [f"00-{number:032x}-{SPAN}-01" for number in (1, 2, 3)]
    with front.connect() as connection:
        connection.send(
            request("POST", "/v1/chat/completions", CHAT, traceparent=parents[0], tracestate="a=1"),
            request("POST", "/v1/chat/completions", CHAT, traceparent=parents[1]),
            request("POST", "/v1/chat/completions", CHAT),
        )
        for _ in range(3):
            assert connection.answer().status == 200
    received = spans.wait_spans(3)
    assert [span.parent_id for span in received] == [SPAN, SPAN, ""]
    assert [span.trace_id for span in received[:2]] == [f"{1:032x}", f"{2:032x}"]
    assert [sent(call, "tracestate") for call in front.calls] == [["a=1"], [], []]


def test_the_access_log_names_the_trace(front: Front, spans: Collector) -> None:
    front.ask(traceparent=SAMPLED, x_request_id="traced-line")
    spans.wait_spans()
    assert line_of(front, "traced-line")["trace_id"] == TRACE


def test_the_access_log_names_the_trace_of_a_body_that_cannot_be_read(front: Front, spans: Collector) -> None:
    assert front.ask(b"{", traceparent=SAMPLED, x_request_id="refused-line").status == 400
    spans.wait_spans()
    assert line_of(front, "refused-line")["trace_id"] == TRACE


def line_of(front: Front, request_id: str) -> dict[str, Any]:
    def find() -> dict[str, Any] | None:
        return next((line for line in front.router.lines() if line.get("request_id") == request_id), None)

    line = eventually(find, "the access log has the line")
    assert line is not None
    return line
