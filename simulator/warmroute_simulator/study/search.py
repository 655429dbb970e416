"""A search for the best point of a space under a budget of runs.

    spread      half of the budget: points that fill the space, and the one where the policy stands
    halving     the better quarter runs with a second seed, the better half of these with a third
    refining    the rest: neighbours of the best point so far, nearer ones when a round brings nothing

A point is judged by how much less it costs than the origin *with the same seeds*: what is a hard seed for
one is hard for all. Where three seeds do not change what the origin costs (a recorded trace, a policy
without chance), they change nothing for the others, and all runs go to new points.

What is run next depends on results alone and not on who is done first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil, fsum
from random import Random
from typing import Final

from warmroute_simulator.study.halton import halton
from warmroute_simulator.study.space import Point, Space

SEEDS: Final = 3
"""A point that is best with one seed may be lucky; one that is best with three hardly ever is."""
ROUND: Final = 4
"""Neighbours that are tried at once: enough for a few processes, few enough to learn between rounds."""
NEAR: Final = 0.25
"""Half the side of the first box around the best point, of the whole space's 1."""
NEAREST: Final = NEAR / 8
"""Nearer ones hardly differ; a search that has budget left looks around farther away again."""
LEAST_BUDGET: Final = 8
"""The origin with three seeds, and a few others."""

_LOOKS: Final = 200
"""Points that are looked at for one that is new."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One run."""

    point: Point
    seed: int


@dataclass(slots=True)
class Tried:
    """A point and what it cost, by seed."""

    point: Point
    costs: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """The best point, and all that were tried; the first of these is the origin."""

    best: Tried
    tried: list[Tried]


Evaluate = Callable[[Sequence[Trial]], Sequence[float]]
"""Costs of the trials; less is better."""


class Search:
    """State: what was tried, the runs that are left, and the points that come next."""

    def __init__(
        self,
        origin: Point,
        accepts: Callable[[Point], bool],
        same: Callable[[Point], object],
        evaluate: Evaluate,
        budget: int,
        seed: int = 0,
    ) -> None:
        """`same`: points with equal values of it are one and the same and never run twice.

        Raises ValueError for a budget that is too small.
        """
        if budget < LEAST_BUDGET:
            raise ValueError(f"a search needs a budget of at least {LEAST_BUDGET} runs, not {budget}")
        self.tried: list[Tried] = []
        self._accepts = accepts
        self._same = same
        self._evaluate = evaluate
        self._left = budget
        self._budget = budget
        self._seeds = SEEDS
        self._points = halton(len(origin), Random(f"points {seed}"))
        self._known: set[object] = set()
        self._origin = self._add(origin)

    @classmethod
    def of(cls, space: Space, evaluate: Evaluate, budget: int, seed: int = 0) -> Search:
        """Reads. Of a policy's parameters, whatever its costs are made of: a trace's half, or several
        workloads. Raises ValueError for a budget that is too small."""
        return cls(
            space.origin, space.accepts, lambda point: str(space.values(point)), evaluate, budget, seed
        )

    def run(self) -> Found:
        """Writes. The whole search."""
        self._spread()
        if self._seeds > 1:
            self._halve()
        self._refine()
        return Found(self.best(), self.tried)

    @property
    def runs(self) -> int:
        """Reads. That were paid for so far."""
        return self._budget - self._left

    def best(self) -> Tried:
        """Reads. Of those that ran with all seeds the one that costs least, the first of equals."""
        return min((tried for tried in self.tried if len(tried.costs) >= self._seeds), key=self._gain)

    def _spread(self) -> None:
        """Writes."""
        count = max(1, self._budget // 2 - SEEDS)
        others = [tried for tried in (self._fresh() for _ in range(count)) if tried is not None]
        origin = self._origin
        self._pay([(origin, seed) for seed in range(SEEDS)] + [(tried, 0) for tried in others])
        self._seeds = 1 if len(set(origin.costs.values())) == 1 else SEEDS

    def _halve(self) -> None:
        """Writes. Leaves at least half of what is left for the refining."""
        survivors = [tried for tried in self.tried if tried is not self._origin]
        keep = ceil(len(survivors) / 4)
        for seed in range(1, SEEDS):
            survivors = sorted(survivors, key=self._gain)[: min(keep, self._left // 2)]
            self._pay([(tried, seed) for tried in survivors])
            keep = ceil(keep / 2)

    def _refine(self) -> None:
        """Writes. Neighbours run with one seed; those that beat the best there run with the others too."""
        reach = NEAR
        while self._left > 0:
            best = self.best()
            near = (self._neighbour(best.point, reach) for _ in range(min(ROUND, self._left)))
            neighbours = [tried for tried in near if tried is not None]
            if not neighbours:
                return
            self._pay([(tried, 0) for tried in neighbours])
            promising = [tried for tried in neighbours if tried.costs[0] < best.costs[0]]
            for tried in sorted(promising, key=self._gain):
                if self._left >= self._seeds - 1:
                    self._pay([(tried, seed) for seed in range(1, self._seeds)])
            if self.best() is best:
                reach = reach / 2 if reach > NEAREST else NEAR

    def _pay(self, runs: Sequence[tuple[Tried, int]]) -> None:
        """Writes. Runs points with seeds, as far as the budget goes."""
        runs = runs[: self._left]
        if not runs:
            return
        self._left -= len(runs)
        costs = self._evaluate([Trial(tried.point, seed) for tried, seed in runs])
        for (tried, seed), cost in zip(runs, costs, strict=True):
            tried.costs[seed] = cost

    def _gain(self, tried: Tried) -> float:
        """Reads. Mean of what it costs more than the origin, over its seeds."""
        origin = self._origin.costs
        return fsum(cost - origin[seed] for seed, cost in tried.costs.items()) / len(tried.costs)

    def _add(self, point: Point) -> Tried:
        self._known.add(self._same(point))
        self.tried.append(Tried(point))
        return self.tried[-1]

    def _fresh(self) -> Tried | None:
        return self._first_new(lambda point: point)

    def _neighbour(self, centre: Point, reach: float) -> Tried | None:
        return self._first_new(
            lambda point: tuple(
                _reflected(at + reach * (2 * place - 1)) for at, place in zip(centre, point, strict=True)
            )
        )

    def _first_new(self, place: Callable[[Point], Point]) -> Tried | None:
        """Writes. The next point that the policy accepts and that was not tried; None: there seems to be none
        (of whole numbers and choices there are only so many)."""
        for _ in range(_LOOKS):
            point = place(next(self._points))
            if self._same(point) not in self._known and self._accepts(point):
                return self._add(point)
        return None


def _reflected(place: float) -> float:
    """Back into 0 to 1, as from a mirror at the end that it crossed."""
    return abs(place) if place <= 1 else 2 - place
