"""The paged KV cache of one worker: blocks with reference counts, prefix hits, LRU eviction.

Every block is in exactly one of four states, and the four always add up to the capacity:

    free         holds nothing
    private      belongs to one sequence: not yet full, or nobody else can ever ask for it
    referenced   full, known, used by at least one running sequence
    evictable    full, known, used by nobody: a future hit, or the room for something new

A sequence releases its blocks from the tail to the head, so among evictable blocks a longer prefix is
always older than the prefix that it extends: eviction takes leaves first, and a resident block implies
that all its ancestors are resident.

When a sequence fills a block that is resident already, it adopts the resident one and its own becomes free
at once. SGLang does so; vLLM keeps the second copy until the sequence ends.

What a prompt is, a cache is told as a sequence of integers, and there are two kinds of cache:

    PagedCache                 chained keys, one for each block: what comes over a wire
    tree_cache.TreeCache       nodes of a trace's prompt tree, each of which stands for many blocks
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple


class Lease:
    """What a sequence has of a cache, from `acquire` to `release`."""

    __slots__ = ("prompt",)

    def __init__(self, prompt: Sequence[int]) -> None:
        self.prompt = prompt


class KVCache(ABC):
    """State: how many blocks are in each state. `match`, `fits`, `known`, `lost` read, the others write."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.free = capacity
        self.private = 0
        self.evictable = 0
        self.evictions = 0

    @property
    def available(self) -> int:
        """Blocks that could be taken now."""
        return self.free + self.evictable

    @property
    def in_use(self) -> int:
        """Blocks that running sequences hold."""
        return self.capacity - self.free - self.evictable

    @property
    def referenced(self) -> int:
        return self.capacity - self.free - self.evictable - self.private

    @abstractmethod
    def match(self, prompt: Sequence[int], limit: int) -> int:
        """How many of the first `limit` blocks are resident from the start on. Reads only."""

    @abstractmethod
    def fits(self, prompt: Sequence[int], hit_blocks: int, new_blocks: int) -> bool:
        """Could the first `hit_blocks` blocks be used and `new_blocks` more be taken? Reads only."""

    @abstractmethod
    def known(self, prompt: Sequence[int]) -> int:
        """How many blocks the prompt names; those behind them are private for good. Reads only."""

    @abstractmethod
    def lost(self, prompt: Sequence[int], hit_blocks: int, limit: int) -> int:
        """How many of the blocks after a hit were here before and are no longer. Reads only."""

    @abstractmethod
    def acquire(self, prompt: Sequence[int], hit_blocks: int) -> Lease:
        """A sequence begins: it uses the first `hit_blocks` blocks, which must be resident."""

    @abstractmethod
    def grow(self, lease: Lease, before_tokens: int, after_tokens: int, block_tokens: int) -> bool:
        """Make room for a sequence to grow from `before_tokens` to `after_tokens`; blocks that become full
        are known from then on. False, and nothing changed, when there are not enough blocks."""

    @abstractmethod
    def release(self, lease: Lease, held_tokens: int, block_tokens: int) -> None:
        """A sequence that held `held_tokens` ends: its known blocks stay as cache, the others become free."""

    @abstractmethod
    def clear(self) -> None:
        """Forget every block that nobody uses."""


class KeyChange(NamedTuple):
    """Blocks that became resident, or are no longer."""

    stored: bool
    keys: Sequence[int]
    """Of blocks that were stored, all of the prompt that was given; of others theirs, tails first."""
    first: int
    last: int
    """Places among the keys, of the first block and behind the last."""


