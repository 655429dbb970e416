"""Every rule that the index keeps, checked against its whole state. For tests and for bug reports."""

from __future__ import annotations

from collections import Counter, defaultdict

from warmroute_policies.blocks import ID_BYTES, STRETCH_BLOCKS, unpack_ids
from warmroute_policies.radix import Epoch, Node, Shared, Tree, depth_of, epoch_of, kids_of
from warmroute_policies.residency import Lane


def check_integrity(tree: Tree, lanes: dict[int, Lane]) -> None:
    """Reads. Raises AssertionError at the first contradiction."""
    nodes = list(tree.walk())
    assert tree.nodes == len(nodes), "nodes are counted wrongly"
    unique = sum(len(node.ids) // ID_BYTES for node in nodes)
    assert tree.unique_blocks == unique, "blocks are counted wrongly"
    landmarks: dict[int, Node] = {}
    blocks_of: Counter[int] = Counter()
    epoch_blocks: Counter[int] = Counter()
    for node in nodes:
        _check_shape(node)
        _check_holders(node, lanes)
        for at, block_id in enumerate(unpack_ids(node.ids)):
            if at == 0 or (node.start + at) % STRETCH_BLOCKS == STRETCH_BLOCKS - 1:
                landmarks[block_id] = node
        for slot in slots_of(node):
            held = depth_of(node, slot) - node.start
            blocks_of[slot] += held
            epoch_blocks[id(epoch_of(node, slot))] += held
    found = tree.landmarks()
    assert found.keys() == landmarks.keys(), "landmarks are missing or left over"
    assert all(found[mark] is node for mark, node in landmarks.items()), "a landmark leads to the wrong node"
    for slot, lane in lanes.items():
        assert lane.resident == blocks_of[slot], f"slot {slot} holds {blocks_of[slot]}, says {lane.resident}"
        for epoch in lane.epochs:
            assert epoch.blocks == epoch_blocks.pop(id(epoch), 0), "an epoch's blocks are counted wrongly"
        ticks = [epoch.tick for epoch in lane.epochs]
        assert ticks == sorted(set(ticks)), f"slot {slot}: epochs are out of order"
        assert all(epoch.order is None for epoch in lane.epochs[1:]), "a later epoch is ordered for eviction"
    assert not +epoch_blocks, "a node was last used in an epoch that no lane has"
    _check_records(nodes, lanes)


def slots_of(node: Node) -> list[int]:
    """Reads. The node's holders."""
    hold = node.hold
    if type(hold) is Epoch:
        return [hold.slot]
    return list(hold.depths) if type(hold) is Shared else []


def _check_shape(node: Node) -> None:
    parent = node.parent
    assert node.ids
    assert parent is not None
    assert node.start == parent.end, "a run does not begin where its parent ends"
    children, before, child = 0, None, node.child
    while child is not None:
        assert child.parent is node
        assert child.before is before
        children, before, child = children + 1, child, child.after
    assert children == node.children, "children are counted wrongly"


def _check_holders(node: Node, lanes: dict[int, Lane]) -> None:
    hold, slots = node.hold, slots_of(node)
    assert slots, "a node without holders is in the tree"
    if type(hold) is Shared:
        assert len(slots) > 1
        assert hold.epochs.keys() == hold.depths.keys()
        assert max(hold.depths.values()) == node.end, "a run reaches beyond its deepest holder"
        assert min(hold.depths.values()) > node.start
    kids: Counter[int] = Counter()
    child = node.child
    while child is not None:
        kids.update(slots_of(child))
        child = child.after
    for slot in slots:
        epoch = epoch_of(node, slot)
        assert epoch is not None
        assert epoch in lanes[slot].epochs
        assert epoch.slot == slot
        assert kids.pop(slot, 0) == kids_of(node, slot), "a slot's children are counted wrongly"
        assert not kids_of(node, slot) or depth_of(node, slot) == node.end, "half a run has a child"
        parent = node.parent
        if parent is not None and parent.parent is not None:
            above = epoch_of(parent, slot)
            assert above is not None, "presence has a gap"
            assert depth_of(parent, slot) == parent.end, "presence has a gap"
            assert above.tick >= epoch.tick, "a node was used after its parent"
    assert not kids, "a slot holds a child without its parent"
    if type(hold) is Shared:
        assert all(hold.kids.values())
        assert hold.kids.keys() <= hold.depths.keys()


def _check_records(nodes: list[Node], lanes: dict[int, Lane]) -> None:
    """Whatever a slot holds and holds no child of must be reached from its epoch's log."""
    reached: defaultdict[int, set[int]] = defaultdict(set)
    for slot, lane in lanes.items():
        for epoch in lane.epochs:
            for record in [*epoch.log, *(epoch.order or ())]:
                node = record
                while epoch_of(node, slot) is None and node.parent is not None:
                    node = node.parent
                if epoch_of(node, slot) is epoch:
                    reached[slot].add(id(node))
    for node in nodes:
        for slot in slots_of(node):
            assert kids_of(node, slot) or id(node) in reached[slot], "a leaf can never be evicted"
