"""How far a simulation is from what was measured, in the two ways that matter.

The *error of a mean* is what a decision is made on: mean of the simulated over mean of the measured, minus 1.
The *mean absolute error of a request* is the harder one: the mean over requests of |simulated/measured − 1|;
where a first token takes tens of milliseconds it mostly tells when in a step a request came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from statistics import fmean

from warmroute_simulator.fitting.measured import MeasuredRequest
from warmroute_simulator.fitting.replay import Simulated


@dataclass(frozen=True, slots=True)
class Compared:
    """One quantity."""

    measured: float
    simulated: float
    error: float
    """Of the mean: simulated / measured − 1."""
    request_error: float | None
    """Mean over requests of |simulated / measured − 1|; None for what a request does not have."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A part of a run, measured and simulated. None: nothing of the kind was measured."""

    requests: int
    ttft_s: Compared | None
    tpot_s: Compared | None
    e2e_s: Compared | None
    output_tokens_per_s: Compared | None
    """Output tokens of these requests over the time from their first arrival to their last token."""


def agreement(requests: Sequence[MeasuredRequest], simulated: Simulated, rows: range) -> Agreement:
    """Of the requests in `rows`, which `simulated` has as the same rows."""
    ttft, tpot, e2e = [], [], []
    for row in rows:
        request, first, end = requests[row], simulated.ttft_s[row], simulated.e2e_s[row]
        e2e.append((request.e2e_s, end))
        if not isnan(request.ttft_s):
            ttft.append((request.ttft_s, first))
            if request.output_tokens > 1:
                tpot.append((request.tpot_s, (end - first) / (request.output_tokens - 1)))
    return Agreement(len(rows), _means(ttft), _means(tpot), _means(e2e), _rate(requests, simulated, rows))


def _means(pairs: list[tuple[float, float]]) -> Compared | None:
    if not pairs:
        return None
    measured, simulated = fmean(m for m, _ in pairs), fmean(s for _, s in pairs)
    if measured <= 0:
        return None
    apart = [abs(s / m - 1) for m, s in pairs if m > 0]
    return Compared(measured, simulated, simulated / measured - 1, fmean(apart))


def _rate(requests: Sequence[MeasuredRequest], simulated: Simulated, rows: range) -> Compared | None:
    if not rows:
        return None
    tokens = sum(requests[row].output_tokens for row in rows)
    start = min(requests[row].arrival_s for row in rows)
    measured_s = max(requests[row].arrival_s + requests[row].e2e_s for row in rows) - start
    simulated_s = max(requests[row].arrival_s + simulated.e2e_s[row] for row in rows) - start
    if measured_s <= 0 or simulated_s <= 0:
        return None
    return Compared(tokens / measured_s, tokens / simulated_s, measured_s / simulated_s - 1, None)
