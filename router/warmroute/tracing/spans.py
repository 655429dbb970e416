"""One span per inference request: what came, where it was sent and why, how much was cached, how it ended.

Names are OpenTelemetry's where its conventions have one (HTTP server, `gen_ai`), else begin with
`warmroute.`; docs/tracing.md has the table. No prompt, no answer and no session's name is in a span.

Sampling is parent-based: who is in a trace decides for us, a trace that begins here is sampled by its id, as
the SDK's `TraceIdRatioBased` does. The worker always gets one `traceparent`: our span where there is one, the
client's own fields where that is not sampled, else a new trace that says it is not, so that workers that
trace do not begin one each. The decision is made before the SDK is asked, which takes longer to say no.
"""

from __future__ import annotations

import logging
import random
from importlib.metadata import version
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from warmroute.config import Settings
from warmroute.dialects.endpoints import PARSERS, TUNNELS
from warmroute.tracing.context import Parent, fields_for_worker, parent_of
from warmroute.tracing.export import Export
from warmroute_policies.types import Decision, Outcome, RoutingRequest, Usage

if TYPE_CHECKING:
    from warmroute.exchange import Exchange

SERVICE: Final = "warmroute"
"""The service's name where neither the operator nor the environment has one."""

_OPERATIONS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/v1/completions": "text_completion",
    "/generate": "text_completion",
    "/v1/embeddings": "embeddings",
}

_OTHER_ROUTE: Final = "/v1/{path}"
"""Of endpoints that are only passed on: their paths are the clients', and span names must be few."""

# By the conventions a server's span is in error for 5xx, and never by the client's fault or will.
_SPAN_FAILS: Final = frozenset((Outcome.WORKER_ERROR, Outcome.TIMEOUT, Outcome.CANCELLED))

# It would warn of every malformed `tracestate`: clients would write the log.
logging.getLogger("opentelemetry.trace.span").setLevel(logging.ERROR)

_COUNT_MAX: Final = 2**63 - 1
"""Of OTLP. Clients may write any number; of one that does not fit the encoder logs a traceback."""

_NS: Final = 1_000_000_000
_ID_MASK: Final = TraceIdRatioBased.TRACE_ID_LIMIT


class Tracing:
    """An observer. State: the sampled requests that are in progress; the SDK's provider and its export."""

    def __init__(self, settings: Settings, export: Export) -> None:
        self._export = export
        self._ids = _Ids()
        self._bound = TraceIdRatioBased.get_bound_for_rate(settings.otel_sample_ratio)
        name = settings.otel_service_name
        resource = Resource.create({SERVICE_NAME: name} if name else {})
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):  # the SDK's last resort
            resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
        provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=self._ids)
        provider.add_span_processor(export)
        self._tracer = provider.get_tracer(SERVICE, version(SERVICE))
        self._open: dict[int, _Open] = {}

    @property
    def dropped(self) -> int:
        """Reads. Spans that did not reach the collector."""
        return self._export.dropped

    def close(self) -> None:
        """Writes. The router stops: what waits is sent, for a bounded time. Blocks."""
        self._export.shutdown()

    # --- the observer -----------------------------------------------------------------------------

    def arrived(self, exchange: Exchange, request: RoutingRequest, now: float) -> None:
        """Writes. Begins a span if this request is sampled, and says what the worker gets."""
        self._sample(exchange, exchange.began_at)  # the time that it waited for room belongs to it

    def routed(self, exchange: Exchange, decision: Decision, now: float) -> None:
        """Writes. Only a further attempt is an event: the span's attributes tell of the last one."""
        traced = self._open.get(exchange.number)
        if traced is None:
            return
        if decision.attempt:
            traced.span.add_event(
                "warmroute.retry",
                {
                    "warmroute.attempt": decision.attempt + 1,
                    "warmroute.failed_worker": traced.worker,
                    "warmroute.worker": decision.worker,
                    "warmroute.reason": decision.reason,
                    "warmroute.predicted_hit_tokens": decision.predicted_hit_tokens,
                },
                traced.wall_ns(now),
            )
        traced.worker = decision.worker

    def first_byte(self, exchange: Exchange, now: float) -> None:
        """Writes."""
        traced = self._open.get(exchange.number)
        if traced is not None:
            traced.span.add_event("warmroute.first_byte", timestamp=traced.wall_ns(now))

    def finished(self, exchange: Exchange, outcome: Outcome, usage: Usage | None, now: float) -> None:
        """Writes. Ends the span."""
        traced = self._open.pop(exchange.number, None)
        if traced is None:
            return
        span, decision = traced.span, exchange.decision
        assert decision is not None
        span.set_attributes(_decided(exchange, decision) | _answered(exchange, usage))
        span.set_attribute("warmroute.outcome", outcome.value)
        if outcome is not Outcome.OK:
            span.set_attribute("error.type", outcome.value)
        if outcome in _SPAN_FAILS:
            span.set_status(StatusCode.ERROR)
        span.end(traced.wall_ns(now))

    def refused(self, exchange: Exchange, code: str, now: float) -> None:
        """Writes. Ends the span; one whose body could not be read begins here."""
        if not exchange.trace_field:
            self._sample(exchange, exchange.began_at)
        traced = self._open.pop(exchange.number, None)
        if traced is None:
            return
        span = traced.span
        span.set_attributes({"http.response.status_code": exchange.status, "error.type": code})
        if exchange.status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(traced.wall_ns(now))

    # --- beginning --------------------------------------------------------------------------------

    def _sample(self, exchange: Exchange, now: float) -> None:
        fields = exchange.client.trace_fields
        parent = parent_of(fields) if fields else None
        if parent is not None:
            if parent.sampled:
                self._begin(exchange, parent, now)
            else:
                exchange.trace_field = fields
            return
        trace_id = self._ids.generate_trace_id()
        if trace_id & _ID_MASK < self._bound:
            self._ids.next_trace_id = trace_id
            self._begin(exchange, None, now)
        else:
            exchange.trace_field = fields_for_worker(trace_id, self._ids.generate_span_id(), False)

    def _begin(self, exchange: Exchange, parent: Parent | None, now: float) -> None:
        context = Context()
        if parent is not None:
            state = TraceState.from_header([parent.state.decode("latin-1")]) if parent.state else None
            remote = SpanContext(parent.trace_id, parent.span_id, True, TraceFlags(TraceFlags.SAMPLED), state)
            context = set_span_in_context(NonRecordingSpan(remote), context)
        wall_ns_at_0 = time_ns() - int(monotonic() * _NS)
        head = exchange.plan.head
        route = head.path if head.path in PARSERS or head.path in TUNNELS else _OTHER_ROUTE
        span = self._tracer.start_span(
            f"{head.method} {route}",
            context,
            SpanKind.SERVER,
            _came(exchange, route),
            start_time=wall_ns_at_0 + int(now * _NS),
        )
        own = span.get_span_context()
        exchange.trace_field = fields_for_worker(
            own.trace_id, own.span_id, True, own.trace_state.to_header().encode("latin-1")
        )
        self._open[exchange.number] = _Open(span, wall_ns_at_0)


