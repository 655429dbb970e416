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
the ring of the idle, in the order in which nodes are evicted. What the base class says of states and accounts
holds block by block: a property test compares the two caches. They differ where one of two sequences that
compute the same node is dropped: what only that one had reached stays in use here until the other one ends.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple, final

from warmroute_simulator.engine.cache import KVCache, Lease


@final
class _Part:
    """What is resident of one node, and its place in the ring of nodes with idle blocks."""

    __slots__ = ("blocks", "first", "last", "newer", "node", "older", "used", "users")

    def __init__(self, node: int, first: int, last: int) -> None:
        self.node = node
        self.first = first
        self.last = last
        """Positions of the node's first block in a path, and of the one after its last."""
        self.blocks = 0
        self.used = 0
        """Of these, from the first on, how many sequences use."""
        self.users = 0
        self.older: _Part | None = None
        self.newer: _Part | None = None
        """None: not in the ring."""


class Change(NamedTuple):
    """Blocks that became resident, or are no longer."""

    stored: bool
    node: int
    first: int
    last: int
    """Places within the node, of the first block and behind the last."""


@final
class _Ring:
    """The nodes with idle blocks, in the order in which they are evicted. State: a part of no node, where the
    ring begins and ends."""

    __slots__ = ("start",)

    def __init__(self) -> None:
        start = _Part(-1, 0, 0)
        start.older = start.newer = start
        self.start = start

    def oldest(self) -> _Part | None:
        """Reads."""
        oldest = self.start.newer
        return None if oldest is self.start else oldest

    def add(self, part: _Part) -> None:
        """Writes. The part is the newest from now on, wherever it was."""
        self.drop(part)
        start = self.start
        before = start.older
        assert before is not None
        part.older, part.newer = before, start
        before.newer = start.older = part

    def drop(self, part: _Part) -> None:
        """Writes. Nothing happens to one that is not there."""
        older, newer = part.older, part.newer
        if older is not None and newer is not None:
            older.newer, newer.older = newer, older
            part.older = part.newer = None

    def close(self) -> None:
        """Writes. Nothing refers to anything any more."""
        while (part := self.oldest()) is not None:
            self.drop(part)
        self.start.older = self.start.newer = None


@final
class _TreeLease(Lease):
    """State: the parts that the sequence uses, and where the next one is looked for."""

    __slots__ = ("known", "next", "parts", "tail")

    def __init__(self, prompt: Sequence[int], known: int, tail: _Part) -> None:
        super().__init__(prompt)
        self.known = known
        """Blocks that the prompt names."""
        self.parts: list[_Part] = []
        self.tail = tail
        """The last of them; before there is one, a part of no node that ends where the prompt begins."""
        self.next = 0
        """Position in the prompt of the first node behind `tail`."""


