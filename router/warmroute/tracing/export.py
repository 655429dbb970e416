"""Spans on their way to the collector, by OTLP over HTTP.

The SDK's batch processor sends from a thread of its own, every five seconds or when a batch is full
(`OTEL_BSP_SCHEDULE_DELAY`); headers, certificates, compression and time-outs are the SDK's variables too.

Rules kept here: at most `QUEUE_SPANS_MAX` wait, and what finds no room is dropped and counted, as is what the
collector did not take; the event loop never waits; the end waits for at most `FLUSH_S`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

log = logging.getLogger("warmroute")

QUEUE_SPANS_MAX: Final = 8192
"""At 3 KB each some 25 MB: a minute of 130 traced requests per second that the collector may be away."""

BATCH_SPANS: Final = 256
"""Of one request to the collector. To encode a span takes 50 µs, a batch 13 ms, in which the event loop takes
turns with that thread."""

FLUSH_S: Final = 5.0
"""At the end; a collector that is there takes everything in a fraction of it."""

_PATH: Final = "/v1/traces"


def endpoint(url: str) -> str:
    """Where spans are posted: OTLP's own path where the URL has none."""
    return url.rstrip("/") + _PATH if urlsplit(url).path in ("", "/") else url


class Export(SpanProcessor):
    """State: the processor with its queue and thread, and counts: those of `_Counted` are its thread's."""

    def __init__(self, url: str) -> None:
        self._exporter = _Counted(OTLPSpanExporter(endpoint=endpoint(url)))
        self._batches = BatchSpanProcessor(
            self._exporter, max_queue_size=QUEUE_SPANS_MAX, max_export_batch_size=BATCH_SPANS
        )
        self._queued = 0
        self._no_room = 0

    @property
    def dropped(self) -> int:
        """Reads. Spans that were lost: no room, not taken by the collector, or left at the end."""
        return self._no_room + self._exporter.failed

    def on_end(self, span: ReadableSpan) -> None:
        """Writes."""
        if self._queued - self._exporter.taken >= QUEUE_SPANS_MAX:
            self._no_room += 1
        else:
            self._queued += 1
            self._batches.on_end(span)

    def shutdown(self) -> None:
        """Writes. Sends what waits, for a bounded time. Blocks."""
        thread = threading.Thread(target=self._batches.shutdown, name="flush-spans", daemon=True)
        thread.start()
        thread.join(FLUSH_S)
        if thread.is_alive():
            self._exporter.shutdown()
        lost = self.dropped + self._queued - self._exporter.done
        if lost:
            log.warning("spans were lost", extra={"spans": lost})


class _Counted(SpanExporter):
    """State: how many spans were taken over, were dealt with, and failed; whether the last ones did. The SDK
    says so at every try; here it is said when it begins and when it is over."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.taken = self.done = self.failed = 0
        self._failing = False
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Writes. In the processor's thread."""
        self.taken += len(spans)
        result = SpanExportResult.FAILURE  # the processor logs what the exporter raises, and goes on
        try:
            result = self._exporter.export(spans)
        finally:
            if result is not SpanExportResult.SUCCESS:
                self.failed += len(spans)
            self.done += len(spans)
            self._say(result is not SpanExportResult.SUCCESS)
        return result

    def _say(self, failing: bool) -> None:
        if failing is not self._failing:
            self._failing = failing
            if failing:
                log.warning("the collector takes no spans: they are dropped, requests go on")
            else:
                log.info("the collector takes spans again", extra={"dropped": self.failed})

    def shutdown(self) -> None:
        """Writes. What is being sent is given up."""
        self._exporter.shutdown()
