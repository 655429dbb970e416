"""A quantile of the last values of a stream, for deadlines that follow what is usual.

Exact over a window, and sorted anew only when an eighth of the window has changed: a deadline need not be
finer than that. Sketches over all values would be smaller and remember last week's fleet.
"""

from __future__ import annotations

from math import ceil
from typing import Final, final

# Half a thousand values tell a 99th percentile, barely, and are five minutes of two requests a second.
WINDOW: Final = 512

# Fewer values than this say nothing about a tail.
LEAST: Final = 64

_SORT_EVERY: Final = WINDOW // 8


@final
class RecentQuantile:
    """State: the last `WINDOW` values, and their quantile as of the last time they were sorted."""

    def __init__(self, share: float) -> None:
        """`share` of the values are at most the quantile: 0.95 is the 95th percentile."""
        self._share = share
        self._values: list[float] = []
        self._next = 0
        self._unsorted = 0
        self._quantile: float | None = None

    def add(self, value: float) -> None:
        """Writes. One more value; above the window the oldest is forgotten."""
        values = self._values
        if len(values) < WINDOW:
            values.append(value)
        else:
            values[self._next] = value
            self._next = (self._next + 1) % WINDOW
        self._unsorted += 1
        if len(values) >= LEAST and (self._unsorted >= _SORT_EVERY or self._quantile is None):
            self._unsorted = 0
            self._quantile = sorted(values)[ceil(self._share * len(values)) - 1]

    def value(self) -> float | None:
        """Reads. None: too few values were seen."""
        return self._quantile
