"""How far a mean over a few runs can be trusted: bootstrap intervals.

The mean is computed anew for many samples drawn with replacement from the runs, and the interval leaves out
the same share of these means on either side. Means of few values vary less when resampled than they do in
truth; as Hesterberg ("What Teachers Should Know about the Bootstrap", 2014, section 3.4) proposes, less is
left out than asked for: Φ(−√(n/(n − 1)) · t) instead of Φ(−z), where t is Student's quantile with n − 1
degrees of freedom. Resampling never leaves the range of the values, and the range of three has the true
mean in three cases of four: no interval of three runs can be better. Measured on normal values, 95 %
intervals hold the true mean in 50 % of cases with 2 runs, 74 % with 3, 92 % with 5, 95 % from 10 on; on
exponential ones 68 % with 3, 86 % with 5, 91 % with 10.

Two policies that ran on the same seeds met the same chance; their difference, seed by seed, is known better
than either mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, sqrt
from random import Random
from statistics import NormalDist
from typing import Final

from warmroute_simulator.report.comparison import Interval

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 2000
"""The bounds of an interval then vary by some hundredths of its width."""


def bootstrap(
    values: Sequence[float], chance: Random, *, confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> Interval:
    """Reads. The mean of `values` and its interval; of one value the interval is unknown.

    Raises ValueError when there are no values.
    """
    if not values:
        raise ValueError("an interval of no values")
    runs = len(values)
    mean = fsum(values) / runs
    if runs == 1:
        return Interval(mean, None, None)
    means = sorted(fsum(chance.choices(values, k=runs)) / runs for _ in range(resamples))
    left_out = min(int(tail(runs, confidence) * resamples), resamples // 2)
    return Interval(mean, means[left_out], means[-1 - left_out])


def paired_difference(
    ours: Sequence[float],
    theirs: Sequence[float],
    chance: Random,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Interval:
    """Reads. Mean of ours − theirs; equal positions are equal seeds.

    Raises ValueError when there are no values, or not as many of theirs as of ours.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} runs cannot be paired with {len(theirs)}")
    differences = [our - their for our, their in zip(ours, theirs, strict=True)]
    return bootstrap(differences, chance, confidence=confidence, resamples=resamples)


def tail(runs: int, confidence: float) -> float:
    """Reads. Share of the resampled means to leave out on each side; `runs`: at least 2."""
    normal = NormalDist()
    t = _student(normal.inv_cdf((1 + confidence) / 2), runs - 1)
    return normal.cdf(-t * sqrt(runs / (runs - 1)))


def _student(z: float, freedom: int) -> float:
    """Reads. Student's quantile where the normal distribution has `z`.

    Abramowitz and Stegun, 26.7.5: within 1 % for three degrees of freedom and more. With fewer it is too
    small, and still so large that nothing is left out.
    """
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
