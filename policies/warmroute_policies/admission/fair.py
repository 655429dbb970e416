"""One line of requests, shared fairly between tenants: start-time fair queueing over cost.

A tenant has a virtual time: what it was served so far, divided by its weight. Whoever's is least goes next. A
tenant that comes back does not find saved up what it did not ask for: it begins at the virtual time of the
request that was served last. Within a tenant the order is that of arrival.

Rules kept. Work is never withheld: while anybody waits, somebody is served. Over any time in which two
tenants have requests waiting throughout, served cost ÷ weight of the two differs by at most the largest
request of the one ÷ its weight plus the largest of the other ÷ its weight (Goyal, Vin, Cheng 1996,
theorem 1). A request that leaves unserved costs its tenant nothing.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final, final

from warmroute_policies.admission.ticket import Ticket

# Tenants without a request that are still remembered, because they were served ahead of the others.
_IDLE_MAX: Final = 1024


@final
class _Flow:
    """One tenant. State: what waits, in order; the virtual time at which the next of it starts; whether the
    heap has an entry of it."""

    __slots__ = ("listed", "start", "waiting")

    def __init__(self, start: float) -> None:
        self.waiting: dict[int, Ticket] = {}
        self.start = start
        self.listed = False


@final
class FairLine:
    """State: tenants by name, a heap of those that wait by the start of their next request, virtual time."""

    __slots__ = ("_flows", "_heap", "_pushed", "_virtual", "count")

    def __init__(self) -> None:
        self._flows: dict[str, _Flow] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._pushed = 0
        self._virtual = 0.0
        self.count = 0
        """Requests that wait."""

    def add(self, ticket: Ticket) -> None:
        """Writes. The ticket waits behind all of its tenant."""
        flow = self._flows.get(ticket.tenant)
        if flow is None:
            flow = self._flows[ticket.tenant] = _Flow(self._virtual)
        flow.waiting[ticket.number] = ticket
        self.count += 1
        if not flow.listed:
            flow.start = max(flow.start, self._virtual)
            self._list(ticket.tenant, flow)

    def head(self) -> Ticket:
        """Reads. The ticket that `pop` takes. Raises IndexError when nobody waits."""
        while True:
            tenant = self._heap[0][2]
            flow = self._flows[tenant]
            if flow.waiting:
                return next(iter(flow.waiting.values()))
            heappop(self._heap)  # all of its requests have left
            flow.listed = False
            self._forget_idle(tenant, flow)

    def pop(self) -> Ticket:
        """Writes. Takes the next ticket and charges its tenant. Raises IndexError when nobody waits."""
        ticket = self.head()
        flow = self._flows[ticket.tenant]
        heappop(self._heap)
        flow.listed = False
        self._virtual = flow.start
        flow.start += ticket.cost / ticket.weight
        del flow.waiting[ticket.number]
        self.count -= 1
        if flow.waiting:
            self._list(ticket.tenant, flow)
        elif len(self._flows) > 2 * len(self._heap) + _IDLE_MAX:
            self._forget_all_idle()
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """Writes. The ticket leaves unserved; it must be waiting here."""
        flow = self._flows[ticket.tenant]
        del flow.waiting[ticket.number]
        self.count -= 1

    def _list(self, tenant: str, flow: _Flow) -> None:
        """Of equal starts the one that was listed first goes first."""
        flow.listed = True
        self._pushed += 1
        heappush(self._heap, (flow.start, self._pushed, tenant))

    def _forget_idle(self, tenant: str, flow: _Flow) -> None:
        if flow.start <= self._virtual:
            del self._flows[tenant]

    def _forget_all_idle(self) -> None:
        """Those that are level with the others; and if that is too few, all that have nothing waiting."""
        behind = [name for name, flow in self._flows.items() if not flow.listed]
        for name in behind:
            self._forget_idle(name, self._flows[name])
        if len(self._flows) > 2 * len(self._heap) + _IDLE_MAX:
            self._flows = {name: flow for name, flow in self._flows.items() if flow.listed}
