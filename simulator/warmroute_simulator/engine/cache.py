"""The paged KV cache of one worker: blocks with reference counts, prefix hits, LRU eviction.

Every block is in exactly one of four states, and the four always add up to the capacity:

    free         holds nothing
    partial      belongs to one sequence, not yet full, so nobody else can use it
    referenced   full, known by its key, used by at least one running sequence
    evictable    full, known by its key, used by nobody: a future hit, or the room for something new

A sequence releases its blocks from the tail to the head, so among evictable blocks a longer prefix is
always older than the prefix that it extends: eviction takes leaves first, and a resident block implies
that all its ancestors are resident (given chained keys). Lookups bisect on that, and whole runs of keys
move at once: a prompt of 128 KB has 2,000 blocks.

When a sequence fills a block whose key is resident already, it adopts the resident block and its own
becomes free at once. SGLang does so; vLLM keeps the second copy until the sequence ends.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence


class PagedCache:
    """State: the four sets of blocks. Reads: `match`, `fits`, the counts. Writes: the others."""

    __slots__ = ("_evictable", "_referenced", "capacity", "evictions", "free", "partial")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.free = capacity
        self.partial = 0
        self.evictions = 0
        self._referenced: dict[int, int] = {}
        self._evictable: OrderedDict[int, None] = OrderedDict()

    @property
    def referenced(self) -> int:
        return len(self._referenced)

    @property
    def evictable(self) -> int:
        return len(self._evictable)

    @property
    def available(self) -> int:
        """Blocks that could be taken now."""
        return self.free + len(self._evictable)

    @property
    def in_use(self) -> int:
        """Blocks that running sequences hold."""
        return self.capacity - self.available

    def __contains__(self, key: int) -> bool:
        return key in self._referenced or key in self._evictable

    def match(self, keys: Sequence[int], limit: int) -> int:
        """How many of the first `limit` keys are resident from the start on. Reads only.

        Bisects: residency of a key implies that of all keys before it.
        """
        referenced, evictable = self._referenced, self._evictable
        low, high = 0, min(limit, len(keys))
        while low < high:
            middle = (low + high + 1) // 2
            key = keys[middle - 1]
            if key in referenced or key in evictable:
                low = middle
            else:
                high = middle - 1
        return low

    def fits(self, keys: Sequence[int], hit_blocks: int, new_blocks: int) -> bool:
        """Could the first `hit_blocks` keys be used and `new_blocks` more be taken? Reads only."""
        if new_blocks + hit_blocks <= self.available:
            return True
        idle_hits = sum(key in self._evictable for key in keys[:hit_blocks])
        return new_blocks + idle_hits <= self.available

    def acquire(self, keys: Sequence[int], hit_blocks: int) -> None:
        """Reference the first `hit_blocks` keys, which must be resident."""
        referenced, evictable = self._referenced, self._evictable
        # Whoever uses a block uses its ancestors: those in use come first, then those that are idle.
        in_use = bisect_left(range(hit_blocks), True, key=lambda index: keys[index] in evictable)
        for key in keys[:in_use]:
            referenced[key] += 1
        idle = keys[in_use:hit_blocks]
        for key in idle:
            del evictable[key]
        referenced.update(dict.fromkeys(idle, 1))

    def grow(self, keys: Sequence[int], before_tokens: int, after_tokens: int, block_tokens: int) -> bool:
        """Make room for a sequence to grow from `before_tokens` to `after_tokens`; blocks that become full
        get their key. False, and nothing changed, when there are not enough blocks.
        """
        wanted = -(-after_tokens // block_tokens) + (-before_tokens // block_tokens)
        if wanted > self.available:
            return False
        if wanted:
            self._take(wanted)
            self.partial += wanted
        full = keys[before_tokens // block_tokens : after_tokens // block_tokens]
        self.partial -= len(full)
        referenced, evictable = self._referenced, self._evictable
        if referenced.keys().isdisjoint(full) and evictable.keys().isdisjoint(full):
            referenced.update(dict.fromkeys(full, 1))
            return True
        for key in full:
            if key in referenced:
                referenced[key] += 1
                self.free += 1
            elif key in evictable:
                del evictable[key]
                referenced[key] = 1
                self.free += 1
            else:
                referenced[key] = 1
        return True

    def release(self, keys: Sequence[int], held_tokens: int, block_tokens: int) -> None:
        """A sequence that held `held_tokens` ends: its full blocks stay as cache, the others become free."""
        full = min(held_tokens // block_tokens, len(keys))
        private = -(-held_tokens // block_tokens) - full
        self.partial -= private
        self.free += private
        referenced, evictable = self._referenced, self._evictable
        # Users never grow along a chain: blocks with further users come first, then those that go idle.
        shared = bisect_left(range(full), True, key=lambda index: referenced[keys[index]] == 1)
        for key in keys[:shared]:
            referenced[key] -= 1
        idle = keys[shared:full]
        for key in idle:
            del referenced[key]
        evictable.update(dict.fromkeys(reversed(idle)))

    def clear(self) -> None:
        """Forget every block that nobody uses."""
        self.free += len(self._evictable)
        self._evictable.clear()

    def _take(self, blocks: int) -> None:
        from_free = min(blocks, self.free)
        self.free -= from_free
        for _ in range(blocks - from_free):
            self._evictable.popitem(last=False)
            self.evictions += 1
