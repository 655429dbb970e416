"""The bounds on hit rate that stand beside every result: U1, U2′ and U2."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from warmroute_simulator.bounds.infinite import infinite_hits
from warmroute_simulator.bounds.pages import Pages
from warmroute_simulator.bounds.pooled import belady_hits, lru_hits
from warmroute_simulator.bounds.touches import Touches
from warmroute_simulator.traces.trace import Trace


class HitBounds(msgspec.Struct, frozen=True):
    """Hit rates, 0 to 1: hit tokens ÷ prompt tokens."""

    single_infinite: float
    """U1: one endless cache. Nothing hits more."""
    pooled_lru: float
    """U2′: one cache of all workers' size with the engines' eviction. No bound, a mark to reach."""
    pooled_belady: float
    """U2: the same cache with the best eviction there is. No router over caches of that size hits more."""


def hit_bounds(trace: Trace, order: Sequence[int], page_tokens: int, pool_tokens: int) -> HitBounds:
    """Reads. Of the rows in `order`, the sequence in which engines took requests up (`Records.admitted`)
    or in which they came. `pool_tokens`: KV cache of all workers together.

    Raises ValueError when the pool is smaller than a page, or `page_tokens` not positive.
    """
    return bounds_of(Touches(Pages(trace, page_tokens), order), pool_tokens)


def bounds_of(touches: Touches, pool_tokens: int) -> HitBounds:
    """Reads. The same, of touches that are known. Raises ValueError when the pool is smaller than a page."""
    pool_pages = pool_tokens // touches.page_tokens
    if pool_pages < 1:
        raise ValueError(f"a pool of {pool_tokens} tokens holds no page of {touches.page_tokens}")
    return HitBounds(
        single_infinite=touches.rate(infinite_hits(touches)),
        pooled_lru=touches.rate(lru_hits(touches, pool_pages)),
        pooled_belady=touches.rate(belady_hits(touches, pool_pages)),
    )
