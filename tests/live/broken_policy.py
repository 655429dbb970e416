"""A policy of somebody else's that fails on every request it is asked about."""

from __future__ import annotations

from warmroute_policies.policy import Choice, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest


class Broken:
    """Raises."""

    name = "broken"

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        raise LookupError("no such shelf")

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes nothing."""

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        return []
