"""U3: below what no request's time to first token can be: alone on an idle worker, after the hits of U1.

Every request is floored by itself, so every quantile of the floors is a floor of that quantile. Most of the
p99 of a trace of long prompts is of this kind: nobody had their prefix, and no router can help.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import ceil, fsum

import msgspec

from warmroute_simulator.bounds.infinite import infinite_hit_tokens
from warmroute_simulator.bounds.pages import Pages
from warmroute_simulator.bounds.prefill import PrefillTime
from warmroute_simulator.bounds.touches import Touches
from warmroute_simulator.traces.trace import Trace


class TtftFloor(msgspec.Struct, frozen=True):
    """Seconds. Quantiles are by nearest rank, as in reports."""

    mean: float
    p50: float
    p90: float
    p99: float


class Misses(msgspec.Struct, frozen=True):
    """What U1 leaves to be computed: a row for each request of a sequence, once, where it counts."""

    rows: array[int]
    """Of the trace."""
    missing_tokens: array[int]
    """At least 1: the last token of a prompt is always computed."""
    prompt_tokens: array[int]


def misses_of(pages: Pages, order: Sequence[int]) -> Misses:
    """Reads."""
    touches = Touches(pages, order)
    misses = Misses(array("i"), array("i"), array("i"))
    for position, hit_tokens in enumerate(infinite_hit_tokens(touches)):
        if touches.final[position]:
            row = order[position]
            prompt_tokens = pages.prompt_tokens[row]
            misses.rows.append(row)
            misses.missing_tokens.append(prompt_tokens - hit_tokens)
            misses.prompt_tokens.append(prompt_tokens)
    return misses


def floors_s(misses: Misses, workers: Sequence[PrefillTime]) -> array[float]:
    """Reads. By row of `misses`: on the worker that is fastest with it."""
    kinds = [
        array("d", map(kind.alone_s, misses.missing_tokens, misses.prompt_tokens))
        for kind in dict.fromkeys(workers)
    ]
    return kinds[0] if len(kinds) == 1 else array("d", map(min, *kinds))


def ttft_floor(
    trace: Trace, order: Sequence[int], page_tokens: int, workers: Sequence[PrefillTime]
) -> TtftFloor | None:
    """Reads. Of the rows in `order`; None when there are none.

    Raises ValueError when `page_tokens` is not positive or there is no worker.
    """
    if not workers:
        raise ValueError("a fleet needs at least one worker")
    return floor_of(floors_s(misses_of(Pages(trace, page_tokens), order), workers))


def floor_of(seconds: Sequence[float]) -> TtftFloor | None:
    """Reads. Mean and quantiles; None of nothing."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    # The epsilon: 0.9 of 10 values is the ninth, though 0.9 · 10 may be a little more than 9 in binary.
    p50, p90, p99 = (ordered[ceil(share * len(ordered) - 1e-9) - 1] for share in (0.5, 0.9, 0.99))
    return TtftFloor(fsum(ordered) / len(ordered), p50, p90, p99)
