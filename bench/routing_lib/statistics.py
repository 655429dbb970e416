"""What a few seeds say of a mean, and of one mean over another.

    interval of a mean     95 % of the means of values drawn anew from those of the seeds, with replacement
    interval of a ratio    the same of mean over mean; both sides are drawn together, seed by seed, since
                           with one seed all policies met the same requests

Less is left out at the ends than 5 %, as a few values vary less when drawn anew than they do in truth: the
rule, its source and how often such an interval holds the mean are those of `study.intervals` (74 % with three
seeds, 92 % with five). The draws are the same for all values of as many seeds, so equal input gives equal
output wherever it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import exp, fsum, log
from random import Random
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from warmroute_simulator.study.intervals import CONFIDENCE, RESAMPLES, tail

_CHANCE: Final = "routing quality"
"""Seeds the draws. `random.Random` draws the same in every version; numpy's generators may not."""


class Interval(NamedTuple):
    """A value, and where the true one probably is."""

    value: float
    low: float
    high: float

    def below(self, other: Interval) -> bool:
        """Reads. All of it."""
        return self.high < other.low

    def overlaps(self, other: Interval) -> bool:
        """Reads. Whether the two share a point."""
        return self.low <= other.high and other.low <= self.high


def mean_interval(values: Sequence[float]) -> Interval:
    """Reads. Of one value for each seed. Raises ValueError unless there are two at least."""
    means = _drawn(values).mean(axis=1)
    return _interval(fsum(values) / len(values), means, len(values))


def ratio_interval(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Reads. Mean of ours over mean of theirs; equal positions are equal seeds, and theirs are above 0.

    Raises ValueError unless there are two at least, and as many of both.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} values cannot be paired with {len(theirs)}")
    ratios = _drawn(ours).sum(axis=1) / _drawn(theirs).sum(axis=1)
    return _interval(fsum(ours) / fsum(theirs), ratios, len(ours))


def geometric_mean(ratios: Iterable[float]) -> float:
    """Reads. Of ratios above 0: twice as long and half as long make 1 together.

    Raises ValueError when there are none.
    """
    logs = [log(ratio) for ratio in ratios]
    if not logs:
        raise ValueError("a mean of no ratios")
    return exp(fsum(logs) / len(logs))


def _drawn(values: Sequence[float]) -> NDArray[np.float64]:
    """A row for each draw of as many values as there are."""
    if len(values) < 2:
        raise ValueError(f"{len(values)} value has no interval")
    return np.asarray(values, dtype=np.float64)[_positions(len(values))]


@lru_cache
def _positions(count: int) -> NDArray[np.intp]:
    chance = Random(f"{_CHANCE} {count}")
    drawn = chance.choices(range(count), k=count * RESAMPLES)
    return np.asarray(drawn, dtype=np.intp).reshape(RESAMPLES, count)


def _interval(value: float, drawn: NDArray[np.float64], seeds: int) -> Interval:
    drawn.sort()
    left_out = min(int(tail(seeds, CONFIDENCE) * RESAMPLES), RESAMPLES // 2)
    low, high = float(drawn[left_out]), float(drawn[-1 - left_out])
    # numpy adds in another order: by the last digit a value must not lie outside of its own interval.
    return Interval(value, min(low, value), max(high, value))
