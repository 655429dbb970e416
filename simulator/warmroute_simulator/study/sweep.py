"""How much load a fleet bears under a policy: raised until past the knee, which is then found by halving.

A load passes a target when the median over the seeds of the share of requests within both limits reaches it
(`rate.attainment` says who counts). Policies are searched side by side, each at its own loads, so that all
processes have something to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

import msgspec

from warmroute_policies.events import PolicySpec
from warmroute_policies.spelling import policy_text
from warmroute_simulator.report.comparison import LoadPoint
from warmroute_simulator.report.model import SCHEMA, Report
from warmroute_simulator.study.cell import Cell, Setup
from warmroute_simulator.study.compare import seed_is_idle
from warmroute_simulator.study.knee import HIGHEST, LOWEST, KneeSearch, load_at
from warmroute_simulator.study.notes import of_several
from warmroute_simulator.study.pool import Pool
from warmroute_simulator.study.rate import attainment
from warmroute_simulator.study.task import Result, Task

TYPICAL_LOADS: Final = 8
"""Loads that a search with one target tries: four at first, one or two more, three halvings."""

_SHORT: Final = 0.8
"""A run whose goodput is below this share of what was offered spent a fifth of its time after the last
arrival: its end says as much as its middle."""


class CurvePoint(msgspec.Struct, frozen=True):
    """A policy at one load; medians over the seeds."""

    load: float
    """Share of the fleet's capacity."""
    offered_per_s: float
    """Requests per second that the load stands for."""
    attainment: float
    """Share of requests within both limits."""
    goodput_per_s: float
    """Requests per second within both limits, from the first arrival to the last end."""
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    tpot_p99_s: float | None
    hit_rate: float | None
    seeds: list[int]


class FoundKnee(msgspec.Struct, frozen=True):
    """For one target."""

    target: float
    """Share of requests that must be within both limits."""
    load: float | None
    """The largest that holds, as do all below it that were tried; None: none that was tried."""
    fails_at: float | None
    """The load above it that does not hold; None: the highest one holds, or the sweep was interrupted."""
    offered_per_s: float | None
    goodput_per_s: float | None
    """At that load."""


class PolicySweep(msgspec.Struct, frozen=True):
    """One policy."""

    policy: str
    knees: list[FoundKnee]
    curve: list[CurvePoint]
    """By load, ascending."""


class Sweep(msgspec.Struct, frozen=True):
    """What `simulator sweep --json` writes."""

    schema: int
    partial: bool
    ttft_slo_s: float
    tpot_slo_s: float
    policies: list[PolicySweep]
    cells: list[Report]
    notes: list[str]


class _Searched:
    """State: one policy's search, and what its runs left."""

    def __init__(self, policy: PolicySpec, targets: Sequence[float], seeds: Sequence[int]) -> None:
        self.policy = policy
        self.seeds = list(seeds)
        self.search = KneeSearch(targets)
        self.by_step: dict[int, list[Result]] = {}

    def tell(self, step: int, results: list[Result]) -> None:
        """Writes."""
        self.by_step[step] = results
        self.search.tell(step, median(attainment(result.report) for result in results))

    def drop_idle_seeds(self) -> None:
        """Writes. Where the seed changes nothing, one is enough from now on."""
        if seed_is_idle([result.report for results in self.by_step.values() for result in results]):
            del self.seeds[1:]


def sweep(
    pool: Pool,
    setup: Setup,
    policies: Sequence[PolicySpec],
    targets: Sequence[float],
    seeds: Sequence[int],
    *,
    with_curves: bool = False,
) -> tuple[Sweep, list[Result]]:
    """The sweep, and for each policy its run with the first seed at the knee of the first target (with curves
    where asked for). Raises RunFailed.
    """
    searched = [_Searched(policy, targets, seeds) for policy in policies]
    while not pool.interrupted:
        wanted = [
            (one, step, seed) for one in searched for step in one.search.next_steps() for seed in one.seeds
        ]
        if not wanted:
            break
        tasks = [
            Task(setup, Cell(one.policy, load_at(step), seed), with_curves=with_curves and seed == seeds[0])
            for one, step, seed in wanted
        ]
        _tell(wanted, pool.run(tasks))
    reports = [
        result.report for one in searched for _, results in sorted(one.by_step.items()) for result in results
    ]
    policies_found = [_policy_sweep(one) for one in searched]
    found = Sweep(
        SCHEMA,
        pool.interrupted,
        setup.slo.ttft_s,
        setup.slo.tpot_s,
        policies_found,
        reports,
        _notes(searched, policies_found, reports),
    )
    return found, [result for one in searched if (result := _at_knee(one)) is not None]


