"""How long to wait after a failure: twice as long each time, up to a limit, and never in step with others."""

from __future__ import annotations

import random
from typing import Final

# Half of a wait is chance: routers that lost one server together do not come back together.
_JITTER: Final = 0.5


class Backoff:
    """State: how long the next wait is."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    def next_s(self) -> float:
        """Writes. The time to wait now."""
        wait_s = self._next_s
        self._next_s = min(self._longest_s, 2 * wait_s)
        return wait_s * (1.0 - _JITTER * random.random())

    def reset(self) -> None:
        """Writes. It went well: the next failure is a first one."""
        self._next_s = self._first_s
