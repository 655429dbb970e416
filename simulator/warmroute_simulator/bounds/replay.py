"""N caches and a given routing, without time: one request after the other, each to the worker it is sent to.

The simplest thing that a fleet can be compared with, and a check on the bounds. A cache sees the requests
that are sent to it and no others, so N caches are N sequences with a cache each.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from warmroute_simulator.bounds.infinite import infinite_hits
from warmroute_simulator.bounds.pages import Pages
from warmroute_simulator.bounds.pooled import lru_hits
from warmroute_simulator.bounds.touches import Touches


class Replayed(msgspec.Struct, frozen=True):
    """What the caches did."""

    hit_rate: float
    """Hit tokens ÷ prompt tokens, 0 to 1."""
    imbalance: float
    """Computed prompt tokens of the worker with most of them ÷ the mean over workers; 1: even."""


def replay(
    pages: Pages, order: Sequence[int], workers: Sequence[int], count: int, cache_tokens: int | None = None
) -> Replayed:
    """Reads. The requests in `order`, the i-th of them sent to worker `workers[i]` of `count`; each evicts
    the least recently used page when it holds more than `cache_tokens`, and none when that is None.

    Raises ValueError when the two sequences are not equally long.
    """
    sent: list[list[int]] = [[] for _ in range(count)]
    for row, worker in zip(order, workers, strict=True):
        sent[worker].append(row)
    hits: list[int] = []
    prompts: list[int] = []
    for rows in sent:
        touches = Touches(pages, rows)
        pool = None if cache_tokens is None else cache_tokens // pages.page_tokens
        found = infinite_hits(touches) if pool is None else lru_hits(touches, pool)
        hits.append(found * pages.page_tokens)
        prompts.append(touches.prompt_tokens)
    total = sum(prompts)
    computed = [tokens - hit for tokens, hit in zip(prompts, hits, strict=True)]
    return Replayed(
        hit_rate=sum(hits) / total if total else 0.0,
        imbalance=max(computed) * count / sum(computed) if total else 1.0,
    )
