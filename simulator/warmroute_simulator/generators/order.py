"""What makes one trace of requests that several sessions or several workloads appended one after the other.

Rules kept here. Rows are sorted by arrival, those of one moment stay as they were: a session in closed loop
has one moment, so its rows stay in the order in which they wait for each other. Sessions are numbered in
the order in which they begin.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise

from warmroute_simulator.traces.trace import NO_SESSION, NOTHING, Trace


def put_in_order(trace: Trace) -> None:
    """Writes. Sorts rows by arrival and numbers sessions anew."""
    arrivals = trace.arrivals_s
    if any(late > early for late, early in pairwise(arrivals)):
        _rearrange(trace, sorted(range(len(arrivals)), key=arrivals.__getitem__))
    _number_sessions(trace)


def give_sessions(trace: Trace, first_row: int) -> None:
    """Writes. Each row from `first_row` on becomes a session of its own."""
    session = trace.session_count
    for row in range(first_row, len(trace)):
        trace.sessions[row] = session
        session += 1


def _rearrange(trace: Trace, order: Sequence[int]) -> None:
    """Writes. Row i is from now on what row `order[i]` was."""
    trace.prompts = array("i", map(trace.prompts.__getitem__, order))
    trace.answers = array("i", map(trace.answers.__getitem__, order))
    trace.output_tokens = array("i", map(trace.output_tokens.__getitem__, order))
    trace.arrivals_s = array("d", map(trace.arrivals_s.__getitem__, order))
    trace.sessions = array("i", map(trace.sessions.__getitem__, order))
    trace.think_s = array("d", map(trace.think_s.__getitem__, order))
    if not trace.closed_loop:  # then no row waits for another
        return
    now_at = array("i", bytes(4 * len(order)))
    for row, before in enumerate(order):
        now_at[before] = row
    waits = map(trace.after.__getitem__, order)
    trace.after = array("i", (now_at[row] if row != NOTHING else NOTHING for row in waits))
    trace.also_after = {
        now_at[row]: tuple(now_at[other] for other in others) for row, others in trace.also_after.items()
    }


def _number_sessions(trace: Trace) -> None:
    """Writes. Sessions get numbers from 0 on, as their first rows come."""
    numbers = array("i", [NO_SESSION]) * trace.session_count
    count = 0
    for row, session in enumerate(trace.sessions):
        if session == NO_SESSION:
            continue
        if numbers[session] == NO_SESSION:
            numbers[session] = count
            count += 1
        trace.sessions[row] = numbers[session]
