"""What is counted of those who watch requests beside the router: shadow policies."""

from __future__ import annotations

from collections.abc import Iterator

from warmroute.metrics.family import Family, label_text
from warmroute.metrics.snapshot import Snapshot


def shadow_families(snapshot: Snapshot) -> Iterator[Family]:
    """Reads."""
    decisions = _family(
        "decisions", "counter", "Decisions of a shadow policy, by whether it chose the same worker.", "agreed"
    )
    prompt = _family("prompt_tokens", "counter", "Prompt tokens of the requests that it decided.")
    predicted = _family(
        "predicted_hit_tokens",
        "counter",
        "Of these, those that the worker it chose would hold.",
    )
    failures = _family("failures", "counter", "Faults of the shadow policy; its decisions end at the first.")
    seconds = _family("decision_seconds", "histogram", "What a decision of it costs; one in 16 is timed.")
    inflight = _family(
        "worker_inflight_requests", "gauge", "Requests that the worker would have in flight.", "worker"
    )
    queued = _family(
        "worker_queued_prefill_seconds", "gauge", "Predicted prefill time of what would wait there.", "worker"
    )
    for row in snapshot.shadows:
        labels = label_text(("policy",), (row.policy,))
        decisions.add(f'{labels},agreed="true"', row.agreed)
        decisions.add(f'{labels},agreed="false"', row.differed)
        prompt.add(labels, row.prompt_tokens)
        predicted.add(labels, row.predicted_hit_tokens)
        failures.add(labels, row.failures)
        seconds.add_histogram(labels, row.decision_s)
        for worker, requests, prefill_s in row.workers:
            both = f"{labels},{label_text(('worker',), (worker,))}"
            inflight.add(both, requests)
            queued.add(both, prefill_s)
    yield from (decisions, prompt, predicted, failures, seconds, inflight, queued)


def _family(name: str, kind: str, documentation: str, *labels: str) -> Family:
    return Family(f"router_shadow_{name}", kind, documentation, ("policy", *labels))
