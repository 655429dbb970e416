"""What a study found, as `docs/quality.json` keeps it: per-seed values and means, no verdicts.

Whatever the page says beyond that is computed from these values when it is rendered, so a better statistic
needs no run. Four significant digits are more than seeds agree on, and keep the file small; a line per cell
keeps its differences readable.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import Final

import msgspec

from routing_lib.store import Bounds

SCHEMA: Final = 1
_DIGITS: Final = 4


class Made(msgspec.Struct, frozen=True):
    """Who made it, when, of what and where."""

    command: str
    commit: str
    commit_date: str
    sources: str
    """Digest of both packages' modules."""
    compiled: bool
    machine: str
    versions: dict[str, str]
    runs: int
    cpu_s: float
    """Of all runs together."""


class TraceFound(msgspec.Struct, frozen=True):
    """A level of the factor "trace"."""

    name: str
    about: str
    ttft_limit_s: float
    tpot_limit_s: float
    why: str
    """Why these limits."""


class KneeFound(msgspec.Struct, frozen=True):
    """Of a place."""

    trace: str
    fleet: str
    kv_tokens: int
    load: float | None
    """In the unit of `simulation.load`; None: even a hundredth of the capacity is too much."""
    requests_per_s: float | None
    """That the load stands for."""
    found: bool
    """Whether a larger load fails. If none does, the trace is too short to load the fleet."""
    by_policy: dict[str, float | None]


class Result(msgspec.Struct, frozen=True):
    """A policy in a cell: by seed what is told with intervals, else means over the seeds."""

    ttft_mean_s: list[float]
    ttft_p99_s: list[float]
    hit_rate: list[float]
    ttft_p50_s: float
    ttft_p90_s: float
    tpot_mean_s: float
    tpot_p99_s: float
    e2e_mean_s: float
    goodput_share: float
    goodput_per_s: float
    imbalance: float
    unanswered: float
    """Share of the requests without a whole answer."""


class CellAt(msgspec.Struct, frozen=True):
    """Which cell it is, and its load in the unit of `simulation.load`."""

    trace: str
    fleet: str
    kv_tokens: int
    share: float
    load: float


class CellFound(CellAt, frozen=True):
    """A cell with all policies."""

    requests_per_s: float
    bounds: Bounds
    results: dict[str, Result]


class CapacityFound(msgspec.Struct, frozen=True):
    """How much load a policy bears on a trace; medians over the seeds."""

    trace: str
    policy: str
    load: float | None
    """The largest that holds; None: not even the smallest one."""
    found: bool
    """Whether a larger load fails."""
    requests_per_s: float | None
    goodput_per_s: float | None


class Quality(msgspec.Struct, frozen=True):
    """All of it."""

    schema: int
    mode: str
    made: Made
    seeds: list[int]
    capacity_seeds: list[int]
    policies: list[str]
    absent: list[str]
    """Traces whose files were not there."""
    traces: list[TraceFound]
    knees: list[KneeFound]
    cells: list[CellFound]
    capacities: list[CapacityFound]
    capacity_fleet: str
    capacity_kv_tokens: int


def rounded(value: float) -> float:
    """Reads. To the digits that are kept."""
    return float(f"{value:.{_DIGITS}g}")


def mean_of(values: Iterable[float]) -> float:
    """Reads. Rounded."""
    return rounded(fmean(values))


def encoded(found: msgspec.Struct) -> bytes:
    """Reads. As JSON, a line for each field and for each item of a list of objects."""
    lines = []
    for name in found.__struct_fields__:
        value = getattr(found, name)
        text = msgspec.json.encode(value)
        if isinstance(value, list) and value and isinstance(value[0], msgspec.Struct):
            text = b"[\n" + b",\n".join(b"  " + msgspec.json.encode(item) for item in value) + b"\n ]"
        lines.append(b' "%b": %b' % (name.encode(), text))
    return b"{\n" + b",\n".join(lines) + b"\n}\n"


def decoded(content: bytes) -> Quality:
    """Reads. Raises msgspec.ValidationError, and ValueError for another schema."""
    found = msgspec.json.decode(content, type=Quality)
    if found.schema != SCHEMA:
        raise ValueError(f"schema {found.schema}, but this version reads {SCHEMA}")
    return found