def load_points(found: Sweep) -> list[LoadPoint]:
    """Reads. All policies' curves, for a page."""
    return [
        LoadPoint(one.policy, point.load, point.goodput_per_s, point.attainment, point.ttft_p99_s)
        for one in found.policies
        for point in one.curve
    ]


def _tell(wanted: Sequence[tuple[_Searched, int, int]], results: Sequence[Result | None]) -> None:
    """Writes. After Ctrl-C the seeds that are done stand for the others."""
    together: dict[tuple[int, int], tuple[_Searched, list[Result | None]]] = {}
    for (one, step, _), result in zip(wanted, results, strict=True):
        together.setdefault((id(one), step), (one, []))[1].append(result)
    for (_, step), (one, runs) in together.items():
        done = [run for run in runs if run is not None]
        if done:
            one.tell(step, done)
    for one in dict.fromkeys(one for one, _, _ in wanted):
        one.drop_idle_seeds()


def _policy_sweep(one: _Searched) -> PolicySweep:
    curve = [_point(load_at(step), results) for step, results in sorted(one.by_step.items())]
    by_load = {point.load: point for point in curve}
    knees = []
    for knee in one.search.knees() if curve else ():
        point = None if knee.holds is None else by_load[knee.holds]
        knees.append(
            FoundKnee(
                knee.target,
                knee.holds,
                knee.fails,
                None if point is None else point.offered_per_s,
                None if point is None else point.goodput_per_s,
            )
        )
    return PolicySweep(policy_text(one.policy), knees, curve)


def _point(load: float, results: Sequence[Result]) -> CurvePoint:
    reports = [result.report for result in results]
    return CurvePoint(
        load,
        median(result.offered_per_s for result in results),
        median(attainment(report) for report in reports),
        median(report.goodput.requests_per_s for report in reports),
        _median([None if report.ttft_s is None else report.ttft_s.p50 for report in reports]),
        _median([None if report.ttft_s is None else report.ttft_s.p99 for report in reports]),
        _median([None if report.tpot_s is None else report.tpot_s.p99 for report in reports]),
        _median([report.hit_rate for report in reports]),
        [report.seed for report in reports],
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _at_knee(one: _Searched) -> Result | None:
    """The lowest load where nothing holds."""
    if not one.by_step:
        return None
    holds = one.search.knees()[0].holds
    step = next((step for step in one.by_step if load_at(step) == holds), min(one.by_step))
    return one.by_step[step][0]


def _notes(
    searched: Sequence[_Searched], policies: Sequence[PolicySweep], reports: Sequence[Report]
) -> list[str]:
    """What a reader should know: of the trace, and where limits of the sweep itself were met."""
    notes = of_several(reports)
    for one in searched:
        name = policy_text(one.policy)
        for knee in one.search.knees() if one.by_step else ():
            if knee.fails is None and knee.holds == load_at(HIGHEST):
                notes.append(
                    f"{name} keeps the limits at a load of {knee.holds:g}: the trace is too short to load "
                    "the fleet, or the limits are too wide"
                )
            if knee.holds is None and knee.fails == load_at(LOWEST):
                notes.append(
                    f"{name} misses the limits at a load of {knee.fails:g}: with it even an idle fleet "
                    f"cannot keep them for {100 * knee.target:g} % of the requests"
                )
    if any(_is_short(knee) for one in policies for knee in one.knees):
        notes.append(
            "at a knee much of the time passed after the last arrival: of a longer trace of the same traffic "
            "the fleet would bear less, and its goodput would be nearer to what is offered"
        )
    refused = max((report.outcomes["refused"] for report in reports), default=0)
    if refused:
        notes.append(f"{refused} requests are longer than any KV cache; they count as missed at every load")
    return notes


def _is_short(knee: FoundKnee) -> bool:
    if knee.goodput_per_s is None or knee.offered_per_s is None:
        return False
    return knee.goodput_per_s < _SHORT * knee.target * knee.offered_per_s
