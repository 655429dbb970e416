"""One request that asks to be let in: who asks, how much it is, how long it may wait.

Rules kept. What it says does not change while it waits. `owner` is the driver's; nothing here looks at it.
"""

from __future__ import annotations

from typing import final


@final
class Ticket:
    """Not to be written, but for `waiting`, which is the queue's."""

    __slots__ = (
        "arrived_at", "cost", "deadline_at", "line", "number", "owner", "rank", "tenant", "tokens", "waiting",
        "weight",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        line: str,
        rank: int,
        tenant: str,
        weight: float,
        tokens: int,
        cost: float,
        arrived_at: float,
        deadline_at: float,
        owner: object,
    ) -> None:
        self.number = number
        """Unique among the tickets that wait."""
        self.line = line
        """What is served by the same workers stands in one line."""
        self.rank = rank
        """Its class, 0 the highest."""
        self.tenant = tenant
        self.weight = weight
        """The tenant's share beside others'."""
        self.tokens = tokens
        """Prompt tokens, estimated."""
        self.cost = cost
        """What the tenant is charged for it; above 0."""
        self.arrived_at = arrived_at
        self.deadline_at = deadline_at
        self.owner = owner
        self.waiting = False
