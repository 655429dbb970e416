"""What is counted of requests that are let in, wait or are refused; without limits there is nothing."""

from __future__ import annotations

from collections.abc import Iterator

from warmroute.metrics.family import Family, label_text
from warmroute.metrics.snapshot import Snapshot


def admission_families(snapshot: Snapshot) -> Iterator[Family]:
    """Reads."""
    waiting = Family("router_queue_requests", "gauge", "Requests that wait for room.", ("class",))
    waited = Family(
        "router_queue_wait_seconds", "histogram", "How long those waited that were served then.", ("class",)
    )
    exits = Family(
        "router_queue_exits",
        "counter",
        "Requests that wait no longer: served, or without a worker, because their time was over (timeout), "
        "others needed the place (displaced), or their client left.",
        ("class", "how"),
    )
    admitted = Family(
        "router_admitted_requests", "counter", "Requests that were let in, at once or later.", ("class",)
    )
    tokens = Family(
        "router_tenant_admitted_prompt_tokens",
        "counter",
        "Prompt tokens that were let in, as estimated; tenants that the settings do not name are `other`.",
        ("tenant",),
    )
    limited = Family(
        "router_rate_limited_requests",
        "counter",
        "Requests refused by a rate limit, and by which: requests or prompt_tokens.",
        ("tenant", "limit"),
    )
    full = Family("router_full_workers", "gauge", "Workers that have as many requests as they may.")
    full.add("", snapshot.full_workers)
    row = snapshot.admission
    if row is not None:
        for place, name in enumerate(row.classes):
            labels = label_text(("class",), (name,))
            waiting.add(labels, row.waiting[place])
            waited.add_histogram(labels, row.waited_s[place])
            admitted.add(labels, row.admitted[place])
            for how, count in row.exits[place]:
                exits.add(f'{labels},how="{how}"', count)
        for tenant, count in row.tenant_tokens:
            tokens.add(label_text(("tenant",), (tenant,)), count)
        for both, count in row.rate_limited:
            limited.add(label_text(("tenant", "limit"), both), count)
    yield from (waiting, waited, exits, admitted, tokens, limited, full)
