"""What each server was sent last: one LRU of block ids per server, and who holds which id.

    depth_i = of the ids from the first to the last that anybody holds, how many server i holds

Source: llm-d-router ebab687, `approx-prefix-cache-producer` (indexer.go, plugin.go). Kept as published,
because it decides what the rules on top of it do:

- A prompt's ids are used from head to tail, so heads are evicted first, where engines free tails first.
- A server that lost a block in the middle is credited with those behind it: nobody asks for contiguity.

Presence is therefore not closed under prefixes, and a lookup walks the whole chain. It stays cheap because
an id's holders are one integer, a bit per slot, and a stretch that the same servers hold is counted at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable


class RecentBlocks:
    """State: per slot the ids it was sent, the longest unused first; per id the slots that hold it."""

    def __init__(self) -> None:
        self._recent: dict[int, OrderedDict[int, None]] = {}
        self._holders: dict[int, int] = {}

    def __len__(self) -> int:
        """Reads. Entries over all slots."""
        return sum(len(recent) for recent in self._recent.values())

    def use(self, slot: int, ids: Iterable[int], capacity: int) -> None:
        """Writes. The slot was sent the blocks, in this order; the oldest go until `capacity` are left."""
        recent = self._recent.setdefault(slot, OrderedDict())
        holders, bit = self._holders, 1 << slot
        for block in ids:
            if block in recent:
                recent.move_to_end(block)
            else:
                recent[block] = None
                holders[block] = holders.get(block, 0) | bit
        while len(recent) > capacity:
            self._let_go(recent.popitem(last=False)[0], bit)

    def drop(self, slot: int) -> None:
        """Writes. The server is gone."""
        for block in self._recent.pop(slot, ()):
            self._let_go(block, 1 << slot)

    def depths(self, ids: Iterable[int]) -> dict[int, int]:
        """Reads. Slot to its number of blocks; slots that hold none are missing."""
        depths: dict[int, int] = {}
        holders_of, holders, run = self._holders.get, 0, 0
        for block in ids:
            found = holders_of(block, 0)
            if not found:
                break
            if found != holders:
                _count(depths, holders, run)
                holders, run = found, 0
            run += 1
        _count(depths, holders, run)
        return depths

    def _let_go(self, block: int, bit: int) -> None:
        left = self._holders[block] & ~bit
        if left:
            self._holders[block] = left
        else:
            del self._holders[block]


def _count(depths: dict[int, int], holders: int, run: int) -> None:
    """Writes. Adds a stretch of blocks to everyone who holds it."""
    while holders:
        bit = holders & -holders
        slot = bit.bit_length() - 1
        depths[slot] = depths.get(slot, 0) + run
        holders ^= bit
