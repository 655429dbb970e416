"""Prompt trees from lists of chained block ids, the form in which most traces name prefixes.

Chained means that an id stands for its block and for all blocks before it: two prompts share as many
leading blocks as they share leading ids. Millions of blocks become a few nodes per request, since a
stretch of blocks that nobody leaves and where nobody ends is one node. For that all requests must be known,
so prompts are added first and nodes are made at the end.

Ids of which only the first are known need few look-ups: chained ids are known up to some block and unknown
after it, so the border is bisected. That the known ones are indeed the chain that led to the last of them
is checked by comparing runs of ids, not ids.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import final

from warmroute_simulator.traces.prompts import ROOT, PromptTree


class NotChainedError(ValueError):
    """The ids name contents, not prefixes: one follows different ids in different prompts."""


@final
class BlockRuns:
    """Lists of chained ids as runs: blocks get serial numbers in the order in which they are first seen, so
    those that came together are consecutive.

    State: the serial of every distinct block by its id (until `forget_ids`), the ids by serial, and for each
    run its first serial and the serial that it follows (−1: none).
    """

    __slots__ = ("_forgotten", "_lasting", "_latest", "_serials", "afters", "depths", "firsts", "ids")

    def __init__(self) -> None:
        self._serials: dict[int, int] = {}
        self._lasting: dict[int, int] = {}
        self._forgotten = 0
        self._latest = array("q")
        self.ids = array("q")
        self.depths = array("i")
        """Blocks up to and with this one, by serial."""
        self.firsts = array("i")
        self.afters = array("i")

    def add(self, ids: array[int]) -> int:
        """Writes. One prompt's blocks; the serial of the last one, or −1.

        Raises NotChainedError, and has then changed nothing.
        """
        serials, count = self._serials, len(ids)
        known = bisect_left(range(count), True, key=lambda block: ids[block] not in serials)
        last = serials[ids[known - 1]] if known else -1
        if known and ids[:known] != self._latest[:known]:
            self._check(ids, known, last)
        if known < count:
            new = ids[known:]
            first = len(self.ids)
            fresh = dict(zip(new, range(first, first + len(new)), strict=True))
            if len(fresh) < len(new):
                raise NotChainedError("an id occurs twice in one prompt")
            if not serials.keys().isdisjoint(fresh):
                raise NotChainedError(f"id {ids[known]} is new, and of those behind it some are known")
            serials.update(fresh)
            self.firsts.append(first)
            self.afters.append(last)
            self.ids.extend(new)
            self.depths.extend(range(known + 1, count + 1))
            last = first + len(new) - 1
        self._latest = ids
        return last

    def forget_ids(self) -> None:
        """Writes. Ids from 0 on are other blocks from now on: the end of a session whose ids are its own.
        Negative ids stay what they are.
        """
        for serial in range(self._forgotten, len(self.ids)):
            if self.ids[serial] < 0:
                self._lasting[self.ids[serial]] = serial
        self._forgotten = len(self.ids)
        self._serials = dict(self._lasting)
        self._latest = array("q")

    def cut(self, ends: Iterable[int]) -> Iterator[tuple[int, list[int]]]:
        """Reads. For each run, the serial that it follows and the serials at which it is cut: where other
        runs leave it, where prompts end (`ends`), and its last one.
        """
        cuts = set(ends)
        cuts.update(self.afters)
        stops = [*self.firsts[1:], len(self.ids)] if self.firsts else []
        cuts.update(stop - 1 for stop in stops)
        ordered = sorted(cuts)
        position = bisect_left(ordered, 0)
        for after, stop in zip(self.afters, stops, strict=True):
            start = position
            position = bisect_left(ordered, stop, position)
            yield after, ordered[start:position]

    def _check(self, ids: array[int], known: int, last: int) -> None:
        """Raises NotChainedError unless the first `known` ids are those that lead to serial `last`."""
        if self.depths[last] != known:
            raise NotChainedError(
                f"id {ids[known - 1]} is block {known} here and {self.depths[last]} elsewhere"
            )
        while known:
            run = bisect_right(self.firsts, last) - 1
            first = self.firsts[run]
            length = last - first + 1
            if self.ids[first : last + 1] != ids[known - length : known]:
                raise NotChainedError(f"what comes before id {ids[known - 1]} differs between prompts")
            known, last = known - length, self.afters[run]


@final
class ContentChains:
    """Chained ids for ids that name a block's content alone. State: the chained id of each pair seen."""

    __slots__ = ("_chained",)

    def __init__(self) -> None:
        self._chained: dict[tuple[int, int], int] = {}

    def chain(self, ids: Iterable[int]) -> list[int]:
        """Writes. Ids of which each stands for its block and all before it."""
        chained, previous = self._chained, -1
        out: list[int] = []
        for content in ids:
            previous = chained.setdefault((previous, content), len(chained))
            out.append(previous)
        return out


@final
class ChainedPrompts:
    """Prompts as lists of chained ids of blocks of `block_tokens` tokens; `tree` makes the tree of them all.

    State: the runs of blocks, and where each prompt ends.
    """

    __slots__ = ("_ends", "_rest_ids", "_rest_tokens", "_runs", "block_tokens")

    def __init__(self, block_tokens: int) -> None:
        self.block_tokens = block_tokens
        self._runs = BlockRuns()
        self._ends = array("i")
        self._rest_ids: list[int | None] = []
        self._rest_tokens = array("i")

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, ids: Sequence[int], tokens: int) -> int:
        """Writes. A prompt of `tokens` tokens; its number. Whole blocks need an id each to be shared; tokens
        past the last id are nobody else's, and an id for the unfinished last block is shared by prompts that
        end alike.

        Raises ValueError when there are more ids than blocks, NotChainedError when they are no chain; nothing
        is changed then.
        """
        blocks, rest = divmod(tokens, self.block_tokens)
        if len(ids) > blocks + (rest > 0):
            raise ValueError(f"{len(ids)} ids for {tokens} tokens in blocks of {self.block_tokens}")
        whole = packed(ids[:blocks])
        self._ends.append(self._runs.add(whole))
        self._rest_ids.append(ids[blocks] if len(ids) > blocks else None)
        self._rest_tokens.append(tokens - len(whole) * self.block_tokens)
        return len(self._ends) - 1

    def forget_ids(self) -> None:
        """Writes. Ids from 0 on that come from now on are other blocks: the end of a session whose ids are
        its own. Negative ids stay what they are."""
        self._runs.forget_ids()

    def tree(self) -> tuple[PromptTree, array[int]]:
        """Reads. The tree, and the node at which each prompt ends, in the order in which they were added."""
        tree = PromptTree()
        node_of = {-1: ROOT}
        block_tokens, depths = self.block_tokens, self._runs.depths
        for after, cuts in self._runs.cut(self._ends):
            node = node_of[after]
            depth = depths[after] if after >= 0 else 0
            for cut in cuts:
                node = node_of[cut] = tree.add(node, (depths[cut] - depth) * block_tokens)
                depth = depths[cut]
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


def packed(ids: Sequence[int]) -> array[int]:
    """Ids as 64-bit numbers; larger ones, such as unsigned or longer hashes, by their lowest 64 bits."""
    if isinstance(ids, array):
        return ids
    try:
        return array("q", ids)
    except OverflowError:
        return array("q", [(number + 2**63) % 2**64 - 2**63 for number in ids])
