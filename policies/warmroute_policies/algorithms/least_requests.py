"""`least_requests`: the eligible worker with the fewest requests in flight.

    argmin over eligible i of (B_i + 1) / w_i;     ties are drawn

Source: `least_conn` of nginx and Envoy's least request over all hosts. B_i is this router's own count,
exact at dispatch, where routers that poll it act on a number that is seconds old.
"""

from __future__ import annotations

from warmroute_policies.algorithms.counts import loads, rows
from warmroute_policies.chance import draw, pick_least
from warmroute_policies.policy import Choice, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

_LEAST = "least"


class LeastRequests:
    """Stateless: the fleet's books say all."""

    name = "least_requests"
    learns = False

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads."""
        return Choice(pick_least(loads(view), draw(self._seed, request.request_id)), _LEAST)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes nothing."""

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. The total is requests in flight per weight, this one included."""
        load = loads(view)
        return rows(view, lambda slot: load[slot], lambda slot: {"weight": view.fleet.weight[slot]})
