"""Cells of the routing benchmark whose verdicts are known, as if a study had found them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from routing_lib.factors import traces
from routing_lib.plan import OURS
from routing_lib.results import (
    SCHEMA,
    CapacityFound,
    CellFound,
    KneeFound,
    Made,
    Quality,
    Result,
    TraceFound,
)
from routing_lib.store import Bounds

BOUNDS = Bounds(0.9, 0.7, 0.8, 0.05, 0.5)
MADE = Made("bench/routing.py", "0" * 40, "2026-11-20", "0" * 16, False, "a machine", {"Python": "3"}, 9, 4.5)


def result(
    mean_s: Sequence[float], p99_s: Sequence[float] | None = None, hit: float = 0.5, unanswered: float = 0.0
) -> Result:
    """What a policy had; its p99 is ten times its mean unless told."""
    slow = [10 * value for value in mean_s] if p99_s is None else list(p99_s)
    means = (mean_s[0], 2 * mean_s[0], 0.02, 0.04, 5.0, 0.95, 20.0, 1.1)
    return Result(list(mean_s), slow, [hit] * len(mean_s), *means, unanswered)


def cell(
    results: Mapping[str, Sequence[float] | Result],
    trace: str = "rag",
    share: float = 0.8,
    fleet: str = "8",
    kv_tokens: int = 1_000_000,
) -> CellFound:
    """A cell with these mean TTFTs by seed."""
    found = {name: one if isinstance(one, Result) else result(one) for name, one in results.items()}
    return CellFound(trace, fleet, kv_tokens, share, share, 100.0, BOUNDS, found)


def quality(cells: Sequence[CellFound], mode: str = "published", capacities: bool = True) -> Quality:
    """All that a page is made of."""
    names = list(dict.fromkeys(one.trace for one in cells))
    policies = list(cells[0].results)
    places = dict.fromkeys((one.trace, one.fleet, one.kv_tokens) for one in cells)
    described = traces_here(names)
    return Quality(
        schema=SCHEMA,
        mode=mode,
        made=MADE,
        seeds=[0, 1, 2],
        capacity_seeds=[0, 1, 2],
        policies=policies,
        absent=[],
        traces=described,
        knees=[KneeFound(*place, 1.0, 125.0, True, {OURS: 1.0}) for place in places],
        cells=list(cells),
        capacities=[
            CapacityFound(trace, policy, 1.0, True, 100.0 - number, 95.0)
            for trace in names
            for number, policy in enumerate(policies)
            if capacities
        ],
        capacity_fleet="8",
        capacity_kv_tokens=1_000_000,
    )


def traces_here(names: Sequence[str]) -> list[TraceFound]:
    """As the benchmark describes them."""
    known = traces(Path())
    return [
        TraceFound(
            name, known[name].about, known[name].limits.ttft_s, known[name].limits.tpot_s, known[name].why
        )
        for name in names
    ]
