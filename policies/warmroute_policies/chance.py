"""Chance that leaves no trace: a draw is a function of the seed and the request's id.

Rules kept here. A generator has a state, so whoever draws writes, and a dry run or a shadow policy that
draws would change what live requests get. A draw by hash is a pure read: the same request draws the same
number however often it is asked about, and a replayed journal draws what the live router drew.
"""

from __future__ import annotations

from math import inf
from typing import Final

from xxhash import xxh3_64_intdigest

_U64: Final = (1 << 64) - 1

# 2⁶⁴ by the golden ratio: of all numbers the one whose multiples fill a circle most evenly from the first on.
_GOLDEN: Final = 0x9E3779B97F4A7C15


def draw(seed: int, request_id: int) -> int:
    """64 bits that look random: equal for equal arguments, unrelated for neighbouring ids."""
    return xxh3_64_intdigest((request_id & _U64).to_bytes(8, "little"), seed & _U64)


def turn(request_id: int) -> int:
    """64 bits for ids that count up: among n equals each comes about every n-th time, and so it does if only
    some of the ids ask, every other one for example."""
    return request_id * _GOLDEN & _U64


def pick_least(costs: list[float], ticket: int) -> int:
    """The slot of the least cost. Among equals the ticket, a `draw` or a `turn`, picks: no slot is favoured.

    `costs` is a list by slot. At least one must be finite: price what is not eligible at `inf` and it is
    never picked.
    """
    slot, least, equals = 0, inf, 0
    for candidate, cost in enumerate(costs):  # compiled, a third of what `min`, `index` and `count` cost
        if cost < least:
            slot, least, equals = candidate, cost, 1
        elif cost == least:
            equals += 1
    if equals > 1:
        for _ in range(ticket * equals >> 64):
            slot = costs.index(least, slot + 1)
    return slot
