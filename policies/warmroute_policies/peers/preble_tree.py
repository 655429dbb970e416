"""What `preble` knows of each stretch of prompts: who holds it, who uses it, what the last minutes did there.

A node is *heavy* when its own blocks are more than all above it: most of what a prompt that ends there costs.
Requests are counted at the nearest heavy node above their end, so a conversation counts at its beginning
and a question about a document at the document.

Rules kept, as in the source. A split copies holders and users. Counts stay with the lower part, unless the
upper part is heavy and the lower one is not any longer. What nobody holds in a cache, uses or has counted
in the window is forgotten, which the source never does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Self

from warmroute_policies.blocks import TOKENS_PER_BLOCK
from warmroute_policies.peers.block_tree import BlockNode, BlockTree


class Counts:
    """What the requests of the window did at one heavy node."""

    __slots__ = ("charges", "hit_blocks", "node", "prompt_blocks", "requests")

    def __init__(self, node: PrebleNode) -> None:
        self.node = node
        self.requests = 0
        self.hit_blocks = 0
        self.prompt_blocks = 0
        self.charges: tuple[tuple[int, float, float, int, bool], ...] = ()
        """By holder what its load has of this node, for `preble_load` to take back."""

    def missed_requests(self) -> float:
        """Reads. Miss rate times requests: how many whole prefills the window's requests were worth."""
        return self.requests * (1.0 - self.hit_blocks / self.prompt_blocks) if self.prompt_blocks else 0.0


class PrebleNode(BlockNode):
    """A run, who holds it and who uses it."""

    __slots__ = ("active", "cached", "counts", "holders", "ttfts")

    def __init__(self, run: bytes, end: int, parent: Self | None) -> None:
        super().__init__(run, end, parent)
        self.holders: set[int] = set()
        """Where requests for it are sent: whoever was sent it, until it is moved, idle or evicted."""
        self.active: dict[int, int] = {}
        """Requests in flight that use it, by slot; no zeros."""
        self.cached: dict[int, bool] = {}
        """The virtual caches that have it, and whether it was idle there for the whole window."""
        self.counts: Counts | None = None
        self.ttfts: dict[int, deque[tuple[float, float]]] = {}
        """By slot, when which TTFT was seen by requests counted here."""

    def inherit(self, below: Self) -> None:
        """Writes. The virtual caches see to their part themselves."""
        self.holders = set(below.holders)
        self.active = dict(below.active)

    def is_heavy(self) -> bool:
        """Reads."""
        return self.size > self.end - self.size

    def prefill_tokens(self) -> tuple[float, float]:
        """Reads. What the prefill of the run costs, in the units of the linear and the quadratic price."""
        tokens = self.size * TOKENS_PER_BLOCK
        return float(tokens), tokens * (self.end * TOKENS_PER_BLOCK - tokens / 2)

    def saw(self, slot: int, ttft_s: float, now: float, since: float) -> None:
        """Writes. The TTFT of a request on the slot, while requests are counted here; forgets older ones."""
        if self.counts is None:
            return
        ttfts = self.ttfts.setdefault(slot, deque())
        ttfts.append((now, ttft_s))
        while ttfts[0][0] < since:
            ttfts.popleft()

    def is_forgotten(self) -> bool:
        """Reads. Nobody has it in a cache, uses it or counted it, and nothing goes on from it."""
        return not (self.children or self.active or self.cached or self.counts)


class PrebleTree(BlockTree[PrebleNode]):
    """The tree of all prompts. `on_split` is told the new upper part and what is left of the node."""

    def __init__(self, on_split: Callable[[PrebleNode, PrebleNode], None]) -> None:
        super().__init__(PrebleNode)
        self._on_split = on_split

    def split(self, node: PrebleNode, end: int) -> PrebleNode:
        """Writes."""
        upper = super().split(node, end)
        self._on_split(upper, node)
        return upper

    def forget(self, node: PrebleNode) -> None:
        """Writes. Cuts the node, and those above it, if nobody has any use for them."""
        while node.parent is not None and node.is_forgotten():
            parent = node.parent
            self.cut(node)
            node = parent


def path_to(leaf: PrebleNode) -> list[PrebleNode]:
    """Reads. The nodes of the prompt that ends with the leaf, the outermost first."""
    path = []
    node: PrebleNode | None = leaf
    while node is not None and node.parent is not None:
        path.append(node)
        node = node.parent
    path.reverse()
    return path


def heavy(path: list[PrebleNode]) -> PrebleNode:
    """Reads. The heavy node that is nearest to the path's end; the first node of a path always is heavy."""
    return next(node for node in reversed(path) if node.is_heavy())
