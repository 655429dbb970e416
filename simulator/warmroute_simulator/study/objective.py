"""What `simulator tune` makes small: a latency, or the share of requests that miss their limits.

A request that was not answered counts as if it had taken the whole run, and as one that missed its limits:
a policy must not win by what it loses.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from math import fsum
from typing import Final

import msgspec

from warmroute_simulator.report import words
from warmroute_simulator.report.latencies import e2e_s, quantile, tpot_s, ttft_s
from warmroute_simulator.report.model import Report
from warmroute_simulator.simulation.records import Outcome, Records

STRETCHES: Final = 10
"""Parts of a trace that are looked at one by one: enough for an interval, and long enough to differ little by
what was under way when they began."""


class Objective(enum.StrEnum):
    """What is made better."""

    TTFT_MEAN = "ttft_mean"
    TTFT_P99 = "ttft_p99"
    E2E_MEAN = "e2e_mean"
    GOODPUT = "goodput"

    @property
    def label(self) -> str:
        """What `Costs` are, for people."""
        return _LABELS[self]

    def text(self, cost: float) -> str:
        """A cost as people write it."""
        return words.percent(cost) if self is Objective.GOODPUT else words.seconds(cost)


_LABELS: Final = {
    Objective.TTFT_MEAN: "mean TTFT",
    Objective.TTFT_P99: "p99 TTFT",
    Objective.E2E_MEAN: "mean E2E",
    Objective.GOODPUT: "requests that miss their limits",
}


class Costs(msgspec.Struct, frozen=True):
    """Less is better: seconds, or a share of requests."""

    whole: float
    stretches: list[float]
    """The same of each tenth of the trace's requests, in its order; tenths that were all warm-up are left
    out."""


def costs(records: Records, report: Report, objective: Objective) -> Costs:
    """Reads. Over the requests after the warm-up. Raises ValueError when there are none."""
    start_s = min((at for at in records.arrived_s if at == at), default=0.0)
    from_s = start_s + report.warm_up.skip_s
    rows = [row for row, at in enumerate(records.arrived_s) if not at < from_s]  # `nan`: it never came
    if not rows:
        raise ValueError("the warm-up leaves no request to measure")
    by_row = (
        _missed(records, report) if objective is Objective.GOODPUT else _seconds(records, report, objective)
    )
    total = len(by_row)
    parts: list[list[float]] = [[] for _ in range(STRETCHES)]
    for row in rows:
        parts[row * STRETCHES // total].append(by_row[row])
    return Costs(
        _together([by_row[row] for row in rows], objective),
        [_together(part, objective) for part in parts if part],
    )


def _together(values: list[float], objective: Objective) -> float:
    if objective is Objective.TTFT_P99:
        return quantile(sorted(values), 0.99)
    return fsum(values) / len(values)


def _seconds(records: Records, report: Report, objective: Objective) -> list[float]:
    latencies = e2e_s(records) if objective is Objective.E2E_MEAN else ttft_s(records)
    ok = Outcome.OK.value
    return [
        latency if outcome == ok else report.span_s
        for latency, outcome in zip(latencies, records.outcome, strict=True)
    ]


def _missed(records: Records, report: Report) -> list[float]:
    limit, pace, ok = report.goodput.ttft_slo_s, report.goodput.tpot_slo_s, Outcome.OK.value
    columns: Sequence[Sequence[float]] = (ttft_s(records), tpot_s(records), records.outcome)
    return [
        0.0 if outcome == ok and ttft <= limit and not tpot > pace else 1.0
        for ttft, tpot, outcome in zip(*columns, strict=True)
    ]
