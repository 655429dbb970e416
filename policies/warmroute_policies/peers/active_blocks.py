"""Blocks of KV cache that the prompts in flight on a worker use, each counted once.

A head that ten requests on one worker have in common is in its cache once, and so it is here. Answers are
not counted: how long one will be is not known before it ends.

Rules kept. A request is on one worker at a time: one that is sent again leaves the worker that failed it.
What was counted for a request is taken off at its end, and nothing is left of a worker that is gone.
"""

from __future__ import annotations

from typing import Self

from warmroute_policies.peers.block_tree import BlockNode, BlockTree
from warmroute_policies.types import RoutingRequest


class _UsedNode(BlockNode):
    """A run and how many prompts in flight use it."""

    __slots__ = ("users",)

    def __init__(self, run: bytes, end: int, parent: Self | None) -> None:
        super().__init__(run, end, parent)
        self.users = 0

    def inherit(self, below: Self) -> None:
        """Writes."""
        self.users = below.users


class ActiveBlocks:
    """State: by request its slot and its blocks; by slot the tree of blocks in use, and their number."""

    def __init__(self) -> None:
        self._flights: dict[int, tuple[int, bytes]] = {}
        self._trees: dict[int, BlockTree[_UsedNode]] = {}
        self._blocks: dict[int, int] = {}

    def used(self, slot: int) -> int:
        """Reads. Blocks that the slot's requests in flight use."""
        return self._blocks.get(slot, 0)

    def start(self, request: RoutingRequest, slot: int) -> None:
        """Writes. The request was sent to the slot."""
        self.end(request.request_id)
        run = request.blocks.ids(0, request.blocks.count) if request.blocks.count else b""
        self._flights[request.request_id] = (slot, run)
        tree = self._trees.get(slot)
        if tree is None:
            tree = self._trees[slot] = BlockTree(_UsedNode)
        for node in tree.grow(run):
            if not node.users:
                self._blocks[slot] = self.used(slot) + node.size
            node.users += 1

    def end(self, request_id: int) -> None:
        """Writes. The request is nowhere any more; one that is not known changes nothing."""
        slot, run = self._flights.pop(request_id, (-1, b""))
        tree = self._trees.get(slot)
        if tree is None:
            return
        path, _ = tree.match(run)
        for node in reversed(path):
            node.users -= 1
            if not node.users:
                self._blocks[slot] -= node.size
                tree.cut(node)

    def drop(self, slot: int) -> None:
        """Writes. The slot's worker is gone, and with it what it had in flight."""
        self._flights = {key: flight for key, flight in self._flights.items() if flight[0] != slot}
        self._trees.pop(slot, None)
        self._blocks.pop(slot, None)
