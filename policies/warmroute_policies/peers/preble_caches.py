"""The virtual caches of `preble`: what each worker is believed to hold, in the order of its last use.

    M_i = Σ over victims v of  misses_v·W_i(v),    v heavy: what evicting for this prompt makes others miss

The victims are the least recently used nodes of i that no request uses, as many as the prompt has new blocks.
The source takes a cache to be always full, so a new prompt always evicts; so it is here. A node that nobody
asked for within the window has no misses and costs nothing, and those come first: they are kept apart, and
their number is known without a look at each.

Rules kept. A node has one time of last use for all workers, as in the source, so a path that one of them is
sent is young in all caches that have it, and no node is older than the one below it. Beyond its capacity a
cache forgets, and then does not hold the node any longer: in the paper the workers tell the scheduler so, in
its code they do not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain
from math import inf

from warmroute_policies.fleet import Fleet
from warmroute_policies.peers.preble_tree import PrebleNode


class _Cache:
    """One worker's, oldest first: nodes used within the window, and when; nodes idle for all of it."""

    __slots__ = ("blocks", "idle", "idle_blocks", "recent")

    def __init__(self) -> None:
        self.recent: OrderedDict[PrebleNode, float] = OrderedDict()
        self.idle: OrderedDict[PrebleNode, None] = OrderedDict()
        self.idle_blocks = 0
        self.blocks = 0


class VirtualCaches:
    """State: the caches by slot."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._caches: dict[int, _Cache] = {}

    def use(self, path: list[PrebleNode], slot: int, now: float) -> None:
        """Writes. The slot was sent the prompt that ends with the path."""
        caches = self._caches
        mine = caches.setdefault(slot, _Cache())
        for node in reversed(path):
            if slot not in node.cached:
                mine.blocks += node.size
                node.cached[slot] = False
            for holder, idle in node.cached.items():
                cache = caches[holder]
                if idle:
                    del cache.idle[node]
                    cache.idle_blocks -= node.size
                    node.cached[holder] = False
                cache.recent[node] = now
                cache.recent.move_to_end(node)

    def age(self, now: float) -> None:
        """Writes. Sets apart what was idle for the whole window."""
        for slot, cache in self._caches.items():
            while cache.recent:
                node, used_at = next(iter(cache.recent.items()))
                if used_at >= now - self._window_s:
                    break
                del cache.recent[node]
                cache.idle[node] = None
                cache.idle_blocks += node.size
                node.cached[slot] = True

    def eviction_s(self, fleet: Fleet, slot: int, blocks: int, enough_s: float = inf) -> float:
        """Reads. M for that many new blocks, or what was found of it when it was more than enough."""
        linear_s, quadratic_s, total_s = fleet.linear_s[slot], fleet.quadratic_s[slot], 0.0
        for node in self._victims(slot, blocks):
            if node.counts is not None and node.is_heavy():
                linear, quadratic = node.prefill_tokens()
                total_s += node.counts.missed_requests() * (linear_s * linear + quadratic_s * quadratic)
                if total_s > enough_s:
                    break
        return total_s

    def _victims(self, slot: int, blocks: int) -> Iterator[PrebleNode]:
        """Reads. The nodes that would go for that many new blocks, less those that nobody would miss."""
        cache = self._caches.get(slot)
        if cache is None:
            return
        blocks -= cache.idle_blocks
        for node in cache.recent:
            if blocks <= 0:
                return
            if slot not in node.active:
                blocks -= node.size
                yield node

    def shrink(self, slot: int, most: float) -> list[PrebleNode]:
        """Writes. Evicts until the slot has at most so many blocks; returns what went."""
        cache = self._caches.get(slot)
        if cache is None or cache.blocks <= most:
            return []
        gone, excess = [], cache.blocks - most
        for node in chain(cache.idle, cache.recent):
            if excess <= 0:
                break
            if slot not in node.active:
                excess -= node.size
                gone.append(node)
        for node in gone:
            self._remove(cache, node, slot)
        return gone

    def split(self, upper: PrebleNode, lower: PrebleNode) -> None:
        """Writes. A node was split, by a prompt that is about to use the upper part."""
        for slot, idle in lower.cached.items():
            cache = self._caches[slot]
            if idle:
                cache.idle[upper] = None
            else:
                cache.recent[upper] = cache.recent[lower]
            upper.cached[slot] = idle

    def drop(self, slot: int) -> None:
        """Writes. The slot's worker is gone."""
        cache = self._caches.pop(slot, None)
        if cache is not None:
            for node in chain(cache.idle, cache.recent):
                del node.cached[slot]

    @staticmethod
    def _remove(cache: _Cache, node: PrebleNode, slot: int) -> None:
        if node.cached.pop(slot):
            del cache.idle[node]
            cache.idle_blocks -= node.size
        else:
            del cache.recent[node]
        cache.blocks -= node.size
