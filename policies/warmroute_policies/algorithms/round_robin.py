"""`round_robin`: the eligible worker whose last turn is longest ago.

    argmin over eligible i of turn_i,     turn_i = number of the dispatch that i got last

On a steady fleet that serves one model this is the ring 0, 1, 2, … of every load balancer. Written as
turns, it also stays fair where a single cursor does not: models on different workers do not move each
other's cursor, and a worker that comes back takes its turn once, not all the turns it missed.

Weights, load and caches are ignored on purpose: it is the baseline of every comparison.
"""

from __future__ import annotations

from warmroute_policies.algorithms.counts import rows
from warmroute_policies.policy import Choice, Dispatched, FleetChanged, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

_TURN = "turn"
_NEVER = -1


class RoundRobin:
    """State: by slot, the number of its last dispatch."""

    name = "round_robin"

    def __init__(self) -> None:
        self._dispatches = 0
        self._turn: dict[int, int] = {}

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads."""
        turn = self._turn
        return Choice(min(view.eligible, key=lambda slot: turn.get(slot, _NEVER)), _TURN)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes. A dispatch was the slot's turn; a slot that is emptied is forgotten."""
        if isinstance(event, Dispatched):
            self._turn[event.slot] = self._dispatches
            self._dispatches += 1
        elif isinstance(event, FleetChanged) and not event.present:
            self._turn.pop(event.slot, None)

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. The total is how many eligible workers come before this one."""
        order = sorted(view.eligible, key=lambda slot: self._turn.get(slot, _NEVER))
        return rows(view, lambda slot: float(order.index(slot)), lambda slot: {})
