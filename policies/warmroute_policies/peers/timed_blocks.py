"""Which blocks each worker was sent within a time to live: knowledge without a word from the engines.

    i holds a block at t  ⟺  it was sent the block after t − ttl

Source: dynamo 1.6.1, `--no-router-kv-events` (pruning.rs): every dispatch of a prompt renews all of its
blocks, and nothing but time takes one away. How much a cache holds is not asked.

Rules kept. A prompt is renewed whole, so what is alive is closed under prefixes and a depth is found by
bisection. Of one prompt the tail is older than the head, so that where the bound has to forget before the
time does, it forgets tails. Reading asks the clock and forgets nothing; what is dead goes at the next write.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence


class TimedBlocks:
    """State: by slot the time at which each block was sent last, the oldest first."""

    def __init__(self, ttl_s: float, blocks_max: int) -> None:
        self._ttl_s = ttl_s
        self._blocks_max = blocks_max
        self._sent_at: dict[int, OrderedDict[int, float]] = {}

    def __len__(self) -> int:
        """Reads. Entries over all slots, those that are dead and not yet forgotten among them."""
        return sum(len(sent_at) for sent_at in self._sent_at.values())

    def renew(self, slot: int, ids: Sequence[int], now: float) -> None:
        """Writes. The slot was sent the blocks."""
        sent_at = self._sent_at.setdefault(slot, OrderedDict())
        for block in reversed(ids):
            sent_at[block] = now
            sent_at.move_to_end(block)
        while sent_at and (
            len(sent_at) > self._blocks_max or self._is_dead(next(iter(sent_at.values())), now)
        ):
            sent_at.popitem(last=False)

    def depth(self, slot: int, ids: Sequence[int], now: float) -> int:
        """Reads. How many blocks from the first on the slot holds."""
        sent_at = self._sent_at.get(slot)
        if not sent_at:
            return 0
        never = now - self._ttl_s
        return bisect_left(ids, True, key=lambda block: self._is_dead(sent_at.get(block, never), now))

    def drop(self, slot: int) -> None:
        """Writes. The worker is gone."""
        self._sent_at.pop(slot, None)

    def _is_dead(self, sent_at: float, now: float) -> bool:
        return now - sent_at >= self._ttl_s
