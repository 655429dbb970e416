"""The radix tree over block ids that all workers share: its nodes, and how they are found and cut.

A node is a *run* of blocks that no known prompt leaves half-way. Presence is closed under prefixes, so
a worker covers a leading part of each run on its path: one number per worker and node. Most runs are
held whole by one worker, which is then the node's `hold` itself; a `Shared` comes with the second.

Finding needs no walk from the root. An id stands for everything before its block, so one table serves
the whole tree: *landmarks*, the first id of each run (to go from a node to its child) and the last id
of each stretch (to jump). The table is split into shards because growing a large dict stops the world:
5 ms at 100,000 entries.

Rules kept. Nodes refer to each other in cycles, and the router keeps the collector away from a million of
them: `unlink`, `merge` and `clear` undo the cycles. A dead node keeps its `parent`, so that a log that
names it can climb.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Final, final

from warmroute_policies.blocks import ID_BYTES, STRETCH_BLOCKS, PromptBlocks

# Growing a shard stays under 1 ms up to 20,000 entries in each, 5 million prompts in all. The low bits of an
# id choose the shard and the other 56 are the key in it: an int above 60 bits takes 48 bytes, this one 32.
SHARD_BITS: Final = 8
SHARDS: Final = 1 << SHARD_BITS
_SHARD: Final = SHARDS - 1

# Bytes on a 64-bit CPython 3.11, for the estimate that the byte budget is kept by; the test of the
# estimate measures what is really allocated. A run is rounded up to 16; a landmark is an int (32) and its
# share of a dict that is a third full on average, since dicts grow threefold; a holder of a shared node has
# an entry in two or three small dicts. All are 5 % up for what the allocator cannot use.
NODE_BYTES: Final = 110
RUN_BYTES: Final = 43
LANDMARK_BYTES: Final = 118
SHARED_BYTES: Final = 450
HOLDER_BYTES: Final = 150

_first_id: Final = Struct("<Q").unpack_from


@final
class Epoch:
    """A stretch of time in one lane: see `residency`."""

    __slots__ = ("blocks", "log", "order", "slot", "tick")

    def __init__(self, slot: int, tick: int) -> None:
        self.slot = slot
        self.tick = tick
        """Number of the request at which it began; unique in its lane, ordered over all lanes."""
        self.blocks = 0
        """Blocks of the lane whose last use was in this epoch."""
        self.log: list[Node] = []
        """Where the requests of this epoch ended, oldest first."""
        self.order: dict[Node, None] | None = None
        """The log as it is being evicted, newest first; None until then."""

    def __repr__(self) -> str:
        return f"<Epoch {self.tick} of slot {self.slot}, {self.blocks} blocks>"

    def reopen(self) -> None:
        """Writes. Undoes the ordering for eviction, which holds only as long as nothing is forgotten."""
        if self.order is not None:
            self.log = [*reversed(self.order), *self.log]
            self.order = None

    def clear(self) -> None:
        """Writes. Lets go of the nodes."""
        self.log = []
        self.order = None


@final
class Shared:
    """Who holds a node that has several holders, by slot."""

    __slots__ = ("depths", "epochs", "kids")

    def __init__(self, depths: dict[int, int], epochs: dict[int, Epoch], kids: dict[int, int]) -> None:
        self.depths = depths
        """How deep, in blocks from the beginning of the prompt."""
        self.epochs = epochs
        self.kids = kids
        """How many of the node's children the slot holds; no zeros."""


@final
class Node:
    """A run of blocks. The root has no parent and no run."""

    __slots__ = ("after", "before", "child", "children", "hold", "ids", "parent", "start")

    def __init__(self, start: int, ids: bytes, parent: Node | None, hold: Epoch | Shared | None) -> None:
        self.start = start
        """Blocks before the run."""
        self.ids = ids
        self.parent = parent
        self.hold = hold
        """The epoch of the only holder, which covers the whole run; or who shares it. None: root or dead."""
        self.child: Node | None = None
        """First of the list of children."""
        self.after: Node | None = None
        """Next sibling."""
        self.before: Node | None = None
        self.children = 0

    @property
    def end(self) -> int:
        return self.start + len(self.ids) // ID_BYTES

    def __repr__(self) -> str:
        return f"<Node of blocks {self.start} to {self.end}>"


