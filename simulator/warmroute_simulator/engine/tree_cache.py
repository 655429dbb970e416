"""The paged KV cache of one worker, for prompts that are paths in a trace's tree.

Why beside `PagedCache`: an agent's prompt of 108,000 tokens is 6,750 blocks and 33 nodes. A prompt is the
list of its nodes (`PromptTree.path`), and a node stands for the blocks that end in it. All of a node's
blocks have the same users, because nodes are cut wherever a prompt ends or leaves another; so they come,
go idle and are evicted together, tail first.

    blocks of a node     0 .............. total          total = end // block − start // block
    resident             [################......]        a part: the first `blocks` of them

Rules kept here. A node is in `_parts` if and only if it has resident blocks. Of these the first `used` are
in use by running sequences and the others idle: those behind a hit that had to stop short of a prompt's last
token, and those of an answer that a running sequence has not reached again. A node with idle blocks stands in
`_idle`, in the order in which nodes are evicted. What the base class says of states and accounts holds block
by block: a property test compares the two caches. They differ where one of two sequences that compute the
same node is dropped: what only that one had reached stays in use here until the other one ends.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import final

from warmroute_simulator.engine.cache import KVCache


@final
class _Part:
    """What is resident of one node."""

    __slots__ = ("blocks", "first", "used", "users")

    def __init__(self, first: int) -> None:
        self.first = first
        """Position of the node's first block in a path."""
        self.blocks = 0
        self.used = 0
        """Of these, from the first on, how many sequences use."""
        self.users = 0


@final
class TreeCache(KVCache):
    """Blocks known by the node in which they end. `ends` is the tree's column: where each node ends."""

    def __init__(self, capacity: int, block_tokens: int, ends: array[int]) -> None:
        super().__init__(capacity)
        self._block_tokens = block_tokens
        self._ends = ends
        self._parts: dict[int, _Part] = {}
        self._idle: OrderedDict[int, _Part] = OrderedDict()
        self._seen = bytearray(len(ends))
        """1 for every node that ever had a resident block here."""

    def match(self, prompt: Sequence[int], limit: int) -> int:
        """From the leaf up: what is not resident of a prompt is short in most of them."""
        parts = self._parts
        index = len(prompt)
        while index:
            index -= 1
            part = parts.get(prompt[index])
            if part is not None:
                return min(part.first + part.blocks, limit)
        return 0

    def fits(self, prompt: Sequence[int], hit_blocks: int, new_blocks: int) -> bool:
        available = self.free + self.evictable
        if new_blocks + hit_blocks <= available:
            return True
        if new_blocks > available:
            return False
        idle_hits = 0
        for node in prompt:
            part = self._parts.get(node)
            if part is None:
                continue
            if part.first >= hit_blocks:
                break
            idle_hits += max(0, min(part.blocks, hit_blocks - part.first) - part.used)
        return new_blocks + idle_hits <= available

    def known(self, prompt: Sequence[int]) -> int:
        return self._ends[prompt[-1]] // self._block_tokens

    def lost(self, prompt: Sequence[int], hit_blocks: int, limit: int) -> int:
        """Up to the end of the deepest node that ever was here."""
        seen = self._seen
        index = len(prompt)
        while index:
            index -= 1
            node = prompt[index]
            if seen[node]:
                return max(0, min(self._ends[node] // self._block_tokens, limit) - hit_blocks)
        return 0

    def acquire(self, prompt: Sequence[int], hit_blocks: int) -> None:
        parts = self._parts
        for node in prompt:
            part = parts.get(node)
            if part is None:  # no block ends in it, or nothing further is resident
                continue
            if part.first >= hit_blocks:
                break
            part.users += 1
            self._use(node, part, min(part.blocks, hit_blocks - part.first))

    def grow(self, prompt: Sequence[int], before_tokens: int, after_tokens: int, block_tokens: int) -> bool:
        wanted = -(-after_tokens // block_tokens) + (-before_tokens // block_tokens)
        if wanted > self.free + self.evictable:
            return False
        if wanted:
            self._take(wanted)
            self.private += wanted
        before, after = before_tokens // block_tokens, after_tokens // block_tokens
        known = self.known(prompt)
        if before < min(after, known):
            self._fill(prompt, before, min(after, known))
        return True

    def _fill(self, prompt: Sequence[int], before: int, after: int) -> None:
        """Writes. Blocks `before` to `after` of the prompt are full: private until now, known from now on."""
        ends, parts, block_tokens = self._ends, self._parts, self._block_tokens
        index = len(prompt) - 1
        while index and ends[prompt[index - 1]] // block_tokens > before:
            index -= 1
        first = ends[prompt[index - 1]] // block_tokens if index else 0
        while first < after:
            node = prompt[index]
            index += 1
            last = ends[node] // block_tokens
            if last == first:
                continue
            part = parts.get(node)
            if part is None:
                part = parts[node] = _Part(first)
                self._seen[node] = 1
            if before <= first:
                part.users += 1
            own = min(last, after) - max(first, before)
            reached = min(last, after) - first
            new = max(0, reached - part.blocks)
            self.private -= own
            self.free += own - new  # resident already: the own copy is dropped
            self._use(node, part, min(reached, part.blocks))
            if new:
                part.blocks += new
                part.used = reached
            first = last

    def release(self, prompt: Sequence[int], held_tokens: int, block_tokens: int) -> None:
        full = min(held_tokens // block_tokens, self.known(prompt))
        private = -(-held_tokens // block_tokens) - full
        self.private -= private
        self.free += private
        parts, idle = self._parts, self._idle
        index = len(prompt)
        while index:
            index -= 1
            node = prompt[index]
            part = parts.get(node)
            if part is not None and part.first < full:
                part.users -= 1
                if part.users == 0:
                    self.evictable += part.used
                    part.used = 0
                    idle[node] = part
                    idle.move_to_end(node)

    def clear(self) -> None:
        for node, part in self._idle.items():
            part.blocks = part.used
            if not part.used:
                del self._parts[node]
        self._idle.clear()
        self.free += self.evictable
        self.evictable = 0

    def _use(self, node: int, part: _Part, blocks: int) -> None:
        """Writes. At least the first `blocks` of what is resident of the node are in use."""
        if blocks > part.used:
            self.evictable -= blocks - part.used
            part.used = blocks
            if blocks == part.blocks:
                del self._idle[node]

    def _take(self, blocks: int) -> None:
        from_free = min(blocks, self.free)
        self.free -= from_free
        blocks -= from_free
        self.evictable -= blocks
        self.evictions += blocks
        idle = self._idle
        while blocks:
            node = next(iter(idle))
            part = idle[node]
            spare = part.blocks - part.used
            if spare > blocks:
                part.blocks -= blocks
                return
            blocks -= spare
            part.blocks = part.used
            del idle[node]
            if not part.used:
                del self._parts[node]
