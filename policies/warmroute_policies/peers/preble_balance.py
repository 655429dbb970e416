"""Rebalancing of `preble`: heavy nodes move off a worker that has much more of the load than another.

    while max L ≥ 1.5·min L, over nodes that were asked for more than once:
        several heavy nodes on the busiest worker  →  the cheapest of them move, with all below them, as long
                                                      as the busiest stays above the idlest
        one heavy node                             →  the idlest worker becomes its second holder, if the
                                                      node's TTFT doubled within the window
    then the same for the next busiest worker and the idlest

Nothing is copied: who holds a node from now on computes it when it is sent the next request. Source: `preble`
(WukLab/preble 8e7906a, `handle_important_node_stealing`), which begins after 50 requests for each worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from warmroute_policies.fleet import Fleet
from warmroute_policies.peers.preble_load import FREQUENT, WindowLoad
from warmroute_policies.peers.preble_tree import Counts, PrebleNode

# A node is overloaded when the younger half of its window's TTFTs is this many times the older half.
OVERLOADED = 2.0


def rebalance(
    fleet: Fleet, load: WindowLoad, slots: Sequence[int], factor: float, window_s: float, now: float
) -> bool:
    """Writes. Moves holders until the busiest of these slots is within the factor of the idlest; whether it
    was not."""
    order = sorted(
        ((load.load_s(fleet, slot, frequent=True), slot) for slot in slots), key=lambda pair: -pair[0]
    )
    least, idlest = order.pop()
    for rank, (most, busiest) in enumerate(order):
        if most < factor * least or not most:
            return rank > 0
        nodes = [
            (load.node_s(fleet, busiest, counts), number, counts)
            for number, counts in enumerate(load.counted.get(busiest, ()))
            if counts.requests >= FREQUENT and counts.node.is_heavy()
        ]
        if len(nodes) == 1:
            ((cost_s, _, counts),) = nodes
            if _replicate(load, counts, busiest, idlest, window_s, now):
                least += cost_s / 2
        else:
            least += _move(load, sorted(nodes), idlest, most, least, factor)
    return True


def _move(
    load: WindowLoad,
    nodes: list[tuple[float, int, Counts]],
    to: int,
    most: float,
    least: float,
    factor: float,
) -> float:
    """Writes. Moves the cheapest nodes; returns the seconds that moved."""
    moved = 0.0
    for cost_s, _, counts in nodes:
        if most - moved - cost_s < least + moved + cost_s:
            break
        moved += cost_s
        _hand_over(load, counts.node, to)
        if most - moved < factor * (least + moved):
            break
    return moved


def _hand_over(load: WindowLoad, node: PrebleNode, to: int) -> None:
    """Writes. The slot alone holds the node and all below it."""
    stack = [node]
    while stack:
        node = stack.pop()
        node.holders = {to}
        if node.counts is not None:
            load.charge(node.counts)
        stack.extend(node.children.values())


def _replicate(
    load: WindowLoad, counts: Counts, busiest: int, idlest: int, window_s: float, now: float
) -> bool:
    """Writes. A second holder for the only heavy node of a worker, if requests wait longer there."""
    node = counts.node
    ttfts = node.ttfts.get(busiest, ())
    older = [ttft_s for at, ttft_s in ttfts if at < now - window_s / 2]
    younger = [ttft_s for at, ttft_s in ttfts if at >= now - window_s / 2]
    if idlest in node.holders or not (older and younger) or fmean(younger) < OVERLOADED * fmean(older):
        return False
    node.holders.add(idlest)
    del node.ttfts[busiest]
    load.charge(counts)
    return True
