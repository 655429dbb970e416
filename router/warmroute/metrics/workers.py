"""What is measured and counted by worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from warmroute.metrics.family import SLICE, Breathe, Family, label_text
from warmroute.metrics.snapshot import Snapshot
from warmroute.series import EJECTIONS, FAILURE_KINDS

# A worker has a tenth of a series' lines.
_SLICE: Final = 10 * SLICE

# In the order of `WorkerRow`.
GAUGES: Final = (
    ("inflight_requests", "Requests dispatched to the worker and not finished."),
    ("decode_requests", "Of these, those whose prefill is over."),
    ("queued_prefill_seconds", "Predicted prefill time of what waits at the worker."),
    ("health", "1 when checks and requests say that it is well, else 0; draining is a metric of its own."),
    ("breaker_state", "0: trusted; 1: one request finds out; 2: ejected, see router_worker_ejections."),
    ("draining", "1 while the worker gets no new requests on purpose."),
    ("believed_kv_capacity_tokens", "Believed size of its KV cache; +Inf: unknown."),
    ("cache_crowding", "Share of its KV cache that holds what will be asked for again, 0 to 1."),
    ("resident_blocks", "Blocks that the worker is believed to hold."),
    ("idle_connections", "Idle connections to the worker."),
)


def worker_families(snapshot: Snapshot, breathe: Breathe) -> Iterator[Family]:
    """Reads."""
    gauges = [Family(f"router_worker_{name}", "gauge", text, ("worker",)) for name, text in GAUGES]
    failures = Family(
        "router_worker_failures",
        "counter",
        "Requests that failed by the worker's fault.",
        ("worker", "kind"),
    )
    ejections = Family(
        "router_worker_ejections",
        "counter",
        "Times that the worker was ejected. in_a_row: its requests failed one after the other, or its probe "
        "did; errors: too large a share of them; slow: its first bytes were late beside the others'.",
        ("worker", "reason"),
    )
    restarts = Family(
        "router_worker_restarts",
        "counter",
        "Times that the worker told another start time than before, so that its cache was forgotten.",
        ("worker",),
    )
    for number, (worker, row) in enumerate(snapshot.workers):
        if not number % _SLICE:
            breathe()
        labels = label_text(("worker",), (worker,))
        for family, value in zip(gauges, row, strict=True):
            family.add(labels, value)
    # Zeros too, see `series`.
    none_failed = {(worker, kind): 0 for worker, _ in snapshot.workers for kind in FAILURE_KINDS}
    for failure, count in (none_failed | dict(snapshot.worker_failures)).items():
        failures.add(label_text(("worker", "kind"), failure), count)
    none_ejected = {(worker, why): 0 for worker, _ in snapshot.workers for why in EJECTIONS}
    for ejection, count in (none_ejected | dict(snapshot.worker_ejections)).items():
        ejections.add(label_text(("worker", "reason"), ejection), count)
    none_restarted = dict.fromkeys((worker for worker, _ in snapshot.workers), 0)
    for worker, count in (none_restarted | dict(snapshot.worker_restarts)).items():
        restarts.add(label_text(("worker",), (worker,)), count)
    yield from gauges
    yield from (failures, ejections, restarts)
