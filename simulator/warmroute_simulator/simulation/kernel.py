"""Virtual time: a heap of what is to happen, and nothing else.

Rules kept here. Of things at one moment the one that was asked for first happens first, so a run is the same
every time. Time never goes back: what is asked for in the past happens now.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

Callback = Callable[[int], None]
"""What is to happen; its argument is the caller's: a row of the trace, a number of a worker."""


class Kernel:
    """State: the present moment, and the future."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stopped = False
        """Somebody asked for the end: nothing happens after the callback that runs."""
        self._heap: list[tuple[float, int, Callback, int]] = []
        self._asked = 0

    def at(self, when_s: float, callback: Callback, argument: int = 0) -> None:
        """Writes. `callback(argument)` will be called at that moment."""
        self._asked += 1
        heappush(self._heap, (when_s, self._asked, callback, argument))

    def run(self) -> None:
        """Writes. Lets everything happen that is asked for, and what that asks for in turn; until `stopped`.

        Stays interpreted when modules are compiled: signals are noticed in interpreted code alone.
        """
        heap = self._heap
        while heap and not self.stopped:
            when_s, _, callback, argument = heappop(heap)
            if when_s > self.now:
                self.now = when_s
            callback(argument)
