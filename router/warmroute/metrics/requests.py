"""What is counted by model and worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from warmroute.metrics.family import SLICE, Breathe, Family, label_text
from warmroute.metrics.snapshot import Snapshot
from warmroute.series import OutcomeKey

_LABELS = ("model", "worker")


def request_families(snapshot: Snapshot, breathe: Breathe) -> Iterator[Family]:
    """Reads."""
    total = Family(
        "router_requests",
        "counter",
        "Requests that were routed, by how they ended.",
        ("model", "worker", "policy", "outcome"),
    )
    prompt = _counter("prompt_tokens", "Prompt tokens of routed requests: as reported, else as estimated.")
    predicted = _counter("predicted_hit_tokens", "Prompt tokens that the chosen worker was believed to hold.")
    reusable = _counter(
        "reusable_tokens", "Prompt tokens that the best holder was believed to hold; engines may hold more."
    )
    actual = _counter("actual_hit_tokens", "Prompt tokens that engines reported as cached.")
    completion = _counter("completion_tokens", "Tokens that engines reported as generated.")
    reported = _counter("usage_reports", "Answers that said how many prompt tokens were cached.")
    prefill = _counter("prefill_seconds", "Predicted prefill time of prompt tokens that were not cached.")
    saved = _counter("prefill_seconds_saved", "Predicted prefill time of prompt tokens that were cached.")
    ttft = _histogram("ttft_seconds", "From the whole request to the first byte of a streamed answer.")
    between = _histogram("inter_token_seconds", "Mean time between two tokens of a streamed answer.")
    duration = _histogram("request_duration_seconds", "From the whole request to the end of its answer.")
    by_policy = label_text(("policy",), (snapshot.policy,))
    before: Counter[OutcomeKey] = Counter()
    for policy, key, count in snapshot.former_outcomes:
        before[key] += count
        model, worker, outcome = key
        total.add(label_text(total.labels, (model, worker, policy, outcome.value)), count)
    for number, (labels_of, series) in enumerate(snapshot.series):
        if not number % SLICE:
            breathe()
        labels = label_text(_LABELS, labels_of)
        for outcome, count in series.outcomes.items():
            count -= before[(*labels_of, outcome)]
            total.add(f'{labels},{by_policy},outcome="{outcome.value}"', count)
        prompt.add(labels, series.prompt_tokens)
        predicted.add(labels, series.predicted_hit_tokens)
        reusable.add(labels, series.reusable_tokens)
        actual.add(labels, series.actual_hit_tokens)
        completion.add(labels, series.completion_tokens)
        reported.add(labels, series.reported)
        prefill.add(labels, series.prefill_s)
        saved.add(labels, series.saved_prefill_s)
        ttft.add_histogram(labels, series.ttft_s)
        between.add_histogram(labels, series.inter_token_s)
        duration.add_histogram(labels, series.duration_s)
    for family in (total, prompt, predicted, reusable, actual, completion, reported, prefill, saved):
        yield family
    for family in (ttft, between, duration):
        breathe()  # as many lines as all the others; whoever takes it joins them
        yield family


def _counter(name: str, documentation: str) -> Family:
    return Family(f"router_{name}", "counter", documentation, _LABELS)


def _histogram(name: str, documentation: str) -> Family:
    return Family(f"router_{name}", "histogram", documentation, _LABELS)
