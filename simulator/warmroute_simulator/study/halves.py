"""A trace in two: one half to search on, the other to check on what was found.

Open loop: by time; the second half's clock begins anew. Closed loop: by sessions, since they are what comes
one after the other; a session is never cut. Both halves begin with empty caches, and neither knows what the
other asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from warmroute_simulator.traces.trace import NO_SESSION, NOTHING, Trace


def halves(trace: Trace) -> tuple[Trace, Trace]:
    """Reads. Both share the trace's tree.

    Raises ValueError when one of them would be empty.
    """
    first, second = _by_session(trace) if trace.closed_loop else _by_time(trace)
    if not (first and second):
        what = "one session" if trace.closed_loop else "one moment"
        raise ValueError(f"{trace.name} cannot be divided into two halves: all of it is {what}")
    return picked(trace, first, "first half"), picked(trace, second, "second half")


def picked(trace: Trace, rows: Sequence[int], part: str) -> Trace:
    """Reads. Some rows, in ascending order, as a trace of its own that begins at 0; sessions are numbered
    anew. What the rows wait for must be among them.
    """
    start_s = min(trace.arrivals_s[row] for row in rows)
    if trace.quantum_s:
        start_s -= start_s % trace.quantum_s  # arrivals stay multiples of it
    found = Trace(
        f"{trace.name} ({part})",
        trace.tree,
        trace.closed_loop,
        trace.quantum_s,
        list(trace.notes),
        trace.skipped,
    )
    numbers = {row: number for number, row in enumerate(rows)}
    numbers[NOTHING] = NOTHING
    sessions = {NO_SESSION: NO_SESSION}
    for row in rows:
        session = trace.sessions[row]
        found.add(
            trace.prompts[row],
            trace.output_tokens[row],
            arrival_s=trace.arrivals_s[row] - start_s,
            answer=trace.answers[row],
            session=sessions.setdefault(session, len(sessions) - 1),
            after=numbers[trace.after[row]],
            think_s=trace.think_s[row],
            also_after=[numbers[other] for other in trace.also_after.get(row, ())],
        )
    return found


def _by_time(trace: Trace) -> tuple[list[int], list[int]]:
    times = trace.arrivals_s
    middle_s = (min(times, default=0.0) + max(times, default=0.0)) / 2
    first = [row for row, at in enumerate(times) if at <= middle_s]
    return first, [row for row, at in enumerate(times) if at > middle_s]


def _by_session(trace: Trace) -> tuple[list[int], list[int]]:
    """In the order in which sessions start where the trace knows it, else in the trace's."""
    starts = [0.0] * trace.session_count
    for row, session in enumerate(trace.sessions):
        if session != NO_SESSION and trace.after[row] == NOTHING:
            starts[session] = trace.arrivals_s[row]
    order = sorted(range(len(starts)), key=starts.__getitem__)
    early = set(order[: (len(order) + 1) // 2])
    first = [row for row, session in enumerate(trace.sessions) if session in early]
    return first, [row for row, session in enumerate(trace.sessions) if session not in early]
