"""When ours is better than a peer, within noise of it, or worse.

Both are compared within a round, where they were asked the same within minutes. Better is what is better in
every round, and by more than the margin in the middle one: margins are what two runs of one and the same
program differ by on a machine with nothing else to do. With three rounds chance alone has all of them on one
side in a quarter of the cases; the margin is what keeps that from being called a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Final

from ring_lib.contestants import OURS, OURS_EXACT
from ring_lib.results import Ring, Run


class Word(StrEnum):
    """What is said of ours beside a peer."""

    BETTER = "better"
    NOISE = "within noise"
    WORSE = "worse"


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure by which contestants are compared."""

    name: str
    of: Callable[[Run], float]
    margin: float
    """Of a ratio, or for shares of a difference."""
    as_difference: bool = False
    """Larger is better, and points are compared; else less is better, by ratio."""


METRICS: Final = (
    Metric("hit rate", lambda run: run.hit_rate, 0.01, as_difference=True),
    Metric("mean TTFT", lambda run: run.ttft_mean_s, 0.03),
    Metric("p99 TTFT", lambda run: run.ttft_p99_s, 0.05),
    Metric("CPU per request", lambda run: run.cpu_us, 0.05),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Ours beside one peer, by one metric, on one workload."""

    peer: str
    workload: str
    metric: Metric
    values: tuple[float, ...]
    """By round, sorted: ours over theirs, or ours less theirs."""
    word: Word

    @property
    def middle(self) -> float:
        return median(self.values)


def verdicts(ring: Ring, ours: str = OURS) -> list[Verdict]:
    """Reads. Of all peers and workloads for which both have figures in some round."""
    peers = [peer.name for peer in ring.contestants if peer.name not in (OURS, OURS_EXACT)]
    return beside(ring, ours, peers)


def beside(ring: Ring, ours: str, peers: Sequence[str]) -> list[Verdict]:
    """Reads. Of these peers."""
    found = []
    for workload in ring.workloads:
        for peer in peers:
            pairs = _pairs(ring, workload.name, ours, peer)
            if pairs:
                found += [_verdict(peer, workload.name, metric, pairs) for metric in METRICS]
    return found


def _pairs(ring: Ring, workload: str, own: str, peer: str) -> list[tuple[Run, Run]]:
    by_round: dict[str, dict[int, Run]] = {own: {}, peer: {}}
    for run in ring.runs:
        if run.key.workload == workload and run.key.contestant in by_round and not run.failed:
            by_round[run.key.contestant][run.key.round] = run
    ours, theirs = by_round[own], by_round[peer]
    return [(ours[number], theirs[number]) for number in sorted(ours.keys() & theirs.keys())]


def _verdict(peer: str, workload: str, metric: Metric, pairs: Sequence[tuple[Run, Run]]) -> Verdict:
    of = metric.of
    if metric.as_difference:
        values = tuple(sorted(of(ours) - of(theirs) for ours, theirs in pairs))
    else:
        values = tuple(sorted(of(ours) / of(theirs) if of(theirs) else 1.0 for ours, theirs in pairs))
    return Verdict(peer, workload, metric, values, word(metric, values))


def word(metric: Metric, values: Sequence[float]) -> Word:
    """Reads. `values` as in a verdict."""
    gains = [value if metric.as_difference else 1 - value for value in values]
    if min(gains) > 0 and median(gains) > metric.margin:
        return Word.BETTER
    if max(gains) < 0 and -median(gains) > metric.margin:
        return Word.WORSE
    return Word.NOISE
