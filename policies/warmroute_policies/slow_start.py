"""A worker that joins or comes back gets a growing part of the load, whatever the policy.

Its requests in flight are held to one more than a share of what the established workers have on average; the
share grows from nothing to all within `slow_start_s`. An engine's first requests compile kernels and fill its
caches, and take many times as long as the books predict; a policy that goes by books or counts would give it
most of a burst, since it is idle.

Rules kept. Where nobody is established, at a start, there is nothing to be slower than, and nobody is
held back. Shares move once a second (`tick`), so that a request asks for no time. A worker alone is never
held back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final


@final
class SlowStart:
    """State: since when each slot warms up, and its share by now."""

    def __init__(self, slow_start_s: float) -> None:
        """0 seconds: nobody ever warms up."""
        self._slow_start_s = slow_start_s
        self._since: dict[int, float] = {}
        self.shares: dict[int, float] = {}
        """By slot that warms up: 0 to 1."""

    def begin(self, slot: int, now: float) -> None:
        """Writes. The slot's worker joined or came back."""
        if self._slow_start_s:
            self._since[slot] = now
            self.shares[slot] = 0.0

    def end(self, slot: int) -> None:
        """Writes. The slot is empty. Not warming up: nothing happens."""
        if self._since.pop(slot, None) is not None:
            del self.shares[slot]

    def tick(self, now: float) -> None:
        """Writes. Shares grow; to be called about once a second."""
        for slot, since in list(self._since.items()):
            share = (now - since) / self._slow_start_s
            if share >= 1.0:
                self.end(slot)
            else:
                self.shares[slot] = max(0.0, share)

    def held_back(self, eligible: Sequence[int], inflight: Sequence[int]) -> list[int]:
        """Reads. Of these slots, those that have enough for now."""
        shares = self.shares
        warming = [slot for slot in eligible if slot in shares]
        established = len(eligible) - len(warming)
        if not warming or not established:
            return []
        load = sum([inflight[slot] for slot in eligible if slot not in shares]) / established
        return [slot for slot in warming if inflight[slot] >= 1.0 + shares[slot] * load]
