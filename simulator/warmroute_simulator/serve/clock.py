"""Engine time as a multiple of real time.

Only the rate changes, never the reading: engine time is continuous and does not go backwards when the
fault `slow` is switched on or off.
"""

from __future__ import annotations

import time


class EngineClock:
    """Engine seconds pass `rate` times as fast as real ones. Reads the monotonic clock."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._real_base = time.monotonic()
        self._engine_base = 0.0

    def now(self) -> float:
        return self._engine_base + (time.monotonic() - self._real_base) * self.rate

    def real_seconds_until(self, engine_time: float) -> float:
        return (engine_time - self.now()) / self.rate

    def set_rate(self, rate: float) -> None:
        """Writes the rate; the reading stays continuous."""
        self._engine_base, self._real_base = self.now(), time.monotonic()
        self.rate = rate
