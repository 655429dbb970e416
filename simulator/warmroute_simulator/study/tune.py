"""A policy's best parameters for a trace, and whether they are better than those it came with.

The search (`search`) sees the first half of the trace only. What it found plays the second half, which it
has not seen, against the policy as it was given, with several seeds; `check` says who wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from warmroute_policies.parameters import Value
from warmroute_policies.spelling import policy_text
from warmroute_simulator.report.model import SCHEMA, Report
from warmroute_simulator.study.cell import Cell, Setup
from warmroute_simulator.study.check import FOUND, GIVEN, Check, check_of, verdict_of
from warmroute_simulator.study.fleet_size import FleetSize
from warmroute_simulator.study.objective import Costs, Objective
from warmroute_simulator.study.pool import Pool
from warmroute_simulator.study.search import Found, Search, Trial
from warmroute_simulator.study.space import Space
from warmroute_simulator.study.task import Part, Result, Task


class TriedPoint(msgspec.Struct, frozen=True):
    """Parameters that the search tried, on the first half."""

    params: dict[str, Value]
    costs: dict[int, float]
    """By seed; less is better: seconds, or the share of requests that miss their limits."""


class Tuning(msgspec.Struct, frozen=True):
    """What `simulator tune --json` writes."""

    schema: int
    partial: bool
    """Interrupted: nothing is recommended but what was given."""
    trace: str | None
    policy: str
    """As it was given."""
    objective: Objective
    load: float | None
    ttft_slo_s: float
    tpot_slo_s: float
    workers: int
    fleet: FleetSize | None
    ranges: list[str]
    budget: int
    runs: int
    """Of the search."""
    tried: list[TriedPoint]
    """The policy as it was given first."""
    found: str | None
    """The best of the search, as a policy with parameters."""
    check: Check | None
    winner: str
    """`found` or `given`."""
    why: str
    cells: list[Report]
    """Of the check: as given, then as found."""

    @property
    def recommended(self) -> str:
        """The policy that won, with its parameters."""
        return self.found if self.winner == FOUND and self.found is not None else self.policy


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for."""

    space: Space
    objective: Objective
    budget: int
    seed: int
    check_seeds: tuple[int, ...]
    load: float | None
    with_curves: bool = False


class _Interrupted(Exception):
    """Ctrl-C came; what the search has so far is not comparable."""


def tune(
    pool: Pool, setup: Setup, order: Order, fleet: FleetSize | None = None
) -> tuple[Tuning, list[Result]]:
    """The search and the check; with the runs of the check. Raises RunFailed, ValueError."""
    names: list[str] = []

    def evaluate(trials: Sequence[Trial]) -> list[float]:
        tasks = [
            Task(
                setup,
                Cell(order.space.at(trial.point), order.load, order.seed + trial.seed),
                Part.FIRST_HALF,
                objective=order.objective,
            )
            for trial in trials
        ]
        results = [result for result in pool.run(tasks) if result is not None]
        names.extend(result.report.trace for result in results[:1])
        if len(results) < len(tasks):
            raise _Interrupted
        return [_costs(result).whole for result in results]

    space = order.space
    search = Search.of(space, evaluate, order.budget, order.seed)
    found: Found | None = None
    results: list[Result] = []
    try:
        found = search.run()
        results = _played(pool, setup, order, found)
        paid = [_costs(result) for result in results]
        check = check_of(paid, list(order.check_seeds), order.seed) if paid else None
        winner, why = verdict_of(check)
    except _Interrupted:
        check, winner, why = None, GIVEN, "interrupted before anything was certain"
    tuning = Tuning(
        schema=SCHEMA,
        partial=pool.interrupted,
        trace=names[0].removesuffix(f" ({Part.FIRST_HALF.value})") if names else None,
        policy=policy_text(space.policy),
        objective=order.objective,
        load=order.load,
        ttft_slo_s=setup.slo.ttft_s,
        tpot_slo_s=setup.slo.tpot_s,
        workers=len(setup.run.fleet),
        fleet=fleet,
        ranges=[str(dimension) for dimension in space.dimensions],
        budget=order.budget,
        runs=search.runs,
        tried=[
            TriedPoint(
                space.values(tried.point), {order.seed + seed: cost for seed, cost in tried.costs.items()}
            )
            for tried in search.tried
            if tried.costs
        ],
        found=None if found is None else policy_text(space.at(found.best.point)),
        check=check,
        winner=winner,
        why=why,
        cells=[result.report for result in results],
    )
    return tuning, results


def only_sized(setup: Setup, order: Order, fleet: FleetSize, partial: bool) -> Tuning:
    """Where nothing was searched: the fleet was asked for alone, or none was large enough."""
    why = "the policy has no parameters to search" if fleet.workers else "no fleet was large enough"
    return Tuning(
        schema=SCHEMA,
        partial=partial,
        trace=None,
        policy=policy_text(order.space.policy),
        objective=order.objective,
        load=order.load,
        ttft_slo_s=setup.slo.ttft_s,
        tpot_slo_s=setup.slo.tpot_s,
        workers=len(setup.run.fleet),
        fleet=fleet,
        ranges=[],
        budget=order.budget,
        runs=0,
        tried=[],
        found=None,
        check=None,
        winner=GIVEN,
        why="interrupted" if partial else why,
        cells=[],
    )


def _played(pool: Pool, setup: Setup, order: Order, found: Found) -> list[Result]:
    """The second half: as given with every seed, then as found; nothing when they are the same."""
    if found.best is found.tried[0]:
        return []
    tasks = [
        Task(
            setup,
            Cell(policy, order.load, seed),
            Part.SECOND_HALF,
            objective=order.objective,
            with_curves=order.with_curves and seed == order.check_seeds[0],
        )
        for policy in (order.space.policy, order.space.at(found.best.point))
        for seed in order.check_seeds
    ]
    results = [result for result in pool.run(tasks) if result is not None]
    if len(results) < len(tasks):
        raise _Interrupted
    return results


def _costs(result: Result) -> Costs:
    assert result.costs is not None
    return result.costs
