"""`power_of_two`: two different workers are drawn, the one with fewer requests in flight gets the request.

    {i, j} drawn uniformly from the eligible;  (B_i + 1) / w_i ≤ (B_j + 1) / w_j ? i : j

Source: Mitzenmacher, "The power of two choices in randomized load balancing" (2001); `power_of_two` of
sglang-router. There the load comes from a poll that current engines do not answer, which leaves a random
choice; here it is this router's own count.
"""

from __future__ import annotations

from warmroute_policies.algorithms.counts import loads, rows
from warmroute_policies.chance import draw
from warmroute_policies.policy import Choice, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

_LIGHTER = "lighter_of_two"
_ONLY = "only"


class PowerOfTwo:
    """Stateless: the draw is a function of the seed and the request's id."""

    name = "power_of_two"
    learns = False

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads. A tie goes to the first drawn."""
        drawn = self._drawn(request, view)
        if len(drawn) == 1:
            return Choice(drawn[0], _ONLY)
        fleet, (first, second) = view.fleet, drawn
        load_first = (fleet.inflight[first] + 1) / fleet.weight[first]
        load_second = (fleet.inflight[second] + 1) / fleet.weight[second]
        return Choice(first if load_first <= load_second else second, _LIGHTER)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes nothing."""

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. `drawn` is 1 for the two candidates; the others have the total of a full fleet more."""
        drawn, load = self._drawn(request, view), loads(view)
        beyond = max(load[slot] for slot in view.eligible)
        return rows(
            view,
            lambda slot: load[slot] if slot in drawn else load[slot] + beyond,
            lambda slot: {"drawn": float(slot in drawn), "weight": view.fleet.weight[slot]},
        )

    def _drawn(self, request: RoutingRequest, view: View) -> tuple[int, ...]:
        """One slot when there is only one, else two different ones."""
        eligible = view.eligible
        n = len(eligible)
        if n == 1:
            return (eligible[0],)
        bits = draw(self._seed, request.request_id)
        first = (bits >> 32) % n
        second = (bits & 0xFFFF_FFFF) % (n - 1)
        return eligible[first], eligible[second + (second >= first)]
