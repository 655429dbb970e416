"""Forgetting all that a slot holds below a node: a walk in steps, since a prefix may have many thousand
continuations and no call may take long.

Rules kept. Leaves go first, so that presence is closed under prefixes between any two steps. Between
steps the tree may change in any way: what was used meanwhile is a new belief and stays, and a cursor
whose node is gone starts again at its parent's first child.
"""

from __future__ import annotations

from warmroute_policies.presence import release
from warmroute_policies.radix import Node, Tree, depth_of, epoch_of, kids_of
from warmroute_policies.residency import Lane
from warmroute_policies.values import Record


class Pruning(Record, gc=False):
    """A `forget` at work: drops what a slot holds below `top`, leaves first, then the end of `top`."""

    slot: int
    depth: int
    tick: int
    """What was used since is a new belief, and stays."""
    stack: list[tuple[Node, Node | None]]
    """From `top` down: a node, and the child to look at next."""

    def advance(self, tree: Tree, lane: Lane, max_steps: int) -> bool:
        """Writes. Looks at up to `max_steps` nodes; returns whether it is done."""
        slot, stack = self.slot, self.stack
        for _ in range(max_steps):
            if not stack:
                break
            node, child = stack[-1]
            epoch = epoch_of(node, slot)
            if epoch is None:
                stack.pop()
            elif child is not None and kids_of(node, slot):
                if child.hold is None or child.parent is not node:
                    child = node.child  # evicted or split since the last call: look again
                    assert child is not None
                stack[-1] = (node, child.after)
                if epoch_of(child, slot) is not None:
                    stack.append((child, child.child))
            else:
                stack.pop()
                if epoch.tick <= self.tick and not kids_of(node, slot):
                    depth = node.start if stack else max(self.depth, node.start)
                    if depth < depth_of(node, slot):
                        epoch.reopen()
                        release(tree, lane, node, depth)
        return not stack
