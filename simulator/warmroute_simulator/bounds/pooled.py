"""U2 and U2′: one cache as large as those of all workers together, in whole pages, for all requests.

U2, Belady. Nothing that N caches of C tokens do with any routing and any eviction can hit more than one
cache of N·C tokens can, and of what one cache can do, this is the best. A page that is touched and comes
again is an interval, from the touch to the next touch at which it would be a counted hit. Keeping it is worth
one hit and takes one page of room until then; a page that was not kept comes back by itself when it is
touched. So the most hits are the most intervals of which no more than the pool holds overlap, and to choose
them it is best to drop, whenever there are too many, the one that ends last. Pages that will not be hit are
not kept at all (bypass). Among pages that end together, which lie on one path, the tail is dropped first:
what is kept is always the beginning of a prompt, so the bound is reached.

What it leaves out can only lower the hits: the room that running requests need, and that the caches
are N. It takes requests one by one: a page has room from the moment its request was taken up, while an
engine computes it somewhat later. That could matter only where most of the pool is prefills on their way.

U2′, LRU. The same pool, evicted as engines do: the least recently used first, of one prompt the tail
first. It is what a router could hope for that splits the pool without loss, and it is no bound. Two caches
of one page each beat a pool of two pages on A B C A: with A alone on its cache, A is hit, where LRU has just
evicted it. All that is certain: it hits no more than Belady, and no less when the pool grows.
"""

from __future__ import annotations

from array import array
from heapq import heappop, heappush

from warmroute_simulator.bounds.touches import NEVER, Touches


def belady_hits(touches: Touches, pool_pages: int) -> int:
    """Reads. The most pages that a pool of `pool_pages` can hit.

    Pages that come next at the same position are one number, `kept`: the tail goes first, so it is all
    that must be known of them. O(runs · log requests).
    """
    count = len(touches)
    # Runs by the position that touched them before: lists, threaded through one column.
    first_run = array("i", [NEVER]) * count
    next_run = array("i", [NEVER]) * len(touches.before)
    ends_at = array("i", [0]) * len(touches.before)
    run = 0
    for position, end in enumerate(touches.runs_end):
        while run < end:
            ends_at[run] = position
            if touches.counted[run]:
                next_run[run] = first_run[touches.before[run]]
                first_run[touches.before[run]] = run
            run += 1

    kept = array("i", [0]) * count
    """By position: pages in the pool that come next there."""
    furthest: list[int] = []
    """Heap of the positions with pages in the pool, negated; those that are past stay at its end."""
    used = hits = 0
    for position in range(count):
        hits += kept[position]
        used -= kept[position]
        run = first_run[position]
        while run != NEVER:
            comes_at = ends_at[run]
            if not kept[comes_at]:
                heappush(furthest, -comes_at)
            kept[comes_at] += touches.counted[run]
            used += touches.counted[run]
            run = next_run[run]
        while used > pool_pages:
            comes_at = -furthest[0]
            dropped = min(kept[comes_at], used - pool_pages)
            kept[comes_at] -= dropped
            used -= dropped
            if not kept[comes_at]:
                heappop(furthest)
    return hits


def lru_hits(touches: Touches, pool_pages: int) -> int:
    """Reads. Pages that a pool of `pool_pages` hits that evicts the least recently used, tails first.

    Pages that were touched last at the same position are one number: later touches take from their
    beginning, eviction takes from their end. O(runs).
    """
    before, touched, counted = touches.before, touches.touched, touches.counted
    held = array("i", [0]) * len(touches)
    """By position: pages in the pool that were touched last there."""
    oldest = used = hits = run = 0
    for position, end in enumerate(touches.runs_end):
        while run < end:
            found = min(touched[run], held[before[run]])
            held[before[run]] -= found
            used -= found
            hits += min(found, counted[run])
            run += 1
        held[position] = touches.kept[position]
        used += touches.kept[position]
        while used > pool_pages:
            dropped = min(held[oldest], used - pool_pages)
            held[oldest] -= dropped
            used -= dropped
            if not held[oldest]:
                oldest += 1
    return hits
