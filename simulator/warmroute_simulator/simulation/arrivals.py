"""When requests come: by the trace's clock, or as those before them end.

Open loop: every request at its recorded moment, divided by `speed`. Where the trace's clock is coarse (a
`quantum_s` of 3 seconds, say), arrivals are spread evenly inside a tick of it, or bursts that never were
would be measured.

Closed loop: sessions. A session's first requests come when it starts, every other one `think_s` after those
that it waits for have ended. Sessions start in an order drawn by the seed:

    lanes      a fixed number is alive; when one ends, the next one starts
    poisson    at a rate, however many are alive
    recorded   when the trace says, divided by `speed`
"""

from __future__ import annotations

import enum
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan
from random import Random

from warmroute_simulator.simulation.kernel import Kernel
from warmroute_simulator.traces.trace import NO_SESSION, NOTHING, Trace

# The first lanes start spread over this time: all at once would be a burst that no fleet ever sees.
RAMP_S = 60.0


class Starts(enum.StrEnum):
    """How a closed-loop trace's sessions start."""

    LANES = "lanes"
    POISSON = "poisson"
    RECORDED = "recorded"


@dataclass(frozen=True, slots=True)
class ArrivalPlan:
    """How a trace is played."""

    speed: float = 1.0
    """Recorded arrivals come this many times as fast. Think times are never changed."""
    starts: Starts | None = None
    """None: as recorded where the trace says, else lanes."""
    lanes: int = 64
    sessions_per_s: float = 1.0
    """For `poisson`."""
    idle_cap_s: float = inf
    """A think time is cut to this: some recorded pauses last a night."""

    def starts_of(self, trace: Trace) -> Starts:
        """Reads. How the sessions of that trace start."""
        if self.starts is not None:
            return self.starts
        return Starts.RECORDED if any(trace.arrivals_s) else Starts.LANES

    def __post_init__(self) -> None:
        for name in ("speed", "lanes", "sessions_per_s", "idle_cap_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")


