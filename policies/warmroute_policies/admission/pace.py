"""How fast room appears: what a client is told to wait before it asks again.

A decayed count of requests that ended, over the same decayed time: right from the first seconds on, and after
a quiet time it follows a new pace within `_MEMORY_S`.
"""

from __future__ import annotations

from math import ceil, exp, inf
from typing import Final

# Long against single answers, short against the course of a day.
_MEMORY_S: Final = 15.0

RETRY_S_MAX: Final = 60
"""Clients of OpenAI's and Anthropic's libraries take a longer one for an error and guess by themselves."""


class Pace:
    """State: the decayed count, the decayed time, and up to when they are counted."""

    def __init__(self) -> None:
        self._ended = 0.0
        self._seconds = 0.0
        self._at: float | None = None

    def ended(self, now: float) -> None:
        """Writes. A request ended: there is room for another one."""
        self._age(now)
        self._ended += 1.0

    def per_s(self, now: float) -> float:
        """Writes. Requests that end per second, lately; 0.0 while nothing is known."""
        self._age(now)
        return self._ended / self._seconds if self._seconds > 0.0 else 0.0

    def retry_s(self, ahead: int, now: float) -> int:
        """Writes. Whole seconds until so many others have had their turn: at least 1, at most
        `RETRY_S_MAX`."""
        per_s = self.per_s(now)
        seconds = (ahead + 1) / per_s if per_s > 0.0 else inf
        return RETRY_S_MAX if seconds > RETRY_S_MAX else max(1, ceil(seconds))

    def _age(self, now: float) -> None:
        if self._at is None:
            self._at = now
        passed = now - self._at
        if passed > 0.0:
            kept = exp(-passed / _MEMORY_S)
            self._ended *= kept
            self._seconds = self._seconds * kept + _MEMORY_S * (1.0 - kept)
            self._at = now
