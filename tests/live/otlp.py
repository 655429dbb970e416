"""An OpenTelemetry collector: takes spans by OTLP over HTTP on a real socket; may be slow or unwilling."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from live.front import Front
from live.polling import eventually


@dataclass
class Event:
    """One event of a span."""

    name: str
    attributes: dict[str, Any]


@dataclass
class Received:
    """One span as it arrived; ids are hexadecimal."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    failed: bool
    duration_s: float
    attributes: dict[str, Any]
    events: list[Event]
    resource: dict[str, Any]


class Collector:
    """State: the server, what has arrived, and how it answers."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.paths: set[str] = set()
        self.headers: dict[str, str] = {}
        self.status = 200
        self.answers = threading.Event()
        """While it is not set, requests wait for their answer."""
        self.answers.set()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.collector = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def wait_spans(self, count: int = 1) -> list[Received]:
        """Until so many spans have arrived."""
        eventually(lambda: len(self.spans) >= count, f"{count} spans arrive")
        return self.spans

    def stop(self) -> None:
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, message: ExportTraceServiceRequest) -> None:
        """Writes."""
        for resource in message.resource_spans:
            about = _plain(resource.resource.attributes)
            self.spans += [_received(span, about) for scope in resource.scope_spans for span in scope.spans]


class StartTraced(Protocol):
    def __call__(self, *flags: str, count: int = 1, env: dict[str, str] | None = None) -> Front:
        """A router that sends spans, in front of `count` scripted workers."""
        ...


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    collector: Collector


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        collector = self.server.collector
        body = self.rfile.read(int(self.headers["content-length"]))
        collector.answers.wait()
        collector.paths.add(self.path)
        collector.headers = {name.lower(): value for name, value in self.headers.items()}
        if collector.status == 200:
            collector.take(ExportTraceServiceRequest.FromString(body))
        with contextlib.suppress(OSError):  # the sender may have given up
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the library's name
        """Says nothing."""


def _received(span: Span, resource: dict[str, Any]) -> Received:
    return Received(
        name=span.name,
        kind=span.kind,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        state=span.trace_state,
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
        duration_s=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        attributes=_plain(span.attributes),
        events=[Event(event.name, _plain(event.attributes)) for event in span.events],
        resource=resource,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    items: list[KeyValue] = list(attributes)
    return {item.key: _value(item.value) for item in items}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)


@contextlib.contextmanager
def collector() -> Iterator[Collector]:
    """One for the block's time."""
    one = Collector()
    try:
        yield one
    finally:
        one.stop()