def epoch_of(node: Node, slot: int) -> Epoch | None:
    """Reads. When the slot last used the node; None when it does not hold it."""
    hold = node.hold
    if type(hold) is Epoch:
        return hold if hold.slot == slot else None
    if hold is None:
        return None
    return hold.epochs.get(slot)


def depth_of(node: Node, slot: int) -> int:
    """Reads. How deep the slot, one of the node's holders, covers the node."""
    hold = node.hold
    return hold.depths[slot] if type(hold) is Shared else node.end


def kids_of(node: Node, slot: int) -> int:
    """Reads. How many children of the node are held by the slot, one of the node's holders."""
    hold = node.hold
    return hold.kids.get(slot, 0) if type(hold) is Shared else node.children


class Tree:
    """The nodes and the landmarks, with the sums that statistics need."""

    __slots__ = ("_shards", "bytes", "nodes", "root", "unique_blocks")

    def __init__(self) -> None:
        self.root = Node(0, b"", None, None)
        self._shards: list[dict[int, Node]] = [{} for _ in range(SHARDS)]
        self.nodes = 0
        self.unique_blocks = 0
        self.bytes = 0
        """Estimate of what nodes, runs, landmarks and holders take."""

    def locate(self, blocks: PromptBlocks) -> tuple[Node, int]:
        """Reads. The node where the known part of the prompt ends, and its length in blocks."""
        shards = self._shards
        node, known = self.root, 0
        coarse = blocks.stretch_ids()
        for mark in reversed(coarse):
            found = shards[mark & _SHARD].get(mark >> SHARD_BITS)
            if found is not None:
                node, known = found, STRETCH_BLOCKS * (coarse.index(mark) + 1)
                break
        # The next stretch is not known to its end, so the known part ends inside it.
        rest = blocks.ids(known, known + STRETCH_BLOCKS)
        while rest:
            at = (known - node.start) * ID_BYTES
            run = node.ids[at : at + len(rest)]
            if run:
                if not rest.startswith(run):
                    return node, known + _common_blocks(run, rest)
                known += len(run) // ID_BYTES
                rest = rest[len(run) :]
                if not rest:
                    break
            first: int = _first_id(rest)[0]
            child = shards[first & _SHARD].get(first >> SHARD_BITS)
            if child is None or child.parent is not node:
                break
            node = child
        return node, known

    def add_leaf(self, parent: Node, blocks: PromptBlocks, start: int, run: bytes, hold: Epoch) -> Node:
        """Writes. A new child of `parent`, which ends at `start`."""
        leaf = Node(start, run, parent, hold)
        sibling = parent.child
        leaf.after = sibling
        if sibling is not None:
            sibling.before = leaf
        parent.child = leaf
        parent.children += 1
        self.nodes += 1
        self.bytes += NODE_BYTES + RUN_BYTES
        self._mark(leaf, _first_id(run))
        self._grown(leaf, blocks, start, run)
        return leaf

    def extend(self, leaf: Node, blocks: PromptBlocks, start: int, run: bytes) -> None:
        """Writes. Appends a run to a leaf, which ends at `start`."""
        leaf.ids += run
        self._grown(leaf, blocks, start, run)

    def split(self, node: Node, at: int) -> Node:
        """Writes. Cuts the run at an inner depth; the new node is the upper part, and is returned.

        The lower part stays the same object: its children and the logs that name it stay right.
        """
        cut = (at - node.start) * ID_BYTES
        upper = Node(node.start, node.ids[:cut], node.parent, None)
        upper.child, upper.children = node, 1
        self._replace(node, upper)
        node.parent, node.after, node.before = upper, None, None
        node.start, node.ids = at, node.ids[cut:]
        self.nodes += 1
        self.bytes += NODE_BYTES + RUN_BYTES
        self._mark(upper, self._marks(upper.start, upper.ids))
        self._mark(node, _first_id(node.ids))
        self._split_hold(node, upper, at)
        return upper

    def _split_hold(self, lower: Node, upper: Node, at: int) -> None:
        hold = lower.hold
        if type(hold) is not Shared:
            upper.hold = hold
            return
        depths = hold.depths
        deep = {slot: depth for slot, depth in depths.items() if depth > at}
        upper.hold = Shared(
            {slot: min(depth, at) for slot, depth in depths.items()}, hold.epochs, dict.fromkeys(deep, 1)
        )
        self.bytes += SHARED_BYTES + HOLDER_BYTES * len(depths)
        epochs = {slot: hold.epochs[slot] for slot in deep}
        lower.hold = Shared(deep, epochs, hold.kids)
        self.bytes -= HOLDER_BYTES * (len(depths) - len(deep))
        self.unshare(lower)

    def share(self, node: Node, hold: Epoch) -> Shared:
        """Writes. Prepares a node for a second holder; all children are the first one's."""
        kids = {hold.slot: node.children} if node.children else {}
        shared = Shared({hold.slot: node.end}, {hold.slot: hold}, kids)
        node.hold = shared
        self.bytes += SHARED_BYTES + HOLDER_BYTES
        return shared

    def unshare(self, node: Node) -> None:
        """Writes. Cuts a childless run behind its deepest holder, and drops the dicts of a last holder."""
        hold = node.hold
        assert type(hold) is Shared
        if not node.children:
            deepest = max(hold.depths.values())
            if deepest < node.end:
                self.cut(node, deepest)
        if len(hold.depths) == 1:
            (node.hold,) = hold.epochs.values()
            self.bytes -= SHARED_BYTES + HOLDER_BYTES

    def cut(self, leaf: Node, depth: int) -> None:
        """Writes. Shortens a childless run to end at a depth inside it."""
        keep = (depth - leaf.start) * ID_BYTES
        gone = leaf.ids[keep:]
        leaf.ids = leaf.ids[:keep]
        self._unmark(leaf, self._stretch_ends(depth, gone))
        self._shrunk(len(gone))

    def unlink(self, leaf: Node) -> None:
        """Writes. Takes a childless node out of the tree. It keeps its parent, the parent not it."""
        parent = leaf.parent
        assert parent is not None
        assert not leaf.children
        if type(leaf.hold) is Shared:
            self.bytes -= SHARED_BYTES + HOLDER_BYTES * len(leaf.hold.depths)
        self._replace(leaf, None)
        parent.children -= 1
        leaf.after = leaf.before = None
        self._unmark(leaf, self._marks(leaf.start, leaf.ids))
        self._shrunk(len(leaf.ids))
        self.nodes -= 1
        self.bytes -= NODE_BYTES + RUN_BYTES
        leaf.ids, leaf.hold = b"", None

    def merge(self, node: Node, child: Node) -> bool:
        """Writes. Joins a node and its only child into the child when no holder tells them apart.

        That is: the same slots hold both, and each used both at the same time last.
        """
        hold, below = node.hold, child.hold
        if type(hold) is Shared:
            if type(below) is not Shared or hold.epochs != below.epochs:
                return False
            self.bytes -= SHARED_BYTES + HOLDER_BYTES * len(hold.depths)
        elif hold is not below:
            return False
        if child.start % STRETCH_BLOCKS != STRETCH_BLOCKS - 1:  # else it stays, as the end of a stretch
            self._unmark(child, _first_id(child.ids))
        self._replace(node, child)
        self._mark(child, self._marks(node.start, node.ids))
        child.start, child.ids, child.parent = node.start, node.ids + child.ids, node.parent
        self.nodes -= 1
        self.bytes -= NODE_BYTES + RUN_BYTES
        # Logs that name the upper part now climb to the joined one.
        node.ids, node.hold, node.parent = b"", None, child
        node.child = node.after = node.before = None
        node.children = 0
        return True

    def walk(self) -> Iterator[Node]:
        """Reads. Every node but the root, parents first."""
        stack = [self.root]
        while stack:
            child = stack.pop().child
            while child is not None:
                yield child
                stack.append(child)
                child = child.after

    def landmarks(self) -> dict[int, Node]:
        """Reads. The whole table, copied."""
        return {
            key << SHARD_BITS | low: node
            for low, shard in enumerate(self._shards)
            for key, node in shard.items()
        }

    def clear(self) -> None:
        """Writes. Undoes every cycle, so that counting references frees the tree."""
        for node in list(self.walk()):
            node.parent = node.child = node.after = node.before = node.hold = None
        self.root.child = None
        for shard in self._shards:
            shard.clear()

    # --- inside -------------------------------------------------------------------------------

    def _replace(self, node: Node, other: Node | None) -> None:
        """Puts `other` into the node's place among its siblings; None closes the gap."""
        before, after, parent = node.before, node.after, node.parent
        assert parent is not None
        if other is not None:
            other.before, other.after = before, after
            if after is not None:
                after.before = other
            if before is not None:
                before.after = other
            else:
                parent.child = other
            return
        if after is not None:
            after.before = before
        if before is not None:
            before.after = after
        else:
            parent.child = after

    def _grown(self, node: Node, blocks: PromptBlocks, start: int, run: bytes) -> None:
        """A run was added at depth `start`. The prompt knows the ids of its stretches as ints."""
        count = len(run) // ID_BYTES
        self.unique_blocks += count
        self.bytes += len(run)
        marks = blocks.stretch_ids()[start // STRETCH_BLOCKS : (start + count) // STRETCH_BLOCKS]
        if marks:
            self._mark(node, marks)

    def _mark(self, node: Node, marks: Sequence[int]) -> None:
        """Landmarks that now lead to the node, new ones or ones that led elsewhere."""
        for mark in marks:
            shard, key = self._shards[mark & _SHARD], mark >> SHARD_BITS
            if key not in shard:
                self.bytes += LANDMARK_BYTES
            shard[key] = node

    def _unmark(self, node: Node, marks: Sequence[int]) -> None:
        for mark in marks:
            shard, key = self._shards[mark & _SHARD], mark >> SHARD_BITS
            if shard.get(key) is node:
                del shard[key]
                self.bytes -= LANDMARK_BYTES

    def _marks(self, start: int, run: bytes) -> list[int]:
        """The landmarks of a whole run. The first may be named twice."""
        return [_first_id(run)[0], *self._stretch_ends(start, run)]

    def _stretch_ends(self, start: int, run: bytes) -> list[int]:
        """Ids of the stretches that end in a run which begins at `start`."""
        skip = (STRETCH_BLOCKS - 1 - start) % STRETCH_BLOCKS * ID_BYTES
        return [_first_id(run, at)[0] for at in range(skip, len(run), STRETCH_BLOCKS * ID_BYTES)]

    def _shrunk(self, run_bytes: int) -> None:
        self.unique_blocks -= run_bytes // ID_BYTES
        self.bytes -= run_bytes


def _common_blocks(run: bytes, rest: bytes) -> int:
    """Blocks before the first that differs; `run` is no longer than `rest`, and is no prefix of it."""
    difference = int.from_bytes(run, "little") ^ int.from_bytes(rest[: len(run)], "little")
    return ((difference & -difference).bit_length() - 1) // (8 * ID_BYTES)