class PagedCache(KVCache):
    """Blocks known by their chained keys, one entry for each.

    Lookups bisect on residency, and whole runs of keys move at once: a prompt of 128 KB has 2,000 blocks.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._referenced: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self.changes: list[KeyChange] | None = None
        """What changed since it was last emptied, in order; None: nobody wants to know."""

    def __contains__(self, key: int) -> bool:
        return key in self._referenced or key in self._idle

    def match(self, prompt: Sequence[int], limit: int) -> int:
        """Bisects: residency of a key implies that of all keys before it."""
        referenced, idle = self._referenced, self._idle
        low, high = 0, min(limit, len(prompt))
        while low < high:
            middle = (low + high + 1) // 2
            key = prompt[middle - 1]
            if key in referenced or key in idle:
                low = middle
            else:
                high = middle - 1
        return low

    def fits(self, prompt: Sequence[int], hit_blocks: int, new_blocks: int) -> bool:
        if new_blocks + hit_blocks <= self.available:
            return True
        idle_hits = sum(key in self._idle for key in prompt[:hit_blocks])
        return new_blocks + idle_hits <= self.available

    def known(self, prompt: Sequence[int]) -> int:
        return len(prompt)

    def lost(self, prompt: Sequence[int], hit_blocks: int, limit: int) -> int:
        """0: keys that are gone are not remembered."""
        return 0

    def acquire(self, prompt: Sequence[int], hit_blocks: int) -> Lease:
        referenced, idle = self._referenced, self._idle
        # Whoever uses a block uses its ancestors: those in use come first, then those that are idle.
        in_use = bisect_left(range(hit_blocks), True, key=lambda index: prompt[index] in idle)
        for key in prompt[:in_use]:
            referenced[key] += 1
        woken = prompt[in_use:hit_blocks]
        for key in woken:
            del idle[key]
        self.evictable -= len(woken)
        referenced.update(dict.fromkeys(woken, 1))
        return Lease(prompt)

    def grow(self, lease: Lease, before_tokens: int, after_tokens: int, block_tokens: int) -> bool:
        wanted = -(-after_tokens // block_tokens) + (-before_tokens // block_tokens)
        if wanted > self.available:
            return False
        if wanted:
            self._take(wanted)
            self.private += wanted
        full = lease.prompt[before_tokens // block_tokens : after_tokens // block_tokens]
        self.private -= len(full)
        referenced, idle = self._referenced, self._idle
        if referenced.keys().isdisjoint(full) and idle.keys().isdisjoint(full):
            referenced.update(dict.fromkeys(full, 1))
            self._stored(lease, before_tokens // block_tokens, len(full), len(full))
            return True
        new = 0
        for key in full:
            if key in referenced:
                referenced[key] += 1
                self.free += 1
            elif key in idle:
                del idle[key]
                self.evictable -= 1
                referenced[key] = 1
                self.free += 1
            else:
                referenced[key] = 1
                new += 1
        self._stored(lease, before_tokens // block_tokens, len(full), new)
        return True

    def _stored(self, lease: Lease, first: int, full: int, new: int) -> None:
        """Writes. Of the blocks that a sequence filled the last `new` ones were not resident: whatever is
        resident has its ancestors with it."""
        if new and self.changes is not None:
            last = first + full
            self.changes.append(KeyChange(True, lease.prompt, last - new, last))

    def _gone(self, keys: list[int]) -> None:
        if keys and self.changes is not None:
            self.changes.append(KeyChange(False, keys, 0, len(keys)))

    def release(self, lease: Lease, held_tokens: int, block_tokens: int) -> None:
        prompt = lease.prompt
        full = min(held_tokens // block_tokens, len(prompt))
        private = -(-held_tokens // block_tokens) - full
        self.private -= private
        self.free += private
        referenced = self._referenced
        # Users never grow along a chain: blocks with further users come first, then those that go idle.
        shared = bisect_left(range(full), True, key=lambda index: referenced[prompt[index]] == 1)
        for key in prompt[:shared]:
            referenced[key] -= 1
        unused = prompt[shared:full]
        for key in unused:
            del referenced[key]
        self._idle.update(dict.fromkeys(reversed(unused)))
        self.evictable += len(unused)

    def clear(self) -> None:
        self.free += self.evictable
        self.evictable = 0
        self._gone(list(self._idle))
        self._idle.clear()

    def _take(self, blocks: int) -> None:
        from_free = min(blocks, self.free)
        self.free -= from_free
        evicted = blocks - from_free
        if evicted:
            self._gone([self._idle.popitem(last=False)[0] for _ in range(evicted)])
        self.evictable -= evicted
        self.evictions += evicted
