"""How many requests each tenant has waiting, and who has most of them.

Counts change by one at a time, so the largest one moves by one at a time: every call takes the same few
steps, however many tenants there are.
"""

from __future__ import annotations

from typing import final

from warmroute_policies.admission.ticket import Ticket


@final
class Crowd:
    """State: what waits by tenant, oldest first; tenants by their number of requests; the largest number."""

    __slots__ = ("_by_count", "_most", "_tickets")

    def __init__(self) -> None:
        self._tickets: dict[str, dict[int, Ticket]] = {}
        self._by_count: dict[int, dict[str, None]] = {}
        self._most = 0

    def add(self, ticket: Ticket) -> None:
        """Writes."""
        tickets = self._tickets.setdefault(ticket.tenant, {})
        tickets[ticket.number] = ticket
        count = len(tickets)
        self._move(ticket.tenant, count - 1, count)
        self._most = max(self._most, count)

    def remove(self, ticket: Ticket) -> None:
        """Writes. The ticket must be here."""
        tickets = self._tickets[ticket.tenant]
        del tickets[ticket.number]
        count = len(tickets)
        if not count:
            del self._tickets[ticket.tenant]
        self._move(ticket.tenant, count + 1, count)
        if self._most not in self._by_count:
            self._most = count  # the only tenant with most has one less now

    def count(self, tenant: str) -> int:
        """Reads. Requests that the tenant has here."""
        return len(self._tickets.get(tenant, ()))

    def counts(self) -> dict[str, int]:
        """Reads. All of them, by tenant."""
        return {tenant: len(tickets) for tenant, tickets in self._tickets.items()}

    @property
    def most(self) -> int:
        """Reads. The largest count; 0: nobody is here."""
        return self._most

    def youngest_of_most(self) -> Ticket:
        """Reads. The last ticket of the tenant that has most. Raises KeyError when nobody is here."""
        tenant = next(iter(self._by_count[self._most]))
        return next(reversed(self._tickets[tenant].values()))

    def _move(self, tenant: str, before: int, after: int) -> None:
        if before:
            same = self._by_count[before]
            del same[tenant]
            if not same:
                del self._by_count[before]
        if after:
            self._by_count.setdefault(after, {})[tenant] = None
