"""One run of a study as it travels to another process, and what travels back.

What comes back is small: the report, what a page draws, what a search goes by. Records stay where they
were made.
"""

from __future__ import annotations

import enum
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import monotonic
from typing import Final, Protocol

from warmroute_policies.errors import ConfigError
from warmroute_simulator.report.curves import Curves
from warmroute_simulator.report.model import Report
from warmroute_simulator.simulation.collector import rare_collections
from warmroute_simulator.study.cell import Cell, Run, Setup, curves_of, run_cell
from warmroute_simulator.study.halves import halves
from warmroute_simulator.study.objective import Costs, Objective, costs
from warmroute_simulator.study.rate import offered_per_s
from warmroute_simulator.traces.files import TraceError
from warmroute_simulator.traces.trace import Trace

_TELL_EVERY_S: Final = 0.1
"""As often as a progress bar is drawn anew."""
_LOOK_EVERY: Final = 64
"""Requests between two looks at the clock: some milliseconds."""


class TraceSource(Protocol):
    """Where a study's trace comes from; a value that can be sent to another process."""

    def read(self, seed: int) -> Trace:
        """Raises ValueError, TraceError, ConfigError or OSError with a message for the user."""

    def key(self, seed: int) -> int:
        """Seeds with equal keys have the same trace."""


class Part(enum.Enum):
    """What of the trace is played."""

    WHOLE = "whole"
    FIRST_HALF = "first half"
    SECOND_HALF = "second half"


@dataclass(frozen=True, slots=True)
class Task:
    """One run."""

    setup: Setup
    cell: Cell
    part: Part = Part.WHOLE
    with_curves: bool = False
    objective: Objective | None = None
    """What to tell the costs of."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A run of so many requests begins."""

    requests: int


@dataclass(frozen=True, slots=True)
class Advanced:
    """So many more requests ended."""

    requests: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The run raised."""

    message: str
    usage: bool
    """What the user asked for is at fault."""
    of_trace: bool
    """It was the trace that could not be read: no fault of this run."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run."""

    report: Report
    offered_per_s: float
    """Requests per second that the load stands for."""
    costs: Costs | None = None
    curves: Curves | None = None


class Runner:
    """State: the trace of the last seed, and its halves once one was asked for."""

    def __init__(self, source: TraceSource) -> None:
        self._source = source
        self._key: int | None = None
        self._parts: dict[Part, Trace] = {}

    def play(
        self, task: Task, begun: Callable[[int], None], advanced: Callable[[int], None]
    ) -> Result | Failed:
        """Writes. One run; nothing that goes wrong in it is raised."""
        try:
            trace = self._trace(task)
        except (TraceError, ConfigError, ValueError) as error:
            return Failed(str(error), usage=True, of_trace=True)
        except OSError as error:
            return Failed(str(error), usage=False, of_trace=True)
        begun(len(trace))
        try:
            run = run_cell(trace, task.setup, task.cell, progress=advanced)
            return _result(task, trace, run)
        except (ConfigError, ValueError) as error:
            return Failed(str(error), usage=True, of_trace=False)
        except Exception as error:  # noqa: BLE001  # a policy of the user's own may raise anything
            return Failed(_told(error), usage=False, of_trace=False)

    def _trace(self, task: Task) -> Trace:
        key = self._source.key(task.cell.seed)
        if key != self._key:
            self._parts = {}  # before the next one is read: two need not fit into memory
            self._key = None
            self._parts = {Part.WHOLE: self._source.read(task.cell.seed)}
            self._key = key
        if task.part not in self._parts:
            first, second = halves(self._parts[Part.WHOLE])
            self._parts |= {Part.FIRST_HALF: first, Part.SECOND_HALF: second}
        return self._parts[task.part]


def serve(pipe: Connection, source: TraceSource) -> None:
    """The life of a process: runs as they are asked for, until the pipe closes."""
    runner = Runner(source)
    with rare_collections(), suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task, teller = pipe.recv(), _Teller(pipe)
            outcome = runner.play(task, teller.begin, teller.advance)
            teller.flush()
            pipe.send(outcome)


class _Teller:
    """State: requests that ended and were not told of yet, and when to look at the clock."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._untold = 0
        self._look_at = _LOOK_EVERY
        self._told_at_s = monotonic()

    def begin(self, requests: int) -> None:
        """Reads."""
        self._pipe.send(Begun(requests))

    def advance(self, requests: int) -> None:
        """Writes."""
        self._untold += requests
        if self._untold >= self._look_at:
            self._look_at += _LOOK_EVERY
            if monotonic() - self._told_at_s >= _TELL_EVERY_S:
                self.flush()

    def flush(self) -> None:
        """Writes."""
        if self._untold:
            self._pipe.send(Advanced(self._untold))
        self._untold, self._look_at, self._told_at_s = 0, _LOOK_EVERY, monotonic()


def _result(task: Task, trace: Trace, run: Run) -> Result:
    report = run.report
    return Result(
        report,
        offered_per_s(trace, report),
        None if task.objective is None else costs(run.records, report, task.objective),
        curves_of(run, task.setup) if task.with_curves else None,
    )


def _told(error: Exception) -> str:
    """What was raised, and where: the place is what the author of a policy looks for."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno}, in {place.name})"
