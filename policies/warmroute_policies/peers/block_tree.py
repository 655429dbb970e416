"""Prompts as a radix tree over block ids: the shape that other routers' trees of text and tokens have.

Those trees tell prompts apart to the character or token; this one does to the block, because that is what a
request's identity is made of here. The shape is theirs: a node ends where two prompts part or where one
ended, and what is known is known of whole nodes.

Rules kept. An id stands for its block and all before it, so a run is compared at its end first and then by
halves. Ids are kept as they come, 8 bytes each. What a node knows beside its run is its subclass's business;
`inherit` says what the upper part of a split takes over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Self, TypeVar

from warmroute_policies.blocks import ID_BYTES


class BlockNode:
    """A run of blocks that no prompt seen so far leaves half-way. The root has no run and no parent."""

    __slots__ = ("children", "end", "parent", "run")

    def __init__(self, run: bytes, end: int, parent: Self | None) -> None:
        self.run = run
        self.end = end
        """Blocks from the beginning of the prompt to the end of the run."""
        self.parent = parent
        self.children: dict[bytes, Self] = {}
        """By the first id of their run."""

    @property
    def size(self) -> int:
        """Reads. Blocks of the run."""
        return len(self.run) // ID_BYTES

    def inherit(self, below: Self) -> None:
        """Writes. As the upper part of a split: takes over what was known of the whole."""


N = TypeVar("N", bound=BlockNode)


class BlockTree(Generic[N]):
    """State: the nodes."""

    def __init__(self, make: Callable[[bytes, int, N | None], N]) -> None:
        self._make = make
        self.root = make(b"", 0, None)

    def match(self, run: bytes) -> tuple[list[N], int]:
        """Reads. The nodes along a prompt, the outermost first, and how many of its blocks they have in
        common with it. Of the last of them that may be a part only."""
        path: list[N] = []
        node, at = self.root, 0
        while at < len(run):
            child = node.children.get(run[at : at + ID_BYTES])
            if child is None:
                break
            path.append(child)
            if not run.startswith(child.run, at):
                at += ID_BYTES * _common(child.run, run[at : at + len(child.run)])
                break
            node, at = child, at + len(child.run)
        return path, at // ID_BYTES

    def grow(self, run: bytes) -> list[N]:
        """Writes. The nodes of exactly this prompt: splits the one that it leaves, adds the one it lacks."""
        path, blocks = self.match(run)
        if path and blocks < path[-1].end:
            path[-1] = self.split(path[-1], blocks)
        rest = run[blocks * ID_BYTES :]
        if rest:
            node = path[-1] if path else self.root
            leaf = self._make(rest, len(run) // ID_BYTES, node)
            node.children[rest[:ID_BYTES]] = leaf
            path.append(leaf)
        return path

    def cut(self, node: N) -> None:
        """Writes. Takes a node that has no children out of the tree."""
        assert node.parent is not None
        assert not node.children
        del node.parent.children[node.run[:ID_BYTES]]
        node.parent = None

    def nodes(self, below: Callable[[N], bool] = lambda _: True) -> Iterator[N]:
        """Reads. Every node but the root, parents before children; nothing under one that `below` denies."""
        stack = list(self.root.children.values())
        while stack:
            node = stack.pop()
            if below(node):
                yield node
                stack.extend(node.children.values())

    def split(self, node: N, end: int) -> N:
        """Writes. The new upper part, which ends after that many blocks; the node is what is left."""
        parent = node.parent
        assert parent is not None
        keep = len(node.run) - (node.end - end) * ID_BYTES
        upper = self._make(node.run[:keep], end, parent)
        upper.inherit(node)
        parent.children[node.run[:ID_BYTES]] = upper
        node.run, node.parent = node.run[keep:], upper
        upper.children[node.run[:ID_BYTES]] = node
        return upper


def _common(run: bytes, other: bytes) -> int:
    """How many blocks two runs share that share the first and differ somewhere, or end, after it."""
    low, high = 1, min(len(run), len(other)) // ID_BYTES
    while low < high:
        middle = (low + high + 1) // 2
        at = (middle - 1) * ID_BYTES
        if run[at : at + ID_BYTES] == other[at : at + ID_BYTES]:
            low = middle
        else:
            high = middle - 1
    return low
