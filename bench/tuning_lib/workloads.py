"""Which workloads the search sees and which it does not, and their cells.

The cells are those of the routing study with load enough for routing to matter: on an idle fleet every
parameter is as good as another, and noise would be searched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from routing_lib.factors import Cell, TraceFactor
from routing_lib.plan import Plan, plan_of
from warmroute_simulator.study.search import SEEDS

TUNED_ON: Final = ("mooncake", "shared_prefix", "chat_agents")
UNSEEN: Final = ("agentic", "azure", "rag")
"""Of the six traces of `routing_lib.factors`. Both halves have recorded and made-up ones, open and closed
loop: what the search finds cannot be of one kind of traffic only."""

LEAST_SHARE: Final = 0.6
"""Of the knee: `SHARES` calls it usual. Below it queues are short and caches roomy whatever is chosen."""


def plan_of_tuning(mode: str, traces: Mapping[str, TraceFactor]) -> Plan:
    """Reads. The routing study's cells in this mode, the seeds of a search, and no policies: which are played
    is known one after the other."""
    plan = plan_of(mode, traces)
    return replace(
        plan,
        cells=tuple(cell for cell in plan.cells if cell.share >= LEAST_SHARE),
        policies=(),
        seeds=tuple(range(SEEDS)),
        capacity_at=(),
        capacity_seeds=(),
    )


def cells_of(plan: Plan, traces: tuple[str, ...]) -> list[Cell]:
    """Reads. Those of one half."""
    return [cell for cell in plan.cells if cell.place.trace in traces]
