"""The smallest fleet that keeps its limits while the trace comes at the pace at which it was recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

import msgspec

from warmroute_policies.events import PolicySpec
from warmroute_simulator.study.cell import Cell, Setup
from warmroute_simulator.study.pool import Pool
from warmroute_simulator.study.rate import attainment
from warmroute_simulator.study.task import Task


class SizeTried(msgspec.Struct, frozen=True):
    """A fleet of one size; the median over the seeds."""

    workers: int
    attainment: float


class FleetSize(msgspec.Struct, frozen=True):
    """What was found."""

    target: float
    """Share of requests that must be within both limits."""
    workers: int | None
    """The smallest that holds; None: not even the largest one, or interrupted."""
    tried: list[SizeTried]
    """By size, ascending."""


def smallest(low: int, high: int, holds: Callable[[int], bool]) -> int | None:
    """The least number from `low` to `high` that holds, where all above one that holds do too; None when
    there is none. Asks about log2 of as many as there are."""
    if not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return high


def fleet_size(
    pool: Pool,
    setup_for: Callable[[int], Setup],
    policy: PolicySpec,
    sizes: range,
    target: float,
    seeds: Sequence[int],
) -> FleetSize:
    """Runs the whole trace on fleets of several sizes. Raises RunFailed."""
    tried: dict[int, float] = {}

    def holds(workers: int) -> bool:
        results = pool.run([Task(setup_for(workers), Cell(policy, None, seed)) for seed in seeds])
        done = [result for result in results if result is not None]
        if len(done) < len(seeds):
            return False
        tried[workers] = median(attainment(result.report) for result in done)
        return tried[workers] >= target

    found = smallest(sizes[0], sizes[-1], holds)
    return FleetSize(
        target,
        None if pool.interrupted else found,
        [SizeTried(workers, share) for workers, share in sorted(tried.items())],
    )
