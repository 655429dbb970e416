"""What engines say of their load; workers that tell nothing of a matter have no sample of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from warmroute.metrics.family import Family, label_text
from warmroute.metrics.snapshot import Snapshot

_GAUGES: Final = (
    ("reported_requests", "Requests that run or wait there, as the engine says."),
    ("reported_waiting_requests", "Requests that wait there, as the engine says."),
    ("reported_waiting_tokens", "Prompt tokens that are to be computed there, as the engine says."),
    ("reported_kv_usage", "Share of its KV cache that requests hold, as the engine says, 0 to 1."),
    ("reported_age_seconds", "Since the engine last told anything of its load."),
    ("foreign_requests", "Requests that others have there: what the engine says less this router's own."),
    ("foreign_queue_seconds", "Prefill time of what of that waits."),
    ("under_pressure", "1 while it gets nothing new because its KV cache is full (kv_pressure_gate)."),
)


def load_families(snapshot: Snapshot) -> Iterator[Family]:
    """Reads."""
    gauges = [Family(f"router_worker_{name}", "gauge", text, ("worker",)) for name, text in _GAUGES]
    for worker, told in snapshot.loads:
        labels, report = label_text(("worker",), (worker,)), told.report
        row = (
            report.requests,
            report.waiting_requests,
            report.waiting_tokens,
            report.kv_usage,
            round(told.age_s, 3),
            told.foreign_requests,
            round(told.foreign_queue_s, 6),
            int(told.under_pressure),
        )
        for family, value in zip(gauges, row, strict=True):
            if value is not None:
                family.add(labels, value)
    questions = Family(
        "router_load_questions",
        "counter",
        "Questions to engines about their load, by how they ended: answered, failed, or odd, with an answer "
        "that cannot be read.",
        ("end",),
    )
    for end, count in snapshot.load_questions:
        questions.add(f'end="{end}"', count)
    seconds = Family(
        "router_load_question_seconds", "counter", "Time that engines took for answers to these."
    )
    seconds.add("", snapshot.load_asking_s)
    yield from (*gauges, questions, seconds)
