"""How recently each worker's blocks were used: one `Lane` per slot.

A lane orders what its worker is believed to hold as an engine's paged cache does: least recently used
first, and of one prompt the tail before the head. It keeps no link per node for that. Use is recorded
once per request, as the node where the prompt ended, in a log that is cut into *epochs*; each node
remembers the epoch of its last use, and each epoch how many blocks were last used in it. Hence

- a touch is one pointer and two additions, nothing at all when the node was used in this epoch before;
- the LRU stack distance of a block is a sum over the epochs after its own;
- the order is exact: the oldest epoch's log, walked once when its turn comes, gives the victims.

Rules kept. Every node is used no later than its ancestors, since a request uses the whole path: the
oldest node of a lane has no descendant in it. A log may name nodes that were used again since, or are
gone; a reader climbs from those to the first ancestor still held, which is what the request left.
"""

from __future__ import annotations

from typing import Final

from warmroute_policies.radix import Epoch, Node, Shared, epoch_of

# An epoch is closed when it holds this share of the lane's blocks: stack distances are then known to
# about 3 %, finer than capacity feedback can use.
EPOCHS_PER_LANE: Final = 32

# ... or this many requests, so that ordering one epoch for eviction takes about 0.1 ms.
EPOCH_RECORDS: Final = 256

# An eviction makes room for some more than the prompt at hand: at most this share of the capacity, and at
# most a 128 KB prompt. The belief is then 0.4 % short on average, far less than it is wrong anyway.
EVICTION_SLACK: Final = 1 / 128
EVICTION_SLACK_BLOCKS: Final = 256

# Closed epochs looked at when a new one is opened: more go than come while there are too many.
TIDY_STEPS: Final = 4


class Lane:
    """One slot's part of the index: its capacity, and its epochs from oldest to current."""

    __slots__ = ("_cursor", "born", "capacity", "doomed_until", "epochs", "goal", "resident", "slot")

    def __init__(self, slot: int, tick: int) -> None:
        self.slot = slot
        self.capacity = float("inf")
        """Blocks believed to fit."""
        self.goal = float("inf")
        """What an eviction leaves: a little less, so that few inserts must evict."""
        self.resident = 0
        """Blocks held: the sum over the epochs."""
        self.epochs = [Epoch(slot, tick)]
        self.doomed_until = -1
        """Epochs up to this tick belong to a cache that is gone, and are to be swept."""
        self.born = tick
        """When this cache began; what the slot lost before was another one's."""
        self._cursor = 0

    def set_capacity(self, blocks: float) -> None:
        """Writes."""
        self.capacity = blocks
        self.goal = blocks - int(min(blocks * EVICTION_SLACK, EVICTION_SLACK_BLOCKS))

    def is_full(self) -> bool:
        """Reads. Whether blocks must be evicted."""
        return self.resident > self.capacity or self.doomed_until >= 0

    def excess(self) -> float:
        """Reads. Blocks to evict once it is full; `inf` while a lost cache is being swept."""
        if self.doomed_until >= 0 and self.resident:
            return float("inf")
        return self.resident - self.goal

    def used(self, node: Node, tick: int) -> None:
        """Writes. A request ended at the node, whose path was touched; `tick` numbers requests."""
        epoch = self.epochs[-1]
        log = epoch.log
        log.append(node)
        if len(log) >= EPOCH_RECORDS or epoch.blocks * EPOCHS_PER_LANE > self.resident:
            self.open_epoch(tick)

    def open_epoch(self, tick: int) -> None:
        """Writes. What is used from now on is newer than all before. Tidies a bit when epochs are many."""
        self.epochs.append(Epoch(self.slot, tick))
        if len(self.epochs) > 2 * EPOCHS_PER_LANE:
            self._tidy()

    def victims(self, tick: int) -> Epoch:
        """Writes. The oldest epoch, its `order` made; the lane must hold something."""
        epochs = self.epochs
        while not epochs[0].blocks and len(epochs) > 1:
            epochs.pop(0).clear()
        oldest = epochs[0]
        if len(epochs) == 1:
            self.open_epoch(tick)
        if oldest.order is None:
            oldest.order = self.surviving(oldest)
            oldest.log = []
        return oldest

    def clear(self) -> None:
        """Writes. Lets go of the nodes."""
        for epoch in self.epochs:
            epoch.clear()
        self.epochs.clear()

    def newer_than(self, tick: int) -> int:
        """Reads. Blocks last used in an epoch that began after the one of `tick`."""
        total = 0
        for epoch in reversed(self.epochs):
            if epoch.tick <= tick:
                break
            total += epoch.blocks
        return total

    def surviving(self, epoch: Epoch) -> dict[Node, None]:
        """Reads. The log without what was used again, newest first, so that `popitem` yields the oldest."""
        slot, order = self.slot, dict[Node, None]()
        for record in reversed(epoch.log):
            node = record
            held = epoch_of(node, slot)
            while held is None and node.parent is not None:
                node = node.parent
                held = epoch_of(node, slot)
            if held is epoch:
                order.setdefault(node)
        return order

    def _tidy(self) -> None:
        """A few steps of a walk over the closed epochs: drops those that are empty, shortens logs, and
        joins an epoch to the one before it while both are small.

        A lane of n blocks needs `EPOCHS_PER_LANE` epochs, but a prefix used again and again fills and
        empties one epoch after the other. More steps than epochs opened keep both the epochs and the
        records in proportion to what the lane holds.
        """
        epochs = self.epochs
        for _ in range(TIDY_STEPS):
            at = self._cursor
            if at >= len(epochs) - 1:
                self._cursor = 0
                return
            epoch = epochs[at]
            if not epoch.blocks:
                epochs.pop(at).clear()
                continue
            if epoch.order is None:
                epoch.log = list(reversed(self.surviving(epoch)))
                if at and self._are_small(epochs[at - 1], epoch):
                    self._join(epochs[at - 1], epoch)
                    del epochs[at - 1]
                    continue
            self._cursor = at + 1

    def _are_small(self, epoch: Epoch, after: Epoch) -> bool:
        return (
            epoch.order is None
            and len(epoch.log) + len(after.log) <= EPOCH_RECORDS
            and (epoch.blocks + after.blocks) * EPOCHS_PER_LANE <= self.resident
            and not epoch.tick <= self.doomed_until < after.tick
        )

    def _join(self, epoch: Epoch, after: Epoch) -> None:
        """Everything last used in `epoch` counts as used at the beginning of `after`."""
        slot, survivors = self.slot, self.surviving(epoch)
        for record in survivors:
            node: Node | None = record
            while node is not None and epoch_of(node, slot) is epoch:
                hold = node.hold
                if type(hold) is Epoch:
                    node.hold = after
                elif type(hold) is Shared:
                    hold.epochs[slot] = after
                node = node.parent
        after.blocks += epoch.blocks
        after.log[:0] = reversed(survivors)
        epoch.clear()
