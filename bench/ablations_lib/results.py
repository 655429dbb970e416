"""What was found, as `docs/ablations.json` keeps it: per-seed values and means, no verdicts.

Cells of terms are those of `routing_lib.results`, with `cache_aware` and it without each term as policies.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ablations_lib.taken import Taken
from routing_lib.results import CellFound, Made

SCHEMA: Final = 1

ALL: Final = "all"
"""The name of a result with all that is learned."""


class BeliefResult(msgspec.Struct, frozen=True):
    """By seed what is told with intervals, else means over the seeds."""

    ttft_mean_s: list[float]
    unanswered: float
    """Share of the requests without a whole answer."""


class BeliefFound(msgspec.Struct, frozen=True):
    """A belief at a place."""

    trace: str
    fleet: str
    kv_tokens: int
    load: float
    """In the unit of `simulation.load`."""
    belief: str
    results: dict[str, BeliefResult]
    """Of `ALL`, and of each switch that is off."""


class Ablations(msgspec.Struct, frozen=True):
    """All of it."""

    schema: int
    mode: str
    made: Made
    seeds: list[int]
    absent: list[str]
    """Traces whose files were not there."""
    terms: list[Taken]
    unknown: list[Taken]
    """Terms whose parameter this version does not have."""
    learned: list[Taken]
    cells: list[CellFound]
    beliefs: list[BeliefFound]


def decoded(content: bytes) -> Ablations:
    """Reads. Raises msgspec.ValidationError, and ValueError for another schema."""
    found = msgspec.json.decode(content, type=Ablations)
    if found.schema != SCHEMA:
        raise ValueError(f"schema {found.schema}, but this version reads {SCHEMA}")
    return found
