"""What is counted of the sources that workers are found by."""

from __future__ import annotations

from collections.abc import Iterator

from warmroute.metrics.family import Family, label_text
from warmroute.metrics.snapshot import Snapshot

_LABELS = ("kind", "target")


def discovery_families(snapshot: Snapshot) -> Iterator[Family]:
    """Reads."""
    workers = _family("workers", "gauge", "Workers that the source names and that are not leaving.")
    syncs = _family("syncs", "counter", "Times that the source said which workers there are.")
    failures = _family("failures", "counter", "Times that it could not be asked, or was not understood.")
    success = _family(
        "last_success_timestamp_seconds", "gauge", "When it said so last; nothing where it never has."
    )
    for row in snapshot.sources:
        labels = label_text(_LABELS, (row.kind, row.target))
        workers.add(labels, row.workers)
        syncs.add(labels, row.syncs)
        failures.add(labels, row.failures)
        if row.last_success_at is not None:
            success.add(labels, row.last_success_at)
    yield from (workers, syncs, failures, success)


def _family(name: str, kind: str, documentation: str) -> Family:
    return Family(f"router_discovery_{name}", kind, documentation, _LABELS)
