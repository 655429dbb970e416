"""How far a study is and how long it will still take, on stderr, for a person who waits or reads a log.

On a terminal one line is written over and over, elsewhere a line a minute. The time left is guessed from
requests and not from runs, which differ by a factor of four.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

_ON_TERMINAL_S: Final = 0.5
_IN_LOG_S: Final = 60.0
"""Between two lines."""


class Progress:
    """State: what was done since the start, what is left, and when the last line was written."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._started_s = clock()
        self._told_s = -_IN_LOG_S
        self._terminal = self._stream.isatty()
        self._runs = 0
        self._requests = 0.0
        self._left = 0.0

    def expect(self, requests: float) -> None:
        """Writes. So many are to come."""
        self._left = requests

    def tell(self, requests: int) -> None:
        """Writes. A run of so many requests is done."""
        self._runs += 1
        self._requests += requests
        self._left -= requests
        now = self._clock()
        if now - self._told_s >= (_ON_TERMINAL_S if self._terminal else _IN_LOG_S):
            self._told_s = now
            past_s = now - self._started_s
            left_s = past_s * max(self._left, 0.0) / self._requests
            text = f"{self._runs} runs, {_clock(past_s)} past, {_clock(left_s)} left"
            self._stream.write(f"\r{text}\x1b[K" if self._terminal else f"{text}\n")
            self._stream.flush()

    def end(self) -> None:
        """Writes. Leaves the terminal's line."""
        if self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _clock(seconds: float) -> str:
    """3725 → "1:02:05"."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"
