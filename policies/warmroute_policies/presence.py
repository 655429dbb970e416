"""What it takes for a slot to hold a prompt, and to hold less of it again.

The index's two elementary writes, on the tree and on one lane together: `use_path` makes a slot the
holder of a path, used now; `release` takes it off one node. All that an index does is made of them.

Rules kept. Presence is closed under prefixes: a path is used whole, and a node is released only by a
slot that holds none of its children. Blocks are counted where they were last used: in exactly one epoch.
"""

from __future__ import annotations

from warmroute_policies.blocks import ID_BYTES
from warmroute_policies.radix import HOLDER_BYTES, Epoch, Node, Shared, Tree, depth_of, epoch_of
from warmroute_policies.residency import Lane

# For the nodes of a path that a slot held already, deepest first: to which depth, and the tick of the epoch
# of their last use before.
Trail = list[tuple[int, int]]


def use_known(tree: Tree, lane: Lane, node: Node, depth: int, trail: Trail) -> Node:
    """Writes. The slot uses a prompt that ends inside the node; returns the node that ends with it."""
    slot = lane.slot
    if depth < node.end and epoch_of(node, slot) is not None and depth_of(node, slot) > depth:
        node = tree.split(node, depth)  # what lies behind was not used
    use_path(tree, lane, node, depth, False, trail)
    return node


def use_path(tree: Tree, lane: Lane, node: Node, depth: int, gained: bool, trail: Trail) -> None:
    """Writes. The slot uses the path to `node` up to `depth`, now.

    `gained`: it is about to hold one more child there. Deepest first, so that a node which is an
    only child can be merged with its parent on the way.
    """
    epoch, slot = lane.epochs[-1], lane.slot
    below: Node | None = None
    upper = node.parent
    while upper is not None:
        hold, size = node.hold, len(node.ids) // ID_BYTES
        if type(hold) is Epoch and hold.slot == slot:
            trail.append((node.start + size, hold.tick))
            gained = False
            if hold is not epoch:
                hold.blocks -= size
                epoch.blocks += size
                node.hold = epoch
        else:
            end = node.start + size
            gained = _use_shared(tree, lane, node, min(depth, end), gained, trail)
        if below is None or node.children > 1 or not tree.merge(node, below):
            below = node
        node, upper = upper, upper.parent


def _use_shared(tree: Tree, lane: Lane, node: Node, depth: int, gained: bool, trail: Trail) -> bool:
    """Writes. One of several holders uses the node up to `depth`; returns whether it is a new holder."""
    epoch, slot, hold, start = lane.epochs[-1], lane.slot, node.hold, node.start
    if type(hold) is not Shared:
        assert hold is not None
        hold = tree.share(node, hold)
    before = hold.depths.get(slot, start)
    if gained:
        hold.kids[slot] = hold.kids.get(slot, 0) + 1
    if before > start:
        last_use = hold.epochs[slot]
        trail.append((before, last_use.tick))
        if last_use is epoch and before == depth:
            return False
        last_use.blocks -= before - start
    else:
        tree.bytes += HOLDER_BYTES
    hold.depths[slot] = depth
    hold.epochs[slot] = epoch
    epoch.blocks += depth - start
    lane.resident += depth - before
    return before == start


def release(tree: Tree, lane: Lane, node: Node, depth: int) -> None:
    """Writes. The slot, which holds none of the node's children, holds the node only up to `depth`."""
    slot, hold, parent = lane.slot, node.hold, node.parent
    assert parent is not None
    if type(hold) is Epoch:
        lost = node.end - depth
        hold.blocks -= lost
        if depth > node.start:
            tree.cut(node, depth)
        else:
            tree.unlink(node)
    else:
        assert type(hold) is Shared
        lost = hold.depths[slot] - depth
        hold.epochs[slot].blocks -= lost
        if depth > node.start:
            hold.depths[slot] = depth
        else:
            del hold.depths[slot], hold.epochs[slot]
            tree.bytes -= HOLDER_BYTES
        tree.unshare(node)
    lane.resident -= lost
    if depth == node.start:
        above = parent.hold
        if type(above) is Shared:
            kids = above.kids[slot] - 1
            if kids:
                above.kids[slot] = kids
            else:
                del above.kids[slot]
