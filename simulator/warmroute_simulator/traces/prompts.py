"""Every prompt of a trace as a path in one tree, counted in tokens.

Two prompts share exactly the tokens of the nodes that their paths share. A node stands for a stretch of
tokens and for all that came before it, so the tree is all that a cache or a router has to know of the
texts: an engine's pages and a router's blocks are positions on a path, whatever their size.

    root ── system prompt (900) ──┬── question (40) ── answer (200) ── next question (35)
                                  └── question (62)

A page of P tokens belongs to the node in which it *ends*: what it holds is settled there and not before.
A node from `start` to `end` thus has the pages start // P to end // P − 1, and a path's pages follow each
other without a gap. The same holds for the blocks that a router sees.

Rules kept here. Nodes are numbered as they are added, a parent before its children; node 0 is the root and
holds nothing. Nothing ever changes or goes away.
"""

from __future__ import annotations

from array import array
from typing import Final, final

ROOT: Final = 0


@final
class PromptTree:
    """Two columns, some 8 bytes a node: a trace of a million requests has a few million nodes."""

    __slots__ = ("ends", "parents")

    def __init__(self) -> None:
        self.parents = array("i", [-1])
        self.ends = array("i", [0])
        """Tokens from the root to the end of the node."""

    def __len__(self) -> int:
        return len(self.ends)

    def add(self, parent: int, tokens: int) -> int:
        """Writes. A new node of `tokens` tokens below `parent`; equal to no other.

        Raises ValueError when it would be empty.
        """
        if tokens < 1:
            raise ValueError(f"a node needs at least one token, not {tokens}")
        self.parents.append(parent)
        self.ends.append(self.ends[parent] + tokens)
        return len(self.ends) - 1

    def path(self, node: int) -> list[int]:
        """Reads. The nodes from the first below the root to `node`, in order."""
        parents = self.parents
        nodes: list[int] = []
        while node > ROOT:
            nodes.append(node)
            node = parents[node]
        nodes.reverse()
        return nodes

    def start(self, node: int) -> int:
        """Reads. Tokens before the node."""
        return self.ends[self.parents[node]]
