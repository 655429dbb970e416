"""What a tuning study found, as `docs/tuning.json` keeps it: costs and per-seed values, no verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from routing_lib.agenda import Agenda
from routing_lib.gathered import result_of
from routing_lib.results import CellAt, Made, Result, rounded
from tuning_lib.searched import with_knee
from tuning_lib.workloads import TUNED_ON, UNSEEN
from warmroute_policies.parameters import Value
from warmroute_policies.spelling import policy_text
from warmroute_simulator.study.search import Found
from warmroute_simulator.study.space import Space

SCHEMA: Final = 1


class PointTried(msgspec.Struct, frozen=True):
    """Parameters that the search tried."""

    params: dict[str, Value]
    gains: dict[int, float]
    """By seed (`costs`): below 0 is better than the defaults."""


class CellChecked(CellAt, frozen=True):
    """A cell with the defaults and with what was found."""

    defaults: Result
    found: Result


class Tuning(msgspec.Struct, frozen=True):
    """All of it."""

    schema: int
    mode: str
    made: Made
    policy: str
    """The defaults."""
    found: str
    """The best of the search, as a policy with parameters; without any where the defaults are."""
    found_params: dict[str, Value]
    ranges: list[str]
    """What was searched, as `simulator tune --params` takes it."""
    budget: int
    trials: int
    """Points with a seed that were played."""
    seeds: list[int]
    """Of the check."""
    absent: list[str]
    """Traces whose files were not there."""
    tried: list[PointTried]
    """The defaults first."""
    tuned_on: list[CellChecked]
    unseen: list[CellChecked]


def gathered(
    agenda: Agenda, space: Space, budget: int, found: Found, made: Made, absent: Sequence[str]
) -> Tuning:
    """Reads. From what was played (`searched`) to what is kept."""
    origin = found.tried[0].costs
    best = policy_text(space.at(found.best.point))
    halves = [
        [
            CellChecked(
                *cell.place,
                cell.share,
                agenda.load(cell) or 0.0,
                result_of(agenda.runs(cell, policy_text(space.policy))),
                result_of(agenda.runs(cell, best)),
            )
            for cell in with_knee(agenda, traces)
        ]
        for traces in (TUNED_ON, UNSEEN)
    ]
    return Tuning(
        schema=SCHEMA,
        mode=agenda.plan.mode,
        made=made,
        policy=policy_text(space.policy),
        found=best,
        found_params=space.values(found.best.point),
        ranges=[str(dimension) for dimension in space.dimensions],
        budget=budget,
        trials=sum(len(one.costs) for one in found.tried),
        seeds=list(agenda.plan.seeds),
        absent=list(absent),
        tried=[
            PointTried(
                space.values(one.point),
                {seed: rounded(cost - origin[seed]) for seed, cost in one.costs.items()},
            )
            for one in found.tried
            if one.costs
        ],
        tuned_on=halves[0],
        unseen=halves[1],
    )


def decoded(content: bytes) -> Tuning:
    """Reads. Raises msgspec.ValidationError, and ValueError for another schema."""
    found = msgspec.json.decode(content, type=Tuning)
    if found.schema != SCHEMA:
        raise ValueError(f"schema {found.schema}, but this version reads {SCHEMA}")
    return found