class Arrivals:
    """State: which requests and sessions are still to come, and what each of them waits for.

    `arrive(row)` is called at each arrival. Whoever carries requests calls `ended` once for each.
    """

    def __init__(
        self, trace: Trace, plan: ArrivalPlan, chance: Random, kernel: Kernel, arrive: Callable[[int], None]
    ) -> None:
        self.trace = trace
        self.left = len(trace)
        """Requests that have not ended and may still come."""
        self.session_started_s = array("d", [nan]) * trace.session_count
        self.session_ended_s = array("d", [nan]) * trace.session_count
        self._plan = plan
        self._starts = plan.starts_of(trace)
        self._chance = chance
        self._kernel = kernel
        self._arrive = arrive
        self._next = 0
        """Position in `_order`, of rows (open loop) or of sessions (closed loop)."""
        self._order: list[int] = []
        self._times: array[float] = array("d")
        if trace.closed_loop:
            self._note_who_waits_for_whom()
        else:
            self._spread()

    def begin(self) -> None:
        """Writes. Asks for the first arrivals."""
        if not self.trace.closed_loop:
            self._ask_for_next()
        elif self._starts is Starts.LANES:
            lanes = min(self._plan.lanes, len(self._order))
            for lane in range(lanes):
                self._kernel.at(lane * RAMP_S / lanes, self._start_next)
        else:
            self._ask_for_next_session()

    def ended(self, row: int, ok: bool) -> None:
        """Writes. A request ended; what waited for it may come. After a failure its session is over: what
        would have been asked for next depended on the answer."""
        self.left -= 1
        if not self.trace.closed_loop:
            return
        session = self.trace.sessions[row]
        self._session_left[session] -= 1
        if not ok:
            self._broken[session] = 1
        elif not self._broken[session]:
            follower = self._first_follower[row]
            while follower != NOTHING:
                self._met(follower)
                follower = self._next_follower[follower]
            for follower in self._joins.get(row, ()):
                self._met(follower)
        self._in_flight[session] -= 1
        if self._in_flight[session] == 0 and (self._broken[session] or self._session_left[session] == 0):
            self._session_over(session)

    # --- open loop ------------------------------------------------------------------------------

    def _spread(self) -> None:
        plan, quantum_s, chance = self._plan, self.trace.quantum_s, self._chance
        times = self.trace.arrivals_s
        if quantum_s:
            times = array("d", (at + chance.random() * quantum_s for at in times))
        if plan.speed != 1.0:
            times = array("d", (at / plan.speed for at in times))
        self._times = times
        self._order = sorted(range(len(times)), key=times.__getitem__)

    def _ask_for_next(self) -> None:
        if self._next < len(self._order):
            row = self._order[self._next]
            self._next += 1
            self._kernel.at(self._times[row], self._come, row)

    def _come(self, row: int) -> None:
        self._ask_for_next()
        self._arrive(row)

    # --- closed loop ----------------------------------------------------------------------------

    def _note_who_waits_for_whom(self) -> None:
        trace = self.trace
        rows, sessions = len(trace), trace.session_count
        self._first_follower = array("i", [NOTHING]) * rows
        self._next_follower = array("i", [NOTHING]) * rows
        self._joins: dict[int, list[int]] = {}
        self._unmet: dict[int, int] = {}
        self._roots: list[list[int]] = [[] for _ in range(sessions)]
        self._session_left = array("i", [0]) * sessions
        self._in_flight = array("i", [0]) * sessions
        """Requests that have come or are about to: their client is thinking."""
        self._broken = bytearray(sessions)
        starts = array("d", [0.0]) * sessions
        for row in range(rows - 1, -1, -1):  # backwards, so that followers are met in the trace's order
            session = trace.sessions[row]
            if session == NO_SESSION:
                raise ValueError(f"row {row} of a closed-loop trace belongs to no session")
            self._session_left[session] += 1
            before = trace.after[row]
            if before == NOTHING:
                self._roots[session].insert(0, row)
                starts[session] = trace.arrivals_s[row]
            else:
                self._next_follower[row] = self._first_follower[before]
                self._first_follower[before] = row
        for row, others in trace.also_after.items():
            self._unmet[row] = len(others) + 1
            for other in others:
                self._joins.setdefault(other, []).append(row)
        order = list(range(sessions))
        if self._starts is Starts.RECORDED:
            order.sort(key=starts.__getitem__)
            self._times = array("d", (at / self._plan.speed for at in starts))
        else:
            self._chance.shuffle(order)
        self._order = order

    def _met(self, row: int) -> None:
        """One of the requests that `row` waits for has ended."""
        unmet = self._unmet.get(row, 1) - 1
        if unmet:
            self._unmet[row] = unmet
            return
        self._think(row)

    def _think(self, row: int) -> None:
        self._in_flight[self.trace.sessions[row]] += 1
        think_s = min(self.trace.think_s[row], self._plan.idle_cap_s)
        self._kernel.at(self._kernel.now + think_s, self._come_back, row)

    def _come_back(self, row: int) -> None:
        session = self.trace.sessions[row]
        if not self._broken[session]:
            self._arrive(row)
            return
        self._in_flight[session] -= 1
        if self._in_flight[session] == 0:
            self._session_over(session)

    def _ask_for_next_session(self) -> None:
        if self._next == len(self._order):
            return
        if self._starts is Starts.POISSON:
            at = self._kernel.now + self._chance.expovariate(self._plan.sessions_per_s)
        else:
            at = self._times[self._order[self._next]]
        self._kernel.at(at, self._start_next)

    def _start_next(self, _: int) -> None:
        if self._next == len(self._order):
            return
        session = self._order[self._next]
        self._next += 1
        if self._starts is not Starts.LANES:
            self._ask_for_next_session()
        self.session_started_s[session] = self._kernel.now
        for row in self._roots[session]:
            self._think(row)

    def _session_over(self, session: int) -> None:
        if self._broken[session]:
            self.left -= self._session_left[session]
            self._session_left[session] = 0
        else:
            self.session_ended_s[session] = self._kernel.now
        if self._starts is Starts.LANES:
            self._kernel.at(self._kernel.now, self._start_next)
