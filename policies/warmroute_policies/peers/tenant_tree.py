"""Which prompts were sent to which worker: one tree for the fleet, each node with its *tenants*, the slots
that were sent it.

The radix trees of sglang-router, smg and Ray Serve: filled with what the router sends and never with what an
engine says, forgotten by size and not by what a worker's KV cache can hold.

Rules kept. A tenant of a node is one of all nodes above it. A node without tenants is gone. Sizes are counted
per tenant and to the block, so a head that two workers were sent is counted twice, as it is there.
"""

from __future__ import annotations

from collections.abc import Collection
from heapq import heapify, heappop, heappush
from typing import Self

from warmroute_policies.peers.block_tree import BlockNode, BlockTree


class TenantNode(BlockNode):
    """A run and who was sent it."""

    __slots__ = ("named", "tenants")

    def __init__(self, run: bytes, end: int, parent: Self | None) -> None:
        super().__init__(run, end, parent)
        self.tenants: dict[int, int] = {}
        """Slot to the stamp of its last use, in the order in which they came."""
        self.named = -1
        """The first tenant, for rules that name one; its successor once that one was evicted here."""

    def inherit(self, below: Self) -> None:
        """Writes."""
        self.tenants = dict(below.tenants)
        self.named = below.named

    def tenant(self) -> int:
        """Reads. The one tenant that a match names: the first, else the eldest of those that are left."""
        return self.named if self.named in self.tenants else next(iter(self.tenants))


class TenantTree(BlockTree[TenantNode]):
    """State: the nodes, and how many blocks each slot has in them."""

    def __init__(self) -> None:
        super().__init__(TenantNode)
        self.blocks: dict[int, int] = {}

    def hold(self, node: TenantNode, slot: int, stamp: int) -> None:
        """Writes. The slot is a tenant of the node, which it used at the stamp."""
        if slot not in node.tenants:
            self.blocks[slot] = self.blocks.get(slot, 0) + node.size
            if not node.tenants:
                node.named = slot
        node.tenants[slot] = stamp

    def release(self, node: TenantNode, slot: int) -> None:
        """Writes. The slot, a tenant of the node and of none of its children, is one no longer."""
        del node.tenants[slot]
        self.blocks[slot] -= node.size
        if not node.tenants:
            self.cut(node)

    def drop(self, slot: int) -> None:
        """Writes. The slot is forgotten: its worker is gone, or is believed to have lost its cache."""
        for node in reversed(list(self.nodes(lambda node: slot in node.tenants))):
            self.release(node, slot)
        self.blocks.pop(slot, None)

    def evict_leaves(self, slots: Collection[int], most: int) -> None:
        """Writes. Takes the least recently used leaves off these slots until they have `most` blocks in all.

        A slot's leaf is a node of which it holds no child. When the last child goes its parent becomes one,
        with the stamp that it has.
        """
        excess = sum(self.blocks[slot] for slot in slots) - most
        leaves = [
            (stamp, number, slot, node)
            for number, node in enumerate(self.nodes())
            for slot, stamp in node.tenants.items()
            if slot in slots and _is_leaf(node, slot)
        ]
        heapify(leaves)
        promoted = 0
        while excess > 0 and leaves:
            _, _, slot, node = heappop(leaves)
            parent = node.parent
            excess -= node.size
            self.release(node, slot)
            if parent is not None and parent is not self.root and _is_leaf(parent, slot):
                promoted -= 1  # a number of its own, so that nodes are never compared
                heappush(leaves, (parent.tenants[slot], promoted, slot, parent))

    def evict_oldest(self, slot: int, most: int) -> None:
        """Writes. Takes what the slot did not use for longest off it until it has `most` blocks, all that was
        used last at one stamp at a time. A node must not have been used later than the one above it."""
        held = sorted(
            self.nodes(lambda node: slot in node.tenants), key=lambda node: (node.tenants[slot], -node.end)
        )
        last: int | None = None
        for node in held:
            stamp = node.tenants[slot]
            if stamp != last and self.blocks[slot] <= most:
                break
            last = stamp
            self.release(node, slot)


def _is_leaf(node: TenantNode, slot: int) -> bool:
    return not any(slot in child.tenants for child in node.children.values())
