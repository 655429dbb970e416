"""Prompt trees from lists of chained block ids, the form in which most traces name prefixes.

Chained means that an id stands for its block and for all blocks before it: two prompts share as many
leading blocks as they share leading ids. Millions of blocks become a few nodes per request, since a
stretch of blocks that nobody leaves and where nobody ends is one node. For that all requests must be known,
so prompts are added first and nodes are made at the end.

Ids of which only the first are known need one look-up per block at most: chained ids are known up to some
block and unknown after it, so the border is bisected.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence

from warmroute_simulator.traces.prompts import ROOT, PromptTree


class NotChainedError(ValueError):
    """The ids name contents, not prefixes: one stands at two depths, or a known one follows an unknown."""


class ChainedPrompts:
    """Prompts as lists of chained ids of blocks of `block_tokens` tokens; `tree` makes the tree of them all.

    State: the serial number of every distinct block by its id (until `forget_ids`), the runs of blocks that
    came together, and where each prompt ends.
    """

    def __init__(self, block_tokens: int) -> None:
        self.block_tokens = block_tokens
        self._serials: dict[int, int] = {}
        self._count = 0
        self._forgotten = 0
        self._depths = array("i")
        self._runs: list[tuple[int, int]] = []
        """First serial of each run, and the serial that it follows (−1: none)."""
        self._ends = array("i")
        self._rest_ids: list[int | None] = []
        self._rest_tokens = array("i")

    def add(self, ids: Sequence[int], tokens: int) -> int:
        """Writes. A prompt of `tokens` tokens; its number. Whole blocks need an id each to be shared; tokens
        past the last id are nobody else's, and an id for the unfinished last block is shared by prompts that
        end alike.

        Raises ValueError when there are more ids than blocks, NotChainedError when they are no chain.
        """
        blocks, rest = divmod(tokens, self.block_tokens)
        if len(ids) > blocks + (rest > 0):
            raise ValueError(f"{len(ids)} ids for {tokens} tokens in blocks of {self.block_tokens}")
        whole = min(blocks, len(ids))
        serials = self._serials
        known = bisect_left(range(whole), True, key=lambda block: ids[block] not in serials)
        last = serials[ids[known - 1]] if known else -1
        if known and self._depths[last] != known:
            raise NotChainedError(
                f"id {ids[known - 1]} is block {known} here and block {self._depths[last]} elsewhere"
            )
        if known < whole:
            new = ids[known:whole]
            if not serials.keys().isdisjoint(new):
                raise NotChainedError(f"of the ids after {ids[known]}, which is new, some are known")
            first = self._count
            self._runs.append((first, last))
            serials.update(zip(new, range(first, first + len(new)), strict=True))
            if len(serials) < first + len(new) - self._forgotten:
                raise NotChainedError(f"an id occurs twice after {ids[known]}")
            self._count += len(new)
            self._depths.extend(range(known + 1, whole + 1))
            last = self._count - 1
        self._ends.append(last)
        self._rest_ids.append(ids[blocks] if len(ids) > blocks else None)
        self._rest_tokens.append(tokens - whole * self.block_tokens)
        return len(self._ends) - 1

    def forget_ids(self) -> None:
        """Writes. Ids that come from now on are other blocks: the end of a session whose ids are its own."""
        self._forgotten = self._count
        self._serials.clear()

    def tree(self) -> tuple[PromptTree, array[int]]:
        """Reads. The tree, and the node at which each prompt ends, in the order in which they were added."""
        tree = PromptTree()
        node_of = {-1: ROOT}
        cuts = {after for _, after in self._runs} | set(self._ends)
        firsts = [first for first, _ in self._runs[1:]]
        stops = [*firsts, self._count]
        cuts.update(stop - 1 for stop in stops)
        ordered = array("i", sorted(cuts - {-1}))
        position = 0
        for (first, after), stop in zip(self._runs, stops, strict=True):
            node = node_of[after]
            while first < stop:
                cut = ordered[position]
                node = node_of[cut] = tree.add(node, (cut + 1 - first) * self.block_tokens)
                first = cut + 1
                position += 1
        leaves = array("i")
        shared: dict[tuple[int, int, int], int] = {}
        for end, rest_id, rest in zip(self._ends, self._rest_ids, self._rest_tokens, strict=True):
            node = node_of[end]
            if rest and rest_id is None:
                node = tree.add(node, rest)
            elif rest:
                key = (node, rest_id or 0, rest)
                node = shared.get(key) or shared.setdefault(key, tree.add(node, rest))
            leaves.append(node)
        return tree, leaves
