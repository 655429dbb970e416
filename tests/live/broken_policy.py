"""Policies of somebody else's that fail: on every request, or when they are asked again."""

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


class Fickle(Broken):
    """Chooses, and raises where a worker has failed and another one is to be chosen."""

    name = "fickle"

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        if len(view.eligible) < 2:
            raise LookupError("no such shelf")
        return Choice(view.eligible[0], "first")
