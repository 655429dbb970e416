"""From the runs of a plan that was played to what is kept of them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec

from routing_lib.agenda import Agenda
from routing_lib.factors import Cell, Place
from routing_lib.plan import CAPACITY_FLEET, CAPACITY_KV_TOKENS, OURS
from routing_lib.results import (
    SCHEMA,
    CapacityFound,
    CellFound,
    KneeFound,
    Made,
    Quality,
    Result,
    TraceFound,
    mean_of,
    rounded,
)
from routing_lib.store import Bounds, Run


def gathered(agenda: Agenda, made: Made, absent: Sequence[str]) -> Quality:
    """Reads. Cells whose place has no knee are left out; there is nothing to take shares of."""
    plan = agenda.plan
    return Quality(
        schema=SCHEMA,
        mode=plan.mode,
        made=made,
        seeds=list(plan.seeds),
        capacity_seeds=list(plan.capacity_seeds),
        policies=list(plan.policies),
        absent=list(absent),
        traces=[
            TraceFound(name, factor.about, factor.limits.ttft_s, factor.limits.tpot_s, factor.why)
            for name, factor in plan.traces.items()
        ],
        knees=[_knee(agenda, place) for place in plan.places],
        cells=[found for cell in plan.cells if (found := _cell(agenda, cell)) is not None],
        capacities=[
            _capacity(agenda, place, policy) for place in plan.capacity_at for policy in plan.policies
        ],
        capacity_fleet=CAPACITY_FLEET,
        capacity_kv_tokens=CAPACITY_KV_TOKENS,
    )


def result_of(runs: Sequence[Run]) -> Result:
    """Reads. A policy's runs in one cell, by seed."""
    return Result(
        ttft_mean_s=[rounded(run.ttft_mean_s) for run in runs],
        ttft_p99_s=[rounded(run.ttft_p99_s) for run in runs],
        hit_rate=[rounded(run.hit_rate) for run in runs],
        ttft_p50_s=mean_of(run.ttft_p50_s for run in runs),
        ttft_p90_s=mean_of(run.ttft_p90_s for run in runs),
        tpot_mean_s=mean_of(run.tpot_mean_s for run in runs),
        tpot_p99_s=mean_of(run.tpot_p99_s for run in runs),
        e2e_mean_s=mean_of(run.e2e_mean_s for run in runs),
        goodput_share=mean_of(run.goodput_share for run in runs),
        goodput_per_s=mean_of(run.goodput_per_s for run in runs),
        imbalance=mean_of(run.imbalance for run in runs),
        unanswered=mean_of(run.unanswered for run in runs),
    )


def _knee(agenda: Agenda, place: Place) -> KneeFound:
    by_policy = {name: agenda.reference(place, name).knee for name in agenda.plan.references}
    knee = agenda.knee(place)
    assert knee is not None, "the plan was played"
    runs: list[Run] = []
    if knee.holds is not None:
        first = agenda.plan.seeds[:1]
        holders = [name for name, own in by_policy.items() if own.holds == knee.holds]
        runs = agenda.at(place, knee.holds, holders[0], first)
    return KneeFound(
        place.trace,
        place.fleet,
        place.kv_tokens,
        knee.holds,
        rounded(runs[0].offered_per_s) if runs else None,
        knee.fails is not None,
        {name: own.holds for name, own in by_policy.items()},
    )


def _cell(agenda: Agenda, cell: Cell) -> CellFound | None:
    load = agenda.load(cell)
    if load is None:
        return None
    runs = {policy: agenda.runs(cell, policy) for policy in agenda.plan.policies}
    bounds = runs[OURS][0].bounds
    assert bounds is not None, "the first seed of ours is played with them"
    return CellFound(
        *cell.place,
        cell.share,
        load,
        mean_of(run.offered_per_s for run in runs[OURS]),
        _rounded(bounds),
        {policy: result_of(of_policy) for policy, of_policy in runs.items()},
    )


def _capacity(agenda: Agenda, place: Place, policy: str) -> CapacityFound:
    own = agenda.capacity(place, policy)
    assert own is not None, "the plan was played"
    assert not own.missing, "the plan was played"
    knee = own.knee
    runs: list[Run] = []
    if knee.holds is not None:
        runs = agenda.at(place, knee.holds, policy, agenda.plan.capacity_seeds)
    return CapacityFound(
        place.trace,
        policy,
        knee.holds,
        knee.fails is not None,
        rounded(median(run.offered_per_s for run in runs)) if runs else None,
        rounded(median(run.goodput_per_s for run in runs)) if runs else None,
    )


def _rounded(bounds: Bounds) -> Bounds:
    return Bounds(*(rounded(value) for value in msgspec.structs.astuple(bounds)))
