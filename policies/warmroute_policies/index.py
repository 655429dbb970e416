"""Which worker is believed to hold which prefix: an approximate radix tree with an LRU per worker.

One tree serves all workers (`radix`). Each worker comes to hold prompts (`presence`) in an order of use
(`residency`) by which they are evicted, leaves first, at that worker's believed capacity: the index
forgets what the engine forgets. A prompt is inserted when it is dispatched, so that followers of a cold
prefix meet it.

Rules kept. Everything is counted in blocks. `match` reads; a driver inserts right after the match that
it decided by, nothing in between. No call takes long: each evicts, sweeps or prunes a bounded number of
steps, and what is left over is done by later calls and by `maintain`.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, final

from warmroute_policies.audit import check_integrity
from warmroute_policies.blocks import ID_BYTES, PromptBlocks
from warmroute_policies.ghosts import Ghost, Ghosts
from warmroute_policies.presence import Trail, release, use_known, use_path
from warmroute_policies.pruning import Pruning
from warmroute_policies.radix import Epoch, Node, Shared, Tree, depth_of, epoch_of, kids_of
from warmroute_policies.residency import Lane
from warmroute_policies.values import Frozen

# Evictions in one call: 3 µs each at the most, so that an insert that finds a long backlog (a capacity
# was cut, a worker restarted) takes some 0.2 ms.
INSERT_STEPS: Final = 64

# Steps of one `forget`; a step looks at one node.
FORGET_STEPS: Final = 256

# Evictions that are remembered per slot. 1,024 steps of eviction are about one capacity's worth of short
# prompts, and 200 KB.
GHOSTS_PER_SLOT: Final = 1024

# Stack distances are known to an epoch, of which a lane has some 30: this much of a capacity counts as all.
_AS_FULL: Final = 0.9

# For the byte budget: a ghost is three ints, their struct, its share of a dict and its place in the ring; a
# lane settles at some 60 epochs.
GHOST_BYTES: Final = 220
LANE_BYTES: Final = 12_000

_id_at: Final = Struct("<Q").unpack_from


@final
class Match:
    """What is known of a prompt. To be read, and handed to `insert`."""

    __slots__ = ("depth", "depths", "node")

    def __init__(self, depths: dict[int, int], depth: int, node: Node) -> None:
        self.depths = depths
        """Slot to leading blocks that it is believed to hold; slots that hold none are missing."""
        self.depth = depth
        """Leading blocks that any slot holds."""
        self.node = node
        """Where the known part ends."""

    @property
    def last_id(self) -> int:
        """The id of the last known block; 0 when none is known."""
        depth, node = self.depth, self.node
        return _id_at(node.ids, (depth - node.start - 1) * ID_BYTES)[0] if depth else 0


@final
class Insertion:
    """What an insert found, for feedback once the engine has answered."""

    __slots__ = ("count", "held", "shared", "trail")

    def __init__(self, held: int, count: int, shared: int, trail: Trail) -> None:
        self.held = held
        """Leading blocks that the slot was believed to hold before."""
        self.count = count
        """Blocks of the prompt."""
        self.shared = shared
        """Leading blocks up to where another prompt that is known goes on differently: a system prompt, or
        documents. What is behind them is this prompt's own."""
        self.trail = trail


class Statistics(Frozen, frozen=True, gc=False):
    """A snapshot of an index."""

    blocks: int
    """Pairs of a slot and a block that it is believed to hold."""
    unique_blocks: int
    nodes: int
    bytes: int
    """Estimate of the memory taken, all in."""
    evicted_blocks_total: int
    ghosts: int


