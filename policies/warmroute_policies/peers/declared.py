"""What engines declare of themselves, where only a slot is at hand.

Events name slots; how large an engine's cache is and how long its pages are stands in the fleet, which a
policy sees in a view. The fleet of a balancer is one object for life, so whoever keeps it sees what is true
when the event comes. Before the first view nothing is known.
"""

from __future__ import annotations

from warmroute_policies.fleet import Fleet
from warmroute_policies.types import WorkerSpec


class Declared:
    """State: a reference to the fleet."""

    def __init__(self) -> None:
        self._fleet: Fleet | None = None

    def follow(self, fleet: Fleet) -> None:
        """Writes the reference, the same each time."""
        self._fleet = fleet

    def spec(self, slot: int) -> WorkerSpec | None:
        """Reads. The worker in the slot; None where there is none, or none is known yet."""
        fleet = self._fleet
        return None if fleet is None or slot >= len(fleet.specs) else fleet.specs[slot]
