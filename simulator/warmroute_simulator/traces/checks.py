"""Looking over a trace that was read: what a user should know before believing a result of it."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import floor
from typing import Final

from warmroute_simulator.traces.prompts import ROOT
from warmroute_simulator.traces.trace import NOTHING, Trace

# Fewer distinct moments tell nothing of a grid.
_MOMENTS_MIN: Final = 10

# Grids are kept to within a few milliseconds of three seconds in published traces.
_OFF_GRID: Final = 0.01

# Below this, arrivals on a grid are no bursts that a queue would notice.
_QUANTUM_MIN_S: Final = 0.1

# More than any service gets, so that seconds read as milliseconds stand out; and less than one test user.
_RATE_MAX_PER_S: Final = 2_000.0
_RATE_MIN_PER_S: Final = 1 / 600

_FEW: Final = 100
"""Too few requests to judge a rate by."""

_MANY_ALIKE: Final = 0.5


def quantum_of(arrivals_s: Sequence[float]) -> float:
    """The grid to which arrivals were rounded, in seconds; 0.0 where there is none that matters.

    There is one when several requests share their moments and nearly all moments are multiples of one gap.
    """
    moments = sorted(set(arrivals_s))
    if len(moments) < _MOMENTS_MIN or 2 * len(moments) > len(arrivals_s):
        return 0.0
    gaps = [after - before for before, after in pairwise(moments)]
    usual = sorted(gaps)[len(gaps) // 2]
    if usual < _QUANTUM_MIN_S:
        return 0.0
    # A mean over all gaps, some of several steps: moments are off the grid by a little.
    quantum = sum(gaps) / max(1, sum(floor(gap / usual + 0.5) for gap in gaps))
    steps = [(moment - moments[0]) / quantum for moment in moments]
    off = sum(abs(step - floor(step + 0.5)) > _OFF_GRID for step in steps)
    return round(quantum, 3) if off <= _OFF_GRID * len(moments) else 0.0


def sort_arrivals(trace: Trace) -> None:
    """Writes. Puts an open-loop trace in the order of its arrivals; a closed one stays as it is."""
    arrivals = trace.arrivals_s
    rows = range(len(arrivals))
    order = sorted(rows, key=arrivals.__getitem__)
    if trace.closed_loop or order == list(rows):
        return
    late = sum(after < before for before, after in pairwise(arrivals))
    trace.notes.append(f"arrivals were not in order ({late:,} went back in time); they are now")
    place = array("i", sorted(rows, key=order.__getitem__))
    trace.prompts = array("i", [trace.prompts[row] for row in order])
    trace.answers = array("i", [trace.answers[row] for row in order])
    trace.output_tokens = array("i", [trace.output_tokens[row] for row in order])
    trace.sessions = array("i", [trace.sessions[row] for row in order])
    trace.arrivals_s = array("d", [arrivals[row] for row in order])
    trace.think_s = array("d", [trace.think_s[row] for row in order])
    trace.after = array(
        "i", [NOTHING if trace.after[row] == NOTHING else place[trace.after[row]] for row in order]
    )
    trace.also_after = {
        place[row]: tuple(place[other] for other in others) for row, others in trace.also_after.items()
    }


def start_at_zero(trace: Trace) -> None:
    """Writes. Arrivals count from the first one."""
    first = min(trace.arrivals_s, default=0.0)
    if first:
        trace.arrivals_s = array("d", [at - first for at in trace.arrivals_s])


def remarks(trace: Trace) -> list[str]:
    """Reads. What looks odd: the rate of arrivals, and prompts that nearly all begin alike."""
    notes: list[str] = []
    count = len(trace)
    if not trace.closed_loop and count >= _FEW:
        span_s = max(trace.arrivals_s)
        if span_s == 0:
            notes.append("all requests arrive at the same moment")
        elif not _RATE_MIN_PER_S <= count / span_s <= _RATE_MAX_PER_S:
            notes.append(
                f"{count:,} requests in {span_s:,.0f} s ({count / span_s:,.4g} per second):"
                " is the unit of time what this format expects?"
            )
    if trace.quantum_s:
        notes.append(f"arrivals are rounded to {trace.quantum_s:g} s; a simulation spreads them")
    node, alike = _commonest_beginning(trace)
    if count >= _FEW and alike >= _MANY_ALIKE * count:
        notes.append(
            f"{alike / count:.0%} of the requests begin with the same {trace.tree.ends[node]:,} tokens"
        )
    return notes


def _commonest_beginning(trace: Trace) -> tuple[int, int]:
    """The node below the root that most prompts go through, and how many do."""
    parents = trace.tree.parents
    below_root = array("i", [ROOT]) * len(parents)
    for node in range(1, len(parents)):
        parent = parents[node]
        below_root[node] = below_root[parent] if parent != ROOT else node
    found = Counter(below_root[prompt] for prompt in trace.prompts).most_common(1)
    return found[0] if found else (NOTHING, 0)
