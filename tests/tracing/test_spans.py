"""What is in a span, seen by a collector that it was sent to."""

from __future__ import annotations

import json
import threading

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes, url_attributes

from live.fake_worker import USAGE
from live.front import CHAT, STREAM, Front, die, die_after, first, status, streams
from live.otlp import Collector, Event, Received

SERVER = 2  # the kind

# Known to the conventions, whatever the version of the library that carries them.
CONVENTIONS = {
    value
    for module in (gen_ai_attributes, error_attributes, http_attributes, url_attributes)
    for value in vars(module).values()
    if isinstance(value, str)
}


def only_span(spans: Collector) -> Received:
    [span] = spans.wait_spans()
    return span


def test_an_answered_request_is_a_span_with_its_decision_and_its_counts(
    front: Front, spans: Collector
) -> None:
    answer = front.ask(CHAT | {"max_tokens": 64, "prompt_cache_key": "someone's"}, x_request_id="named-1")
    span = only_span(spans)
    assert answer.status == 200
    assert (span.name, span.kind, span.failed, span.parent_id) == (
        "POST /v1/chat/completions", SERVER, False, "",
    )  # fmt: skip
    attributes = span.attributes
    assert attributes.pop("warmroute.prompt_tokens") > 0
    assert attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "url.scheme": "http",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": False,
        "gen_ai.request.max_tokens": 64,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "warmroute.request_id": "named-1",
        "warmroute.session": True,
        "warmroute.policy": "least_requests",
        "warmroute.worker": answer.headers["x-router-worker"],
        "warmroute.reason": answer.headers["x-router-reason"],
        "warmroute.attempts": 1,
        "warmroute.predicted_hit_tokens": 0,
        "warmroute.reusable_tokens": 0,
        "warmroute.outcome": "ok",
    }
    assert span.resource["service.name"] == "warmroute"
    assert 0 < span.duration_s < 20


def test_names_outside_of_warmroutes_own_are_those_of_the_conventions(front: Front, spans: Collector) -> None:
    front.ask(STREAM, traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    foreign = {name for name in only_span(spans).attributes if not name.startswith("warmroute.")}
    assert len(foreign) > 8
    assert foreign <= CONVENTIONS


def test_a_stream_has_an_event_for_its_first_byte(front: Front, spans: Collector) -> None:
    usage = b"data: %b\n\n" % json.dumps({"usage": USAGE}).encode()
    front.script(streams(lambda: [b"data: 1\n\n", usage]))
    assert front.ask(STREAM).status == 200
    span = only_span(spans)
    assert span.events == [Event("warmroute.first_byte", {})]
    assert 0 < span.attributes["gen_ai.response.time_to_first_chunk"] < 20
    assert span.attributes["gen_ai.usage.output_tokens"] == 5


def test_a_retry_is_an_event_that_names_both_workers(front: Front, spans: Collector) -> None:
    front.script(first(die, lambda call: call.answer(b"{}")))
    answer = front.ask()
    span = only_span(spans)
    answered = answer.headers["x-router-worker"]
    [failed] = {call.worker.url for call in front.calls} - {answered}
    [event] = span.events
    assert event.name == "warmroute.retry"
    assert event.attributes["warmroute.failed_worker"] == failed
    assert event.attributes["warmroute.worker"] == answered
    assert event.attributes["warmroute.attempt"] == span.attributes["warmroute.attempts"] == 2
    assert not span.failed


def test_both_attempts_continue_below_the_same_span(front: Front, spans: Collector) -> None:
    front.script(first(status(503), lambda call: call.answer(b"{}")))
    front.ask()
    span = only_span(spans)
    assert [call.headers["traceparent"] for call in front.calls] == [
        f"00-{span.trace_id}-{span.span_id}-01"
    ] * 2


def test_workers_that_all_fail_make_a_failed_span(front: Front, spans: Collector) -> None:
    front.script(die)
    assert front.ask().status == 502
    span = only_span(spans)
    assert span.failed
    assert span.attributes["http.response.status_code"] == 502
    assert span.attributes["error.type"] == span.attributes["warmroute.outcome"] == "worker_error"
    assert span.attributes["warmroute.attempts"] == 2  # no third worker to try


def test_a_stream_that_breaks_is_a_failed_span_with_the_status_that_was_sent(
    front: Front, spans: Collector
) -> None:
    front.script(die_after(2))
    with pytest.raises((AssertionError, ConnectionResetError)):
        front.ask(STREAM)
    span = only_span(spans)
    assert span.failed
    assert span.attributes["http.response.status_code"] == 200
    assert [event.name for event in span.events] == ["warmroute.first_byte"]


def test_a_count_that_no_span_can_hold_is_left_out(front: Front, spans: Collector) -> None:
    assert front.ask(CHAT | {"max_tokens": 2**63}).status == 200
    assert "gen_ai.request.max_tokens" not in only_span(spans).attributes
    assert not front.router.faults()


def test_a_clients_mistake_is_told_and_is_no_failure_of_the_server(front: Front, spans: Collector) -> None:
    front.script(status(422))
    assert front.ask().status == 422
    span = only_span(spans)
    assert not span.failed
    assert span.attributes["http.response.status_code"] == 422
    assert span.attributes["error.type"] == "client_error"


def test_a_body_that_is_no_json_is_a_span_too(front: Front, spans: Collector) -> None:
    assert front.ask(b"{").status == 400
    span = only_span(spans)
    assert (span.attributes["http.response.status_code"], span.attributes["error.type"]) == (
        400, "invalid_json",
    )  # fmt: skip
    assert not span.failed


def test_a_client_that_leaves_ends_its_span(front: Front, spans: Collector) -> None:
    front.script(lambda call: call.wait_gone())
    with front.connect() as connection:
        connection.send(b"POST /v1/completions HTTP/1.1\r\nhost: r\r\ncontent-length: 2\r\n\r\n{}")
        front.wait_calls(1)
    span = only_span(spans)
    assert span.attributes["error.type"] == span.attributes["warmroute.outcome"] == "client_gone"
    assert "http.response.status_code" not in span.attributes
    assert not span.failed


def test_a_path_that_clients_make_up_is_no_name_of_a_span(front: Front, spans: Collector) -> None:
    assert front.ask({"x": 1}, "/v1/made/up").status == 200
    span = only_span(spans)
    assert (span.name, span.attributes["url.path"]) == ("POST /v1/{path}", "/v1/made/up")
    assert "gen_ai.operation.name" not in span.attributes


def test_many_requests_at_once_are_as_many_spans_with_their_own_ids(front: Front, spans: Collector) -> None:
    started = threading.Barrier(8)

    def ask_often() -> None:
        started.wait()
        for _ in range(5):
            assert front.ask().status == 200

    threads = [threading.Thread(target=ask_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    received = spans.wait_spans(40)
    assert len({(span.trace_id, span.span_id) for span in received}) == 40
    by_worker = {call.headers["traceparent"] for call in front.calls}
    assert by_worker == {f"00-{span.trace_id}-{span.span_id}-01" for span in received}
