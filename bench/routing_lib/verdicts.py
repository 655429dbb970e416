"""Who is better: one policy against the best of the others, in each cell and over all cells.

Of a cell and a metric (mean or p99 of TTFT), with the means over seeds and their intervals:

    best other   the least mean among the other policies
    better       our interval lies below that of the best other
    lost         it lies above
    level        they overlap: seeds differ more than the two policies do

The best other is chosen cell by cell and after the fact, so "level" is what a policy gets that is as good
as the best of many at everything.

Latencies are of answered requests, so whoever answers fewer could look faster. A policy that leaves more
than one of a hundred requests unanswered beyond what the best of the cell leaves is behind all that do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from routing_lib.results import CellFound, Result
from routing_lib.statistics import Interval, geometric_mean, mean_interval, ratio_interval

UNANSWERED: Final = 0.01
"""More than chance makes of the few requests that no cache can hold."""
CLEARLY: Final = 0.85
"""15 % less: what somebody notices who does not measure."""


class Metric(StrEnum):
    """What is compared; the name is that of a field of `Result`."""

    MEAN = "ttft_mean_s"
    P99 = "ttft_p99_s"

    def values(self, result: Result) -> list[float]:
        """Reads. By seed."""
        return result.ttft_mean_s if self is Metric.MEAN else result.ttft_p99_s


class Word(StrEnum):
    """A verdict."""

    BETTER = "better"
    LEVEL = "level"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A policy against the best other one in one cell, by one metric."""

    cell: CellFound
    metric: Metric
    ours: Interval
    best_other: str
    theirs: Interval
    ratio: Interval
    """Ours over theirs, paired by seed."""
    word: Word

    @property
    def clearly(self) -> bool:
        """Reads. Better by 15 % at least."""
        return self.word is Word.BETTER and self.ours.value <= CLEARLY * self.theirs.value


@dataclass(frozen=True, slots=True)
class Standing:
    """A policy over all cells, by one metric."""

    policy: str
    wins: int
    """Cells in which its mean is the least."""
    near: int
    """Cells in which its interval overlaps that of the least: it may be the best."""
    mean_ratio: float
    """Geometric mean of its ratios to the least."""
    worst_ratio: float
    worst_cell: CellFound


def verdict(cell: CellFound, metric: Metric, ours: str) -> Verdict:
    """Reads. Raises ValueError when there is no other policy."""
    others = [name for name in cell.results if name != ours]
    if not others:
        raise ValueError(f"{ours} has nobody to be compared with")
    full = answering(cell)
    intervals = {name: mean_interval(metric.values(result)) for name, result in cell.results.items()}
    best = min(others, key=lambda name: (name not in full, intervals[name].value))
    mine, theirs = intervals[ours], intervals[best]
    if (ours in full) != (best in full):
        word = Word.BETTER if ours in full else Word.LOST
    elif mine.below(theirs):
        word = Word.BETTER
    else:
        word = Word.LOST if theirs.below(mine) else Word.LEVEL
    ratio = ratio_interval(metric.values(cell.results[ours]), metric.values(cell.results[best]))
    return Verdict(cell, metric, mine, best, theirs, ratio, word)


def standings(cells: Sequence[CellFound], metric: Metric, policies: Sequence[str]) -> list[Standing]:
    """Reads. The least mean ratio first. Raises ValueError when there are no cells."""
    found = []
    leaders = [leader(cell, metric) for cell in cells]
    for policy in policies:
        ratios = [ratio_to_best(cell, metric, policy) for cell in cells]
        near = sum(
            policy in answering(cell)
            and mean_interval(metric.values(cell.results[policy])).overlaps(
                mean_interval(metric.values(cell.results[best]))
            )
            for cell, best in zip(cells, leaders, strict=True)
        )
        worst = max(range(len(cells)), key=ratios.__getitem__)
        wins = sum(best == policy for best in leaders)
        found.append(Standing(policy, wins, near, geometric_mean(ratios), ratios[worst], cells[worst]))
    return sorted(found, key=lambda one: one.mean_ratio)


def leader(cell: CellFound, metric: Metric) -> str:
    """Reads. The policy with the least mean, of those that answer."""
    return min(answering(cell), key=lambda name: _mean(cell, metric, name))


def ratio_to_best(cell: CellFound, metric: Metric, policy: str) -> float:
    """Reads. A policy's mean over the cell's least; below 1 only for who leaves requests unanswered."""
    return _mean(cell, metric, policy) / _mean(cell, metric, leader(cell, metric))


def answering(cell: CellFound) -> list[str]:
    """Reads. Policies that leave about as few requests unanswered as the best does."""
    least = min(result.unanswered for result in cell.results.values())
    return [name for name, result in cell.results.items() if result.unanswered <= least + UNANSWERED]


def _mean(cell: CellFound, metric: Metric, policy: str) -> float:
    values = metric.values(cell.results[policy])
    return sum(values) / len(values)