class _Open:
    """A span in progress, the worker that has the request, and what makes of the loop's clock the world's."""

    __slots__ = ("_wall_ns_at_0", "span", "worker")

    def __init__(self, span: Span, wall_ns_at_0: int) -> None:
        self.span = span
        self.worker = ""
        self._wall_ns_at_0 = wall_ns_at_0

    def wall_ns(self, now: float) -> int:
        """Reads."""
        return self._wall_ns_at_0 + int(now * _NS)


class _Ids(IdGenerator):
    """State: the id that the next trace gets, because it was sampled by it."""

    def __init__(self) -> None:
        self.next_trace_id = 0
        self._random = random.Random()  # seeded by the system

    def generate_trace_id(self) -> int:
        """Writes."""
        drawn, self.next_trace_id = self.next_trace_id, 0
        return drawn or self._random.getrandbits(128) or 1

    def generate_span_id(self) -> int:
        """Writes."""
        return self._random.getrandbits(64) or 1


Attributes = dict[str, str | int | float | bool]


def _came(exchange: Exchange, route: str) -> Attributes:
    parsed, head = exchange.parsed, exchange.plan.head
    attributes: Attributes = {
        "http.request.method": head.method,
        "http.route": route,
        "url.path": head.path,
        "url.scheme": "http",
        "warmroute.request_id": exchange.request_id.decode("latin-1"),
        "warmroute.session": bool(exchange.plan.session or parsed.session),
        "gen_ai.request.model": parsed.model,
        "gen_ai.request.stream": parsed.stream,
    }
    operation = _OPERATIONS.get(head.path)
    if operation is not None:
        attributes["gen_ai.operation.name"] = operation
    if parsed.max_tokens is not None and abs(parsed.max_tokens) <= _COUNT_MAX:
        attributes["gen_ai.request.max_tokens"] = parsed.max_tokens
    return attributes


def _decided(exchange: Exchange, decision: Decision) -> Attributes:
    return {
        "warmroute.policy": exchange.gateway.metrics.policy,
        "warmroute.worker": decision.worker,
        "warmroute.reason": decision.reason,
        "warmroute.attempts": decision.attempt + 1,
        "warmroute.prompt_tokens": decision.prompt_tokens,
        "warmroute.predicted_hit_tokens": decision.predicted_hit_tokens,
        "warmroute.reusable_tokens": decision.reusable_tokens,
    }


def _answered(exchange: Exchange, usage: Usage | None) -> Attributes:
    attributes: Attributes = {}
    if exchange.status:  # else the client left before there was one
        attributes["http.response.status_code"] = exchange.status
    if exchange.ttft_s is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = exchange.ttft_s
    if usage is not None:
        for name, count in (
            ("gen_ai.usage.input_tokens", usage.prompt_tokens),
            ("gen_ai.usage.output_tokens", usage.completion_tokens),
            ("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens),
        ):
            if count is not None:
                attributes[name] = count
    return attributes
