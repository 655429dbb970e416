"""Which requests become spans, how they reach the collector, and that no request waits for one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from live.fake_worker import fake_workers
from live.front import CHAT, CHAT_PATH, Front
from live.otlp import Collector, StartTraced
from live.polling import eventually
from live.processes import spawn_router
from warmroute.tracing import export
from warmroute.tracing.export import BATCH_SPANS, QUEUE_SPANS_MAX, Export, endpoint

SAMPLED = f"00-{1:032x}-{2:016x}-01"


def ask_often(front: Front, times: int, **headers: str) -> None:
    with front.connect() as connection:
        for _ in range(times):
            assert connection.ask("POST", CHAT_PATH, CHAT, **headers).status == 200


def test_with_ratio_0_only_traces_that_clients_sample_are_sampled(
    start_traced: StartTraced, spans: Collector
) -> None:
    front = start_traced("--otel-sample-ratio", "0")
    ask_often(front, 20)
    ask_often(front, 2, traceparent=SAMPLED)
    assert [span.trace_id for span in spans.wait_spans(2)] == [f"{1:032x}"] * 2
    unsampled = [call.headers["traceparent"] for call in front.calls[:20]]
    assert len(set(unsampled)) == 20
    assert all(field.startswith("00-") and field.endswith("-00") for field in unsampled)


def test_half_of_the_traces_that_begin_here_are_sampled_by_their_id(
    start_traced: StartTraced, spans: Collector
) -> None:
    front = start_traced("--otel-sample-ratio", "0.5")
    ask_often(front, 60)
    fields = [call.headers["traceparent"].split("-") for call in front.calls]
    sampled = {field[1] for field in fields if field[3] == "01"}
    low_half = {field[1] for field in fields if int(field[1][16:], 16) < 1 << 63}
    assert sampled == low_half
    assert {span.trace_id for span in spans.wait_spans(len(sampled))} == sampled


def test_the_services_name_and_the_senders_headers_are_what_operator_and_environment_say(
    start_traced: StartTraced, spans: Collector
) -> None:
    env = {
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=me",
        "OTEL_SERVICE_NAME": "not-this",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=lab",
    }
    ask_often(start_traced("--otel-service-name", "edge", env=env), 1)
    [span] = spans.wait_spans()
    assert (span.resource["service.name"], span.resource["deployment.environment.name"]) == ("edge", "lab")
    assert spans.headers["x-tenant"] == "me"
    assert spans.paths == {"/v1/traces"}


def test_what_waits_is_sent_before_the_router_ends(start_traced: StartTraced, spans: Collector) -> None:
    front = start_traced(env={"OTEL_BSP_SCHEDULE_DELAY": "3600000"})
    ask_often(front, 3)
    assert not spans.spans
    front.router.terminate()
    assert front.router.wait() == 0
    assert len(spans.spans) == 3


def test_requests_do_not_wait_for_a_collector_that_does_not_answer(
    start_traced: StartTraced, spans: Collector
) -> None:
    front = start_traced()
    spans.answers.clear()
    try:
        ask_often(front, 300)
        assert not spans.spans
    finally:
        spans.answers.set()
    spans.wait_spans(300)
    assert front.counted("router_trace_spans_dropped_total") == 0


def test_spans_that_a_collector_refuses_are_counted(start_traced: StartTraced, spans: Collector) -> None:
    front = start_traced()
    spans.status = 400
    try:
        ask_often(front, 3)
        eventually(lambda: front.counted("router_trace_spans_dropped_total") == 3, "all are counted")
    finally:
        spans.status = 200
    ask_often(front, 1)
    spans.wait_spans(1)


def test_a_collector_that_is_away_costs_spans_and_no_request(tmp_path: Path) -> None:
    with fake_workers(2) as [worker, absent]:
        absent.stop_listening()
        router = spawn_router(
            tmp_path / "router.log",
            *("--backend", worker.url, "--otel-endpoint", absent.url, "--no-model-discovery"),
            env={"OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"},
        )
        try:
            front = Front(router, [worker])
            ask_often(front, 3)
            eventually(lambda: front.counted("router_trace_spans_dropped_total") == 3, "all are counted")
        finally:
            router.kill()


def test_spans_beyond_the_queue_are_dropped_and_counted_without_waiting(spans: Collector) -> None:
    sender = Export(spans.url)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(sender)
    tracer = provider.get_tracer("test")
    spans.answers.clear()
    sent = QUEUE_SPANS_MAX + BATCH_SPANS + 100
    try:
        for _ in range(sent):
            tracer.start_span("x").end()
        assert 100 <= sender.dropped <= 100 + BATCH_SPANS  # a batch may be on its way
    finally:
        spans.answers.set()
    sender.shutdown()
    assert len(spans.spans) + sender.dropped == sent


class Raises(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise ValueError("a fault of the exporter's own")


def test_a_batch_whose_export_raises_is_counted_as_lost() -> None:
    counted = export._Counted(Raises())
    with pytest.raises(ValueError, match="of the exporter's own"):
        counted.export([ReadableSpan("a"), ReadableSpan("b")])
    assert (counted.taken, counted.done, counted.failed) == (2, 2, 2)


def test_a_flush_ends_although_the_collector_does_not_answer(
    spans: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(export, "FLUSH_S", 0.1)
    sender = Export(spans.url)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(sender)
    provider.get_tracer("test").start_span("x").end()
    spans.answers.clear()
    try:
        sender.shutdown()
        assert not spans.spans
    finally:
        spans.answers.set()
    assert [record.spans for record in caplog.records if record.message == "spans were lost"] == [1]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("url", "posted_to"),
    [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
    ],
)
def test_a_url_without_a_path_gets_the_standard_one(url: str, posted_to: str) -> None:
    assert endpoint(url) == posted_to


def without_the_libraries(folder: Path) -> dict[str, str]:
    """The environment of a Python that has them not. Their API may come with another package."""
    (folder / "sitecustomize.py").write_text(
        "import sys\nsys.modules['opentelemetry.sdk'] = sys.modules['opentelemetry.exporter'] = None\n"
    )
    return {"PYTHONPATH": os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", "")))}


def test_without_the_libraries_the_start_says_what_to_install(tmp_path: Path) -> None:
    env = without_the_libraries(tmp_path)
    with pytest.raises(AssertionError, match=r"the router ended") as ended:
        spawn_router(tmp_path / "router.log", "--otel-endpoint", "http://127.0.0.1:9", env=env)
    assert "cannot start: otel_endpoint needs OpenTelemetry" in str(ended.value)
    assert "pip install 'warmroute[otel]'" in str(ended.value)
    assert "Traceback" not in str(ended.value)


def test_without_an_endpoint_nothing_is_loaded_and_the_clients_fields_pass_through(tmp_path: Path) -> None:
    env = without_the_libraries(tmp_path) | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with fake_workers(1) as [worker]:
        router = spawn_router(
            tmp_path / "router.log", "--backend", worker.url, "--no-model-discovery", env=env
        )
        try:
            assert Front(router, [worker]).ask(traceparent="anything", tracestate="at all").status == 200
        finally:
            router.kill()
    fields = [field for field in worker.calls[0].fields if field[0].startswith("trace")]
    assert fields == [("traceparent", "anything"), ("tracestate", "at all")]
