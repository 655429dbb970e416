"""`random`: any eligible worker, with a chance in proportion to its weight.

    P(i) = w_i / Σ w

The baseline that knows nothing. Source: the `random` of sglang-router and vllm-router, which draw
uniformly; with equal weights so does this.
"""

from __future__ import annotations

from warmroute_policies.algorithms.counts import rows
from warmroute_policies.chance import draw
from warmroute_policies.policy import Choice, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

_CHOICE_REASON = "random"
_RANGE = float(1 << 64)


class Random:
    """Stateless: the draw is a function of the seed and the request's id."""

    name = "random"
    learns = False

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads."""
        weight = view.fleet.weight
        point = draw(self._seed, request.request_id) / _RANGE * sum(weight[slot] for slot in view.eligible)
        for slot in view.eligible:
            point -= weight[slot]
            if point < 0.0:
                return Choice(slot, _CHOICE_REASON)
        return Choice(view.eligible[-1], _CHOICE_REASON)  # the last one's share, less a rounding error

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes nothing."""

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. Each worker's chance; the total is 0 for the worker that was drawn, else 1."""
        weight, picked = view.fleet.weight, self.decide(request, view, now).slot
        everything = sum(weight[slot] for slot in view.eligible)
        return rows(
            view,
            lambda slot: 0.0 if slot == picked else 1.0,
            lambda slot: {"chance": weight[slot] / everything},
        )
