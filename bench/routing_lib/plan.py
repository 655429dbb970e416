"""What a study is of: the cells, policies and seeds of each mode.

    published   rows of the grid in which every two levels of different factors meet, and the knee of each
                policy on each trace
    quick       of these rows as few as have every level once; six policies, three seeds: a look
    full        the whole grid

Quick's runs are runs of `published`, and published's are runs of `full`: whoever has played the smaller study
has begun the larger one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from routing_lib.covering import covering
from routing_lib.factors import SEEDS, Cell, Place, TraceFactor, all_cells, workers_of
from routing_lib.knees import REFERENCES
from warmroute_policies.errors import ConfigError
from warmroute_policies.plugins import load_policy
from warmroute_policies.registry import available
from warmroute_policies.spelling import parse_policy

OURS: Final = "cache_aware"
"""The policy that verdicts are about."""

MODES: Final = ("published", "quick", "full")

VARIANTS: Final = ("sglang_cache_aware:rule=smg-1.13",)
"""Policies with parameters that stand beside those with defaults, where they can be made."""

STRONGEST: Final = (
    OURS,
    "least_prefill_work",
    "llmd_sticky_until_saturated",
    "dynamo_kv",
    "preble",
    "lmetric",
    "sglang_cache_aware",
    "session_sticky",
    "prefix_hash",
    "consistent_hash",
    "least_requests",
    "power_of_two",
)
"""Who is asked first for a quick look."""
QUICK_POLICIES: Final = 6
QUICK_SEEDS: Final = 3

CAPACITY_FLEET: Final = "8"
CAPACITY_KV_TOKENS: Final = 1_000_000
"""Where each policy's own knee is looked for: the middle of both factors."""
CAPACITY_SEEDS: Final = 3
"""Their median decides whether a load holds, as in `simulator sweep`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A study before it is played."""

    mode: str
    traces: Mapping[str, TraceFactor]
    cells: tuple[Cell, ...]
    policies: tuple[str, ...]
    references: tuple[str, ...]
    """Whose knees make a place's."""
    seeds: tuple[int, ...]
    capacity_at: tuple[Place, ...]
    """Where each policy's own knee is looked for."""
    capacity_seeds: tuple[int, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        """Reads. Every place whose knee is needed, once."""
        return tuple(dict.fromkeys([*self.capacity_at, *(cell.place for cell in self.cells)]))


def plan_of(mode: str, traces: Mapping[str, TraceFactor], seeds: int = SEEDS) -> Plan:
    """Reads. The study of these traces."""
    policies = makeable((*available(), *VARIANTS))
    cells = all_cells(tuple(traces))
    if mode != "full":
        cells = _covering(cells, traces, 2)
    if mode == "quick":
        cells = _covering(cells, traces, 1)
        policies = tuple(name for name in STRONGEST if name in policies)[:QUICK_POLICIES]
        seeds = min(seeds, QUICK_SEEDS)
    places = [Place(trace, CAPACITY_FLEET, CAPACITY_KV_TOKENS) for trace in traces]
    return Plan(
        mode,
        traces,
        tuple(sorted(cells, key=lambda cell: _position(cell, traces))),
        policies,
        tuple(name for name in REFERENCES if name in policies),
        tuple(range(seeds)),
        () if mode == "quick" else tuple(places),
        tuple(range(min(seeds, CAPACITY_SEEDS))),
    )


def makeable(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Reads. Those policies that there are here, with parameters that they know."""
    found = []
    for text in texts:
        policy = parse_policy(text)
        try:
            load_policy(policy.name, policy.params)
        except ConfigError:
            continue
        found.append(text)
    return tuple(found)


def _covering(cells: list[Cell], traces: Mapping[str, TraceFactor], strength: int) -> list[Cell]:
    def cost(row: tuple[str, str, int, float]) -> float:
        return traces[row[0]].source(workers_of(row[1])).requests

    rows = [(*cell.place, cell.share) for cell in cells]
    return [Cell(Place(*row[:3]), row[3]) for row in covering(rows, strength, cost)]


def _position(cell: Cell, traces: Mapping[str, TraceFactor]) -> tuple[int, float, int, str, int]:
    """By trace, then by load, then by fleet."""
    place = cell.place
    return list(traces).index(place.trace), cell.share, workers_of(place.fleet), place.fleet, place.kv_tokens
