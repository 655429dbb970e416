"""Which of many: a few are asked for often, most of them seldom.

Zipf's law: the item of rank r is drawn with a probability proportional to 1/r^s. At s = 0 all are alike; web
pages and documents lie around 0.7 to 1; at 2 the first alone gets 61 %.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from random import Random
from typing import Final, final

from warmroute_policies.errors import ConfigError

# Above it the first item gets more than 83 % and everything else is noise.
_STEEPEST: Final = 3.0


@final
class Popularity:
    """Items 0 to count − 1, the first the most popular."""

    __slots__ = ("_below", "_total", "count")

    def __init__(self, count: int, exponent: float) -> None:
        self.count = count
        self._below: list[float] | None = None
        """Weight up to and with each item; None: all are alike."""
        if exponent:
            self._below = list(accumulate((rank + 1) ** -exponent for rank in range(count)))
        self._total = self._below[-1] if self._below else float(count)

    def draw(self, chance: Random) -> int:
        """Writes `chance` alone. One item."""
        if self._below is None:
            return int(chance.random() * self.count)
        # Rounding may reach the total itself, which no item lies beyond.
        return min(bisect_right(self._below, chance.random() * self._total), self.count - 1)


def require_exponent(name: str, exponent: float) -> None:
    if not 0 <= exponent <= _STEEPEST:
        raise ConfigError(f"{name} must be between 0 and {_STEEPEST:g}, not {exponent:g}")
