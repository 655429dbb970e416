"""What was evicted lately, for lack of room on its worker.

A ghost is the memory of one step of an eviction: the run of blocks that one slot lost, named by its
shallowest block. A prompt that asks for that very block again says two things: if the engine still had it,
that the slot's capacity is believed too small (`capacity`); in any case that what was evicted comes back,
and how late (`reuse`). A block that several slots lost is one ghost: the last run, and all of the slots.

Bounded: the oldest makes way for the newest, in a ring.
"""

from __future__ import annotations

from typing import final

from warmroute_policies.values import Frozen


class Ghost(Frozen, frozen=True, gc=False):
    """A run that was evicted."""

    slots: int
    """One bit for each slot that lost it."""
    end: int
    """The depth at which it ended, in blocks."""
    tick: int
    """Of the epoch in which it was last used there."""


@final
class Ghosts:
    """State: ghosts by the id of their shallowest block, and a ring of both in order of eviction."""

    __slots__ = ("_by_id", "_ids", "_next", "_ring", "limit")

    def __init__(self) -> None:
        self.limit = 0
        """As many are remembered; the index raises it with every slot."""
        self._by_id: dict[int, Ghost] = {}
        self._ids: list[int] = []
        self._ring: list[Ghost] = []
        self._next = 0

    def add(self, block_id: int, slot: int, end: int, tick: int) -> None:
        """Writes. The slot lost the run that begins with this block."""
        before = self._by_id.get(block_id)
        ghost = Ghost((0 if before is None else before.slots) | 1 << slot, end, tick)
        self._by_id[block_id] = ghost
        if len(self._ring) < self.limit:
            self._ids.append(block_id)
            self._ring.append(ghost)
            return
        at = self._next
        if self._by_id.get(self._ids[at]) is self._ring[at]:  # else the block was evicted again since
            del self._by_id[self._ids[at]]
        self._ids[at], self._ring[at] = block_id, ghost
        self._next = (at + 1) % self.limit

    def get(self, block_id: int) -> Ghost | None:
        """Reads."""
        return self._by_id.get(block_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def clear(self) -> None:
        """Writes."""
        self._by_id.clear()
        self._ids.clear()
        self._ring.clear()
        self._next = 0