@final
class TreeCache(KVCache):
    """Blocks known by the node in which they end. `ends` is the tree's column: where each node ends."""

    def __init__(self, capacity: int, block_tokens: int, ends: array[int]) -> None:
        super().__init__(capacity)
        self._block_tokens = block_tokens
        self._ends = ends
        self._parts: dict[int, _Part] = {}
        self._idle = _Ring()
        self._seen = bytearray(len(ends))
        """1 for every node that ever had a resident block here."""
        self.changes: list[Change] | None = None
        """What changed since it was last emptied, in order; None: nobody wants to know."""

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

    def acquire(self, prompt: Sequence[int], hit_blocks: int) -> _TreeLease:
        lease = _TreeLease(prompt, self.known(prompt), self._idle.start)
        parts = self._parts
        for node in prompt:
            if lease.tail.last >= hit_blocks:
                break
            lease.next += 1
            part = parts.get(node)
            if part is not None:  # else no block ends in the node
                self._join(part, lease)
                self._use(part, min(part.blocks, hit_blocks - part.first))
        return lease

    def grow(self, lease: Lease, before_tokens: int, after_tokens: int, block_tokens: int) -> bool:
        assert isinstance(lease, _TreeLease)
        wanted = -(-after_tokens // block_tokens) + (-before_tokens // block_tokens)
        if wanted > self.free + self.evictable:
            return False
        if wanted:
            self._take(wanted)
            self.private += wanted
        before, after = before_tokens // block_tokens, min(after_tokens // block_tokens, lease.known)
        if before < after:
            self._fill(lease, before, after)
        return True

    def _fill(self, lease: _TreeLease, before: int, after: int) -> None:
        """Writes. Blocks `before` to `after` of the prompt are full: private until now, known from now on."""
        while before < after:
            part = lease.tail
            if before >= part.last:
                part = self._next(lease)
            end = min(part.last, after)
            own, reached = end - before, end - part.first
            new = max(0, reached - part.blocks)
            self.private -= own
            self.free += own - new  # resident already: the own copy is dropped
            self._use(part, min(reached, part.blocks))
            if new:
                if self.changes is not None:
                    self.changes.append(Change(True, part.node, part.blocks, reached))
                part.blocks = part.used = reached
            before = end

    def _next(self, lease: _TreeLease) -> _Part:
        """Writes. The part that follows the lease's last one, which the lease uses from now on."""
        first = last = lease.tail.last
        node = -1
        while last == first:  # no block ends in the node
            node = lease.prompt[lease.next]
            last = self._ends[node] // self._block_tokens
            lease.next += 1
        part = self._parts.get(node)
        if part is None:
            part = self._parts[node] = _Part(node, first, last)
            self._seen[node] = 1
        self._join(part, lease)
        return part

    def _join(self, part: _Part, lease: _TreeLease) -> None:
        """Writes."""
        part.users += 1
        lease.parts.append(part)
        lease.tail = part

    def release(self, lease: Lease, held_tokens: int, block_tokens: int) -> None:
        assert isinstance(lease, _TreeLease)
        full = min(held_tokens // block_tokens, lease.known)
        private = -(-held_tokens // block_tokens) - full
        self.private -= private
        self.free += private
        for part in reversed(lease.parts):
            part.users -= 1
            if part.users == 0:
                self.evictable += part.used
                part.used = 0
                self._idle.add(part)

    def clear(self) -> None:
        while (part := self._idle.oldest()) is not None:
            self._forget(part)
        self.free += self.evictable
        self.evictable = 0

    def held(self) -> Iterator[Change]:
        """Reads. All that is resident, as if it had just come."""
        for part in self._parts.values():
            yield Change(True, part.node, 0, part.blocks)

    def let_go(self) -> None:
        """Writes. The cache is not used again: the ring is a circle of references, which ends here."""
        self._idle.close()

    def _use(self, part: _Part, blocks: int) -> None:
        """Writes. At least the first `blocks` of what is resident of the node are in use."""
        if blocks > part.used:
            self.evictable -= blocks - part.used
            part.used = blocks
            if blocks == part.blocks:
                self._idle.drop(part)

    def _forget(self, part: _Part) -> None:
        """Writes. The idle blocks of a node are gone."""
        if self.changes is not None and part.blocks > part.used:
            self.changes.append(Change(False, part.node, part.used, part.blocks))
        part.blocks = part.used
        self._idle.drop(part)
        if not part.used:
            del self._parts[part.node]

    def _take(self, blocks: int) -> None:
        from_free = min(blocks, self.free)
        self.free -= from_free
        blocks -= from_free
        self.evictable -= blocks
        self.evictions += blocks
        while blocks:
            part = self._idle.oldest()
            assert part is not None  # there was room
            spare = part.blocks - part.used
            if spare > blocks:
                if self.changes is not None:
                    self.changes.append(Change(False, part.node, part.blocks - blocks, part.blocks))
                part.blocks -= blocks
                return
            blocks -= spare
            self._forget(part)
