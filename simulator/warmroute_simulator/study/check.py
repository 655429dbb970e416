"""Whether what a search found is better than what was given, on the half of the trace that it has not seen.

It wins only where the difference is larger than chance explains, twice: over the seeds, and over the tenths
of the half. The second matters most for recorded traces, where seeds change little or nothing and would make
any difference look certain. Where one interval holds 0, what was given stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from random import Random
from typing import Final

import msgspec

from warmroute_simulator.report.comparison import Interval
from warmroute_simulator.study.intervals import paired_difference
from warmroute_simulator.study.objective import Costs

GIVEN: Final = "given"
FOUND: Final = "found"


class Check(msgspec.Struct, frozen=True):
    """What was found against what was given, on the second half."""

    seeds: list[int]
    given: float
    """Mean cost over the seeds."""
    found: float
    over_seeds: Interval | None
    """Found − given; None where the seed changes nothing, or there is one only."""
    over_tenths: Interval
    """The same by tenths of the half, each a mean over the seeds."""


def check_of(costs: Sequence[Costs], seeds: list[int], seed: int) -> Check:
    """Reads. `costs`: as given with every seed, then as found with each; `seed`: of the intervals."""
    given, found = costs[: len(seeds)], costs[len(seeds) :]
    ours, theirs = [one.whole for one in found], [one.whole for one in given]
    idle = len(set(zip(ours, theirs, strict=True))) == 1
    chance = Random(f"intervals {seed}")
    return Check(
        seeds,
        fsum(theirs) / len(theirs),
        fsum(ours) / len(ours),
        None if idle else paired_difference(ours, theirs, chance),
        paired_difference(_tenths(found), _tenths(given), chance),
    )


def verdict_of(check: Check | None) -> tuple[str, str]:
    """Reads. Who wins, and why; without a check there was nothing to be checked."""
    if check is None:
        return GIVEN, "the search found nothing better"
    for interval, over in ((check.over_seeds, "seeds"), (check.over_tenths, "tenths of it")):
        if interval is None:
            continue
        if interval.low is None or interval.high is None:
            return GIVEN, f"the second half is too short to tell: it has one of the {over} only"
        if interval.low <= 0 <= interval.high:
            return GIVEN, (
                "on the second half the difference is within chance: its 95 % interval over "
                f"{over} includes 0"
            )
        if interval.low > 0:
            return GIVEN, "on the second half it is worse"
    return FOUND, "on the second half it is better by more than chance explains"


def _tenths(costs: Sequence[Costs]) -> list[float]:
    """Means over the seeds."""
    return [fsum(values) / len(values) for values in zip(*(one.stretches for one in costs), strict=True)]