class PrefixIndex:
    """Owns the tree, one lane per slot, and the work put off (sweeps of lost caches, prunings).

    `max_bytes` bounds the estimate of memory: above it the prompts least recently used on any slot are
    evicted. `ghosts_per_slot` bounds the record of what was evicted for lack of room on the worker. A
    budget must leave room for the fixed part, `LANE_BYTES` and the ghosts of each slot: 237 KB.
    """

    def __init__(self, max_bytes: float = float("inf"), ghosts_per_slot: int = GHOSTS_PER_SLOT) -> None:
        self.max_bytes = max_bytes
        self._ghosts_per_slot = ghosts_per_slot
        self._tree = Tree()
        self._lanes: dict[int, Lane] = {}
        self._tick = 0
        self._evicted = 0
        self._ghosts = Ghosts()
        self._backlog: set[int] = set()
        """Slots over their capacity or being swept."""
        self._doomed: set[int] = set()
        """Slots being swept: matches leave them out."""
        self._prunings: list[Pruning] = []

    def __del__(self) -> None:
        self.clear()

    # --- one request --------------------------------------------------------------------------

    def match(self, blocks: PromptBlocks) -> Match:
        """Reads. How much of the prompt each slot is believed to hold."""
        node, depth = self._tree.locate(blocks)
        hold = node.hold
        if type(hold) is Epoch:
            depths = {hold.slot: depth}
        elif hold is None:
            return Match({}, 0, node)
        elif depth == node.end:
            depths = hold.depths.copy()
        else:
            depths = {slot: min(depth, held) for slot, held in hold.depths.items()}
        # Slots below are holders above too, so only nodes with more holders have news.
        upper = node.parent
        while upper is not None:
            hold = upper.hold
            if type(hold) is Shared and len(hold.depths) > len(depths):
                above = hold.depths.copy()
                above.update(depths)
                depths = above
            upper = upper.parent
        for slot in self._doomed:
            depths.pop(slot, None)
        return Match(depths, depth, node)

    def insert(self, slot: int, blocks: PromptBlocks, match: Match) -> Insertion:
        """Writes. The slot now holds the whole prompt, used just now.

        `match` is the index's own of these blocks, with no write since. Evicts what no longer fits, at
        most `INSERT_STEPS` steps of it.
        """
        tree, lane = self._tree, self._lanes.get(slot) or self._lane(slot)
        self._tick += 1
        trail: Trail = []
        node, depth, count = match.node, match.depth, blocks.count
        run = blocks.ids(depth, count) if depth < count else b""
        if run:
            epoch, hold = lane.epochs[-1], node.hold
            end = node.start + len(node.ids) // ID_BYTES
            # A conversation that grows on its worker grows one run, not a chain of small nodes.
            extends = depth == end and not node.children and type(hold) is Epoch and hold.slot == slot
            if depth < end:
                node = tree.split(node, depth)
            use_path(tree, lane, node, depth, not extends, trail)
            added = len(run) // ID_BYTES
            lane.resident += added
            epoch.blocks += added
            if extends:
                tree.extend(node, blocks, depth, run)
            else:
                node = tree.add_leaf(node, blocks, depth, run, epoch)
        elif depth:
            node = use_known(tree, lane, node, depth, trail)
        else:
            return Insertion(0, 0, 0, trail)
        lane.used(node, self._tick)
        shared = _shared_depth(node)
        self._make_room(lane)
        return Insertion(match.depths.get(slot, 0), count, shared, trail)

    # --- forgetting ---------------------------------------------------------------------------

    def forget(self, slot: int, blocks: PromptBlocks, depth: int) -> None:
        """Writes. The slot does not hold this prompt beyond `depth` blocks, nor what continues it there.

        For a rollback, and for a suffix that the engine turned out not to have. Looks at `FORGET_STEPS`
        nodes; a larger rest is left to `maintain`, and is believed meanwhile.
        """
        self._forget(slot, blocks, depth, keep_prompt=False)

    def forget_branches(self, slot: int, blocks: PromptBlocks, depth: int) -> None:
        """Writes. The slot turned out to have lost block `depth`, and computed this prompt anew.

        It holds the prompt, used just now, and nothing else that goes on from there: an engine gives up
        a block only after all that continues it. In bounded steps, as `forget`.
        """
        self._forget(slot, blocks, depth, keep_prompt=True)

    def _forget(self, slot: int, blocks: PromptBlocks, depth: int, *, keep_prompt: bool) -> None:
        tree, lane = self._tree, self._lanes.get(slot)
        node, known = tree.locate(blocks)
        if lane is None or known <= depth:
            return
        tick = lane.epochs[-1].tick
        lane.open_epoch(self._next_tick())
        if keep_prompt:
            node = use_known(tree, lane, node, known, [])
            lane.used(node, self._next_tick())
        while node.start > depth and node.parent is not None:
            node = node.parent
        pruning = Pruning(slot, depth, tick, [(node, node.child)])
        if not pruning.advance(tree, lane, FORGET_STEPS):
            self._prunings.append(pruning)
        self._make_room(lane)

    def drop_slot(self, slot: int) -> None:
        """Writes. The slot's cache is gone: its worker restarted or was removed.

        Matches leave the slot out at once. What it held is swept by the inserts and `maintain` calls
        that follow, and only then do matches see what was inserted since.
        """
        lane = self._lanes.get(slot)
        if lane is None:
            return
        lane.born = self._next_tick()
        if lane.resident:
            lane.doomed_until = lane.epochs[-1].tick
            lane.open_epoch(self._next_tick())
            self._doomed.add(slot)
            self._backlog.add(slot)

    def set_capacity(self, slot: int, blocks: float) -> None:
        """Writes. Blocks that the slot is believed to have room for; `inf` when unknown."""
        lane = self._lane(slot)
        lane.set_capacity(blocks)
        if lane.is_full():
            self._backlog.add(slot)

    def maintain(self, max_steps: int = 128) -> int:
        """Writes. Does work put off, about 3 µs a step; returns the steps done, 0 when none is left."""
        left = max_steps
        while left > 0 and self._prunings:
            left -= 1
            pruning = self._prunings[-1]
            if pruning.advance(self._tree, self._lanes[pruning.slot], 1):
                self._prunings.pop()
        while left > 0 and self._backlog:
            left -= self._evict(self._lanes[next(iter(self._backlog))], left)
        if left > 0:
            left -= self._fit_budget(left)
        return max_steps - left

    # --- what is known ------------------------------------------------------------------------

    def resident(self, slot: int) -> int:
        """Reads. Blocks that the slot is believed to hold."""
        lane = self._lanes.get(slot)
        return 0 if lane is None else lane.resident

    def room(self, slot: int) -> float:
        """Reads. Blocks that the slot is believed to have room for; `inf` when unknown."""
        lane = self._lanes.get(slot)
        return float("inf") if lane is None else lane.capacity

    def epochs(self, slot: int) -> list[Epoch]:
        """Reads. The stretches of time in which the slot's blocks were used last, oldest first, without those
        of a cache that is gone."""
        lane = self._lanes.get(slot)
        return [] if lane is None else [epoch for epoch in lane.epochs if epoch.tick > lane.doomed_until]

    def survivors(self, slot: int, epoch: Epoch) -> list[Node]:
        """Reads. Where the prompts ended that the slot used last in this epoch, oldest first."""
        lane = self._lanes.get(slot)
        if lane is None:
            return []
        if epoch.order is None:
            return list(reversed(lane.surviving(epoch)))
        ends: dict[Node, None] = {}
        for record in reversed(epoch.order):
            node, held = record, epoch_of(record, slot)
            while held is None and node.parent is not None:
                node = node.parent
                held = epoch_of(node, slot)
            if held is epoch:
                ends[node] = None
        return list(ends)

    @property
    def clock(self) -> int:
        """Reads. Grows with every insert; the ticks of trails are readings of it."""
        return self._tick

    def used_since(self, slot: int, tick: int) -> int:
        """Reads. Blocks that the slot used since the clock said `tick`, to about a thirtieth of its cache."""
        lane = self._lanes.get(slot)
        return 0 if lane is None else lane.newer_than(tick)

    def was_evicted(self, slot: int, block_id: int) -> bool:
        """Reads. Whether an eviction on the slot lately ended (from the tail up) at this very block, and
        would have with today's capacity too: as much as that was used since.

        A hit on the first block that the slot was not believed to hold is evidence of a capacity
        believed too small only if this is true. Else it is rounding, or another way to the same text, or
        the capacity has grown since by the like evidence. Answers come after the prompt's insertion: what
        the slot held of it is then among what was used since.
        """
        lane, ghost = self._lanes.get(slot), self._ghosts.get(block_id)
        return (
            lane is not None
            and ghost is not None
            and ghost.slots >> slot & 1 == 1
            and ghost.tick >= lane.born
            and lane.newer_than(ghost.tick) >= _AS_FULL * lane.capacity
        )

    def evicted(self, blocks: PromptBlocks, depth: int) -> list[Ghost]:
        """Reads. Of a prompt that is known up to `depth`, the runs that follow and were evicted lately, the
        shallowest first. The last one may end beyond the prompt."""
        found: list[Ghost] = []
        while depth < blocks.count:
            ghost = self._ghosts.get(blocks.id_at(depth))
            if ghost is None or ghost.end <= depth:
                break
            found.append(ghost)
            depth = ghost.end
        return found

    def haunted(self, lost: list[Ghost]) -> tuple[list[int], int]:
        """Reads. Of runs that follow each other and were evicted: the slots that lost the first one, without
        those whose whole cache is gone since; and the depth up to which all of these lost what follows it
        too."""
        first = lost[0]
        lanes, slot, end = self._lanes, 0, first.end
        slots, mask = [], 0
        while first.slots >> slot:
            if first.slots >> slot & 1 and first.tick >= lanes[slot].born:
                slots.append(slot)
                mask |= 1 << slot
            slot += 1
        for ghost in lost:
            if ghost.slots & mask != mask:
                break
            end = ghost.end
        return slots, end

    def stack_distance(self, slot: int, insertion: Insertion, depth: int) -> int | None:
        """Reads. Distinct blocks that the slot used between this request and the last use of block `depth`.

        An LRU cache of capacity C holds a block exactly if fewer than C others were used since. None
        when the slot was not believed to hold the block. What others used while the request was in
        flight is counted too: the answer errs on the large side.
        """
        lane = self._lanes.get(slot)
        if lane is None:
            return None
        for end, tick in reversed(insertion.trail):
            if end > depth:
                return max(0, lane.newer_than(tick) - (insertion.count - depth))
        return None

    def statistics(self) -> Statistics:
        """Reads."""
        return Statistics(
            blocks=sum(lane.resident for lane in self._lanes.values()),
            unique_blocks=self._tree.unique_blocks,
            nodes=self._tree.nodes,
            bytes=self._bytes(),
            evicted_blocks_total=self._evicted,
            ghosts=len(self._ghosts),
        )

    def check_integrity(self) -> None:
        """Reads. Raises AssertionError where the index contradicts itself; slow, for tests."""
        check_integrity(self._tree, self._lanes)

    def clear(self) -> None:
        """Writes. Forgets everything, and undoes the cycles that the collector does not see."""
        self._tree.clear()
        for lane in self._lanes.values():
            lane.clear()
        self._lanes.clear()
        self._ghosts.clear()
        self._prunings.clear()

    # --- making room --------------------------------------------------------------------------

    def _make_room(self, lane: Lane) -> None:
        """A bounded part of what no longer fits goes now."""
        if lane.resident > lane.capacity or lane.doomed_until >= 0:
            self._backlog.add(lane.slot)
            self._evict(lane, INSERT_STEPS)
        if self._bytes() > self.max_bytes:
            self._fit_budget(INSERT_STEPS)

    def _evict(self, lane: Lane, max_steps: int) -> int:
        """Evicts while the slot holds too much; returns the steps done, at least one."""
        steps = 0
        while steps < max_steps and (excess := lane.excess()) > 0:
            steps += 1
            epoch = lane.victims(self._next_tick())
            if 0 <= lane.doomed_until < epoch.tick:
                self._swept(lane)
            else:
                self._evict_one(lane, epoch, excess, leave_ghost=lane.doomed_until < 0)
        if lane.excess() <= 0:
            if lane.doomed_until >= 0:
                self._swept(lane)
            self._backlog.discard(lane.slot)
        return max(1, steps)

    def _swept(self, lane: Lane) -> None:
        lane.doomed_until = -1
        self._doomed.discard(lane.slot)

    def _evict_one(self, lane: Lane, epoch: Epoch, excess: float, *, leave_ghost: bool) -> None:
        """One step: the oldest record of the lane's oldest epoch loses at most one node, or a part of it."""
        order, slot = epoch.order, lane.slot
        assert order is not None
        record, _ = order.popitem()
        node = record
        held = epoch_of(node, slot)
        while held is None and node.parent is not None:
            node = node.parent
            held = epoch_of(node, slot)
        if held is not epoch or kids_of(node, slot) or (node is not record and node in order):
            return  # used again since, or its turn comes with a later record
        covered = depth_of(node, slot)
        floor = int(max(float(node.start), covered - excess))
        if leave_ghost:
            block_id = _id_at(node.ids, (floor - node.start) * ID_BYTES)[0]
            self._ghosts.add(block_id, slot, covered, epoch.tick)
        self._evicted += covered - floor
        release(self._tree, lane, node, floor)
        order[node] = None  # what is left of it, or its parent, is next

    def _fit_budget(self, max_steps: int) -> int:
        """Evicts what was least recently used on any slot while the estimate of memory is over budget."""
        steps = 0
        while steps < max_steps and self._bytes() > self.max_bytes:
            lanes = [lane for lane in self._lanes.values() if lane.resident]
            if not lanes:
                break
            lane = min(lanes, key=_oldest_use)
            epoch = lane.victims(self._next_tick())
            while steps < max_steps and epoch.blocks and self._bytes() > self.max_bytes:
                steps += 1
                # No ghost: this says nothing about the engine.
                self._evict_one(lane, epoch, float("inf"), leave_ghost=False)
        return steps

    # --- small helpers ------------------------------------------------------------------------

    def _lane(self, slot: int) -> Lane:
        lane = self._lanes.get(slot)
        if lane is None:
            lane = self._lanes[slot] = Lane(slot, self._next_tick())
            self._ghosts.limit = max(1, self._ghosts_per_slot * len(self._lanes))
        return lane

    def _next_tick(self) -> int:
        self._tick += 1
        return self._tick

    def _bytes(self) -> int:
        return self._tree.bytes + len(self._ghosts) * GHOST_BYTES + len(self._lanes) * LANE_BYTES


def _oldest_use(lane: Lane) -> int:
    return lane.epochs[0].tick


def _shared_depth(node: Node) -> int:
    """Reads. Where the path to the node last had more than one way to go on."""
    above = node.parent
    while above is not None and above.children < 2 and above.parent is not None:
        above = above.parent
    return 0 if above is None else above.end
