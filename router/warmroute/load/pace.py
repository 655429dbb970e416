"""How often an engine is asked for its load: as often as it helps, and no more than it bears.

    wait = max(interval, time of the last answer ÷ share), give or take a tenth

    disagrees    the engine has more than the books say: `least_s`, at once
    busy         the router has requests there: up to four times that
    idle         nobody has: up to `most_s`
    failed       twice as long as before, up to a minute

An interval grows by half with every answer that gives no reason to ask again soon, and shrinks at once. The
share is that of the engine's time: a page that takes 40 ms is asked for every 4 s where the share is 1 %.

Rules kept. Pure: no clock, chance is handed in.
"""

from __future__ import annotations

import enum
from random import Random
from typing import Final

# Agreement that lasts needs no proof four times as often.
_BUSY_FACTOR: Final = 4.0
_GROWTH: Final = 1.5
_BACK_OFF: Final = 2.0
_FAILED_MOST_S: Final = 60.0

# Routers that were started together do not ask together for ever.
_JITTER: Final = 0.1


class Mood(enum.Enum):
    """What an answer gave reason for."""

    DISAGREES = enum.auto()
    BUSY = enum.auto()
    IDLE = enum.auto()


class Pace:
    """State: the interval, and what an answer costs."""

    def __init__(self, least_s: float, most_s: float, share: float) -> None:
        self._least_s = least_s
        self._most_s = max(least_s, most_s)
        self._share = share
        self.interval_s = least_s
        self.took_s = 0.0
        """The last answer, or the time that was waited for it in vain."""

    def answered(self, took_s: float, mood: Mood) -> None:
        """Writes. The engine took so long, and this came of it."""
        self.took_s = took_s
        if mood is Mood.DISAGREES:
            most_s = self._least_s
        elif mood is Mood.BUSY:
            most_s = min(self._most_s, self._least_s * _BUSY_FACTOR)
        else:
            most_s = self._most_s
        self.interval_s = min(most_s, self.interval_s * _GROWTH)

    def failed(self, took_s: float) -> None:
        """Writes. No answer, or none that can be read, after so long."""
        self.took_s = took_s
        self.interval_s = max(self.interval_s, min(_FAILED_MOST_S, self.interval_s * _BACK_OFF))

    def wait_s(self, chance: Random) -> float:
        """Reads. From the last answer to the next question."""
        wait_s = max(self.interval_s, self.took_s / self._share)
        return wait_s * chance.uniform(1.0 - _JITTER, 1.0 + _JITTER)
