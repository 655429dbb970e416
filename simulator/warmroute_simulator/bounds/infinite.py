"""U1: one cache of endless size that all workers share; no router and no eviction rule can hit more.

A request finds every page that an earlier one left behind. *Earlier* is by the order in which requests were
taken up, as if each was served in no time. `causal_infinite` is stricter: a prefix counts once its prefill
had ended. What it lacks to U1 is what requests lost that came while their prefix was being computed. It is no
bound on engines that share pages while the prefill which computes them still goes on, or take up a
request later than it came.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from heapq import heapify, heappop

from warmroute_simulator.bounds.pages import Pages
from warmroute_simulator.bounds.touches import Touches
from warmroute_simulator.traces.trace import Trace


def single_infinite(trace: Trace, order: Sequence[int], page_tokens: int) -> float:
    """Reads. Hit rate, 0 to 1: hit tokens ÷ prompt tokens of the rows in `order`.

    Raises ValueError when `page_tokens` is not positive.
    """
    touches = Touches(Pages(trace, page_tokens), order)
    return touches.rate(infinite_hits(touches))


def infinite_hits(touches: Touches) -> int:
    """Reads. Pages."""
    return sum(touches.counted)


def infinite_hit_tokens(touches: Touches) -> array[int]:
    """Reads. Hit tokens by position in the order."""
    hits = array("i")
    counted, start = touches.counted, 0
    for end in touches.runs_end:
        hits.append(sum(counted[start:end]) * touches.page_tokens)
        start = end
    return hits


def causal_infinite(
    trace: Trace,
    page_tokens: int,
    asked_s: Sequence[float],
    first_token_s: Sequence[float],
    ended_s: Sequence[float],
) -> float:
    """Reads. Hit rate, 0 to 1, when a prompt's pages can be hit from its first token on, and its answer's
    from its end on.

    All times are by row of the trace, in seconds; `nan`: it never happened. Rows that were not asked are
    left out. Raises ValueError when `page_tokens` is not positive.
    """
    pages = Pages(trace, page_tokens)
    parents, ends, page = pages.parents, pages.ends, page_tokens
    # What becomes known when: at the first token the prompt's pages, at the end the answer's too.
    known = [(at, row, pages.prompt_tokens[row] // page) for row, at in enumerate(first_token_s) if at == at]
    known += [(at, row, ends[pages.tails[row]]) for row, at in enumerate(ended_s) if at == at]
    heapify(known)
    resident = bytearray(len(ends))
    resident[0] = True
    hits = total = 0
    for at, row in sorted((at, row) for row, at in enumerate(asked_s) if at == at):
        while known and known[0][0] <= at:
            _, other, kept = heappop(known)
            stretch = pages.tails[other]
            while not resident[stretch]:
                if ends[stretch] <= kept:
                    resident[stretch] = True
                stretch = parents[stretch]
        stretch = pages.tails[row]
        while not resident[stretch]:
            stretch = parents[stretch]
        hits += min(ends[stretch], pages.counted[row])
        total += pages.prompt_tokens[row]
    return hits * page / total if total else 0.0
