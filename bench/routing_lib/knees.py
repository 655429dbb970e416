"""Where a place's knee is: the largest load at which nine of ten requests keep the limits.

A policy's knee is what `study.knee` finds by raising the load and halving. A *place's* knee, of which loads
are shares, is the largest of a few policies' that are known to be strong: one alone would set the loads by
its own weakness. One seed does, since neighbouring loads differ by more than seeds do.

Nothing here plays a run. What is asked of a search is what has come of loads so far, and it says which ones
it still needs; so a study that was interrupted goes on where it was, from the file of its runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, log10
from typing import Final

from warmroute_simulator.study.knee import (
    FIRST,
    HIGHEST,
    LOWEST,
    STEPS_PER_DECADE,
    STRIDE,
    Knee,
    KneeSearch,
    load_at,
)

TARGET: Final = 0.9
"""Share of the requests that must keep the limits. An idle fleet keeps them for 95 to 100 %."""

REFERENCES: Final = ("cache_aware", "least_prefill_work", "llmd_sticky_until_saturated")
"""One that prices seconds, one that counts tokens, one that stays until a worker is full."""

TYPICAL_LOADS: Final = 8
TYPICAL_LOADS_NEAR: Final = 6
"""Loads that a search tries: without an idea of the knee, and next to that of the place."""


@dataclass(frozen=True, slots=True)
class Followed:
    """How far a search is."""

    missing: tuple[float, ...]
    """Loads whose outcome it waits for; none: the knee is known."""
    tried: tuple[float, ...]
    knee: Knee


def followed(share_at: Callable[[float], float | None], near: float | None = None) -> Followed:
    """Reads. The search as far as outcomes are known. `share_at`: the share of requests within the limits
    at a load; None: not known. `near`: a load that the knee is expected to be close to."""
    search = KneeSearch((TARGET,))
    tried: list[float] = []
    steps = list(FIRST) if near is None else _around(near)
    while steps:
        shares = [share_at(load_at(step)) for step in steps]
        missing = [load_at(step) for step, share in zip(steps, shares, strict=True) if share is None]
        if missing:
            return Followed(tuple(missing), tuple(tried), search.knees()[0])
        for step, share in zip(steps, shares, strict=True):
            assert share is not None
            search.tell(step, share)
        tried += map(load_at, steps)
        steps = search.next_steps()
    return Followed((), tuple(tried), search.knees()[0])


def place_knee(knees: Sequence[Knee]) -> Knee:
    """Reads. The best of several policies'. Raises ValueError when there is none."""
    return max(knees, key=lambda knee: knee.holds or 0.0)


def _around(near: float) -> list[int]:
    """The two strides that hold the expected knee: multiples of a stride, so that a search which climbs on
    from them meets the highest load and does not end before it."""
    above = ceil(round(log10(near) * STEPS_PER_DECADE) / STRIDE) * STRIDE
    above = min(max(above, LOWEST + STRIDE), HIGHEST)
    return [above - STRIDE, above]
