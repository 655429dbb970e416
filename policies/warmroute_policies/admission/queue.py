"""All requests that wait for room: which goes next, which has waited too long, which makes way for another.

    queue ─┬─ again    were let in, and their worker failed: before all others
           └─ classes  high, default, low: places by weight
                └─ lines    one per set of workers: the oldest head first, those without room are passed by
                     └─ tenants   equal shares of cost (`fair`)

Rules kept.

- Work is never withheld: `pop` finds a ticket whenever one of the line heads may go.
- A class gets places in proportion to its weight among the classes that wait, and of equal claims the higher
  class goes first. While a class has something that may go, at most Σ over the others j of ⌊w_j ÷ w⌋ + 1
  places go to other classes before it gets one (`places_between`). What it could not use while its workers
  had no room is not saved up.
- When the queue is full a newcomer displaces the youngest of the lowest class below its own; where there is
  none, the youngest of the tenant with most requests of its own class, if that has at least two more than the
  newcomer's tenant. So a tenant cannot keep others out by sending more.
- Every call takes a number of steps that depends on classes and lines, not on how many wait; but for
  `expire`, whose steps are those that expire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from math import floor
from typing import Final, final

from warmroute_policies.admission.crowd import Crowd
from warmroute_policies.admission.fair import FairLine
from warmroute_policies.admission.ticket import Ticket

May = Callable[[Ticket], bool]
"""Whether there is room for this ticket now."""

# Deadlines of tickets that have left are dropped when they are most of what is kept.
_STALE_MIN: Final = 64


def places_between(weights: Sequence[float], rank: int) -> int:
    """Places that other classes get at most before one of this class that may go."""
    own = weights[rank]
    return sum(floor(other / own) + 1 for place, other in enumerate(weights) if place != rank)


@final
class _Class:
    """One class. State: what waits by line and in order of arrival, its tenants, and the virtual time up to
    which it had its places."""

    __slots__ = ("crowd", "lines", "step", "until", "waiting")

    def __init__(self, weight: float) -> None:
        self.step = 1.0 / weight
        self.until = 0.0
        self.lines: dict[str, FairLine] = {}
        self.waiting: dict[int, Ticket] = {}
        self.crowd = Crowd()

    def next(self, may: May) -> Ticket | None:
        """Reads. Of the lines whose head may go, the head that has waited longest."""
        best: Ticket | None = None
        for line in self.lines.values():
            head = line.head()
            if (best is None or head.arrived_at < best.arrived_at) and may(head):
                best = head
        return best


class Queue:
    """State: the classes, the requests that wait again, deadlines, and virtual time of places."""

    def __init__(self, weights: Sequence[float]) -> None:
        """Classes from the highest to the lowest; weights are above 0."""
        self._classes = [_Class(weight) for weight in weights]
        self._again: dict[int, Ticket] = {}
        self._deadlines: list[tuple[float, int, Ticket]] = []
        self._pushed = 0
        self._virtual = 0.0
        self._lines: dict[str, int] = {}
        self.count = 0
        """Requests that wait and were never let in."""

    # --- coming and going -----------------------------------------------------------------------

    def add(self, ticket: Ticket) -> None:
        """Writes. The ticket waits from now on."""
        group = self._classes[ticket.rank]
        if not group.waiting:
            group.until = max(group.until, self._virtual)
        line = group.lines.get(ticket.line)
        if line is None:
            line = group.lines[ticket.line] = FairLine()
        line.add(ticket)
        group.waiting[ticket.number] = ticket
        group.crowd.add(ticket)
        self.count += 1
        self._lines[ticket.line] = self._lines.get(ticket.line, 0) + 1
        self._await(ticket)

    def add_again(self, ticket: Ticket) -> None:
        """Writes. A request that was let in once needs room again: it goes before all others, and counts for
        no limit, because those that were let in are bounded."""
        self._again[ticket.number] = ticket
        self._await(ticket)

    def pop(self, may: May) -> Ticket | None:
        """Writes. The next ticket that may go, which waits no longer; None: there is no room for any."""
        for again in self._again.values():
            if may(again):
                del self._again[again.number]
                again.waiting = False
                return again
        waiting = [
            (group.until + group.step, rank) for rank, group in enumerate(self._classes) if group.waiting
        ]
        waiting.sort()
        for turn, rank in waiting:
            group = self._classes[rank]
            ticket = group.next(may)
            if ticket is not None:
                self._virtual = max(self._virtual, turn)
                group.until = turn
                self._forget(ticket, served=True)
                self._catch_up()
                return ticket
        return None

    def leave(self, ticket: Ticket) -> None:
        """Writes. The ticket's request is given up. Twice is once."""
        if not ticket.waiting:
            return
        if ticket.number in self._again:
            del self._again[ticket.number]
            ticket.waiting = False
        else:
            self._forget(ticket, served=False)

    def expire(self, now: float) -> list[Ticket]:
        """Writes. Tickets whose deadline has passed; they wait no longer."""
        late: list[Ticket] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            ticket = heappop(self._deadlines)[2]
            if ticket.waiting and ticket.deadline_at <= now:
                self.leave(ticket)
                late.append(ticket)
        return late

    def makes_way(self, rank: int, tenant: str) -> Ticket | None:
        """Reads. Whom a newcomer of this class and tenant displaces when the queue is full; None: nobody."""
        for lower in range(len(self._classes) - 1, rank, -1):
            waiting = self._classes[lower].waiting
            if waiting:
                return next(reversed(waiting.values()))
        crowd = self._classes[rank].crowd
        if crowd.most > crowd.count(tenant) + 1:
            return crowd.youngest_of_most()
        return None

    # --- what is asked --------------------------------------------------------------------------

    def stands(self, line: str) -> bool:
        """Reads. Whether anybody waits in this line."""
        return line in self._lines

    @property
    def waiting(self) -> int:
        """Reads. Requests that wait, those that were let in before too."""
        return self.count + len(self._again)

    @property
    def again(self) -> int:
        """Reads. Requests that were let in before and wait again."""
        return len(self._again)

    def lengths(self) -> list[int]:
        """Reads. Requests that wait, by class."""
        return [len(group.waiting) for group in self._classes]

    def oldest(self, rank: int) -> float | None:
        """Reads. When the class's oldest ticket came; None: it has none."""
        waiting = self._classes[rank].waiting
        return next(iter(waiting.values())).arrived_at if waiting else None

    def tenants(self) -> dict[str, int]:
        """Reads. Requests that wait, by tenant. As many steps as there are tenants."""
        counts: dict[str, int] = {}
        for group in self._classes:
            for tenant, count in group.crowd.counts().items():
                counts[tenant] = counts.get(tenant, 0) + count
        return counts

    # --- inside ---------------------------------------------------------------------------------

    def _await(self, ticket: Ticket) -> None:
        ticket.waiting = True
        if len(self._deadlines) > 2 * self.waiting + _STALE_MIN:
            self._deadlines = [entry for entry in self._deadlines if entry[2].waiting]
            heapify(self._deadlines)
        self._pushed += 1
        heappush(self._deadlines, (ticket.deadline_at, self._pushed, ticket))

    def _forget(self, ticket: Ticket, *, served: bool) -> None:
        """The ticket is out of all books; one that is served is the head of its line."""
        ticket.waiting = False
        group = self._classes[ticket.rank]
        line = group.lines[ticket.line]
        if served:
            line.pop()
        else:
            line.remove(ticket)
        if not line.count:
            del group.lines[ticket.line]
        del group.waiting[ticket.number]
        group.crowd.remove(ticket)
        self.count -= 1
        left = self._lines[ticket.line] - 1
        if left:
            self._lines[ticket.line] = left
        else:
            del self._lines[ticket.line]

    def _catch_up(self) -> None:
        """A class that could not go, because its workers had no room, saves nothing up."""
        for group in self._classes:
            if group.waiting:
                group.until = max(group.until, self._virtual - group.step)
