"""What a simulation leaves behind: a row for each request, in the trace's order, and samples of the fleet.

Columns of machine numbers, some 70 bytes a request; everything that a report says is computed from them.
Times are seconds since the simulation's beginning, `nan` where the moment never came.
"""

from __future__ import annotations

import enum
from array import array
from dataclasses import dataclass, field
from math import nan
from typing import NamedTuple

import msgspec

from warmroute_policies.types import CostShares
from warmroute_simulator.traces.trace import Trace


class Outcome(enum.IntEnum):
    """How a request ended; the column `outcomes` holds these numbers."""

    NOT_RUN = 0
    """It never came: the run was cut short, or what it waited for failed."""
    OK = 1
    UNFINISHED = 2
    """It came and had not ended when the run was cut short."""
    FAILED = 3
    """Its worker died after the first token, or no other one could be tried."""
    REFUSED = 4
    """Prompt and answer are longer than the worker accepts, or than any worker does."""
    TIMED_OUT = 5
    """The router gave it up: no first token, or no end, in time."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The fleet at one moment; a number for each worker, in the order of `Records.workers`."""

    at_s: float
    waiting: tuple[int, ...]
    """Requests in the engine's queue."""
    running: tuple[int, ...]
    kv_used: tuple[float, ...]
    """Share of the KV cache that running requests hold, 0 to 1."""
    kv_cached: tuple[float, ...]
    """Share that holds something: running requests, and prefixes that nobody uses at the moment."""


@dataclass(slots=True)
class WorkerTotals:
    """What one worker did."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    evicted_tokens: int = 0
    preemptions: int = 0
    busy_s: float = 0.0
    """Time in which steps ran."""


class Explanation(msgspec.Struct, frozen=True):
    """Why a request went where it went: what each worker would have cost at that moment."""

    row: int
    worker: str
    reason: str
    shares: list[CostShares]


class Happened(NamedTuple):
    """Something that a scenario did."""

    at_s: float
    what: str


@dataclass(slots=True)
class Records:
    """State: the columns."""

    trace: Trace
    workers: list[str]
    """Ids, in the order of the numbers in the column `worker`."""
    reasons: list[str] = field(default_factory=list)
    """The policy's words, in the order of the numbers in the column `reason`."""
    happened: list[Happened] = field(default_factory=list)
    """What a scenario did."""
    samples: list[Sample] = field(default_factory=list)
    totals: list[WorkerTotals] = field(default_factory=list)
    """By worker."""
    ended_s: float = 0.0
    """When the last thing happened."""
    partial: bool = False
    """The run was interrupted."""
    admitted: array[int] = field(default_factory=lambda: array("i"))
    """Rows in the order in which engines took them up: the sequence that bounds are computed for."""
    session_started_s: array[float] = field(default_factory=lambda: array("d"))
    session_ended_s: array[float] = field(default_factory=lambda: array("d"))
    """By session; `nan` for a session that did not start, or of which a request did not end well."""

    outcome: array[int] = field(default_factory=lambda: array("b"))
    worker: array[int] = field(default_factory=lambda: array("h"))
    """The worker that answered, or −1."""
    reason: array[int] = field(default_factory=lambda: array("h"))
    attempts: array[int] = field(default_factory=lambda: array("h"))
    """Dispatches: 1, and one more for each worker that failed on it."""
    arrived_s: array[float] = field(default_factory=lambda: array("d"))
    first_token_s: array[float] = field(default_factory=lambda: array("d"))
    """When the first token reached the client."""
    finished_s: array[float] = field(default_factory=lambda: array("d"))
    predicted_tokens: array[int] = field(default_factory=lambda: array("i"))
    """Hit that the router predicted at the last dispatch."""
    reusable_tokens: array[int] = field(default_factory=lambda: array("i"))
    """The largest hit that it predicted for any worker."""
    hit_tokens: array[int] = field(default_factory=lambda: array("i"))
    """Engine's truth: prompt tokens that were cached when the request was taken up; −1: it never was."""
    evicted_tokens: array[int] = field(default_factory=lambda: array("i"))
    """Of those that were not cached: tokens that this worker had computed before and lost since."""
    elsewhere_tokens: array[int] = field(default_factory=lambda: array("i"))
    """Of those that were neither: tokens that another worker held at that moment."""
    first_time_tokens: array[int] = field(default_factory=lambda: array("i"))
    """Tokens that no worker had ever computed. What is left of the prompt was computed by another worker
    once, which has lost it since."""

    @classmethod
    def of(cls, trace: Trace, workers: list[str]) -> Records:
        """Empty rows for every request of the trace."""
        rows, sessions = len(trace), trace.session_count
        records = cls(trace, workers, totals=[WorkerTotals() for _ in workers])
        for column in (records.outcome, records.attempts):
            column.extend([0] * rows)
        for column in (records.worker, records.reason, records.hit_tokens):
            column.extend([-1] * rows)
        for column in (
            records.predicted_tokens,
            records.reusable_tokens,
            records.evicted_tokens,
            records.elsewhere_tokens,
            records.first_time_tokens,
        ):
            column.extend([0] * rows)
        for times in (records.arrived_s, records.first_token_s, records.finished_s):
            times.extend([nan] * rows)
        records.session_started_s.extend([nan] * sessions)
        records.session_ended_s.extend([nan] * sessions)
        return records
