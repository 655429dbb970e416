"""A few rows of a grid in which every pair of levels of any two factors occurs: a covering array.

What two factors do together shows in such rows; what three do together may not. For factors of 6, 5, 4 and 3
levels some 30 of 360 rows do, which is the least there can be: the two largest alone have 30 pairs.

The rule is greedy: the next row is the one with the most pairs that no row before it has; of those that are
alike the cheapest; of those the first in an order that the seed shuffles. (Covering arrays and greedy rules
for them: Cohen, Dalal, Fredman, Patton, "The AETG System", IEEE TSE 23(7), 1997.)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import combinations
from random import Random
from typing import TypeVar

Row = tuple[Hashable, ...]
R = TypeVar("R", bound=Row)


def covering(rows: Sequence[R], strength: int, cost: Callable[[R], float], seed: int = 0) -> list[R]:
    """Reads. Of the rows of a grid as few as the rule finds in which every `strength` levels of different
    factors occur that occur together in any row, in the order in which they were picked."""
    order = list(rows)
    Random(seed).shuffle(order)
    order.sort(key=cost)  # stable: what costs the same stays shuffled
    missing = {together for row in order for together in combined(row, strength)}
    found = []
    while missing:
        best = max(order, key=lambda row: sum(together in missing for together in combined(row, strength)))
        missing.difference_update(combined(best, strength))
        found.append(best)
    return found


def combined(row: Row, strength: int) -> list[tuple[tuple[int, Hashable], ...]]:
    """Reads. Levels of a row that occur together, each with the number of its factor."""
    return list(combinations(enumerate(row), strength))
