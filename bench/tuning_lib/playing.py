"""Runs by order, in the order in which they were asked for: what the store has is not played again."""

from __future__ import annotations

from collections.abc import Sequence

from routing_lib.agenda import Agenda
from routing_lib.orders import Order
from routing_lib.progress import Progress
from routing_lib.runs import Runs
from routing_lib.store import Key, Run, Store


class Playing:
    """State: the store that grows, the processes, how far all is, and the runs that were asked for."""

    def __init__(self, runs: Runs, store: Store, progress: Progress) -> None:
        self.used: dict[Key, Run] = {}
        self._runs = runs
        self._store = store
        self._progress = progress
        self._left = 0.0

    def expect(self, requests: float) -> None:
        """Writes. About so many requests are to come, whether they were played before or not."""
        self._left = requests

    def play(self, orders: Sequence[Order]) -> list[Run]:
        """Writes. Raises RunFailed, KeyboardInterrupt."""
        wanted = {order.key: order for order in orders}
        missing = [order for key, order in wanted.items() if self._store.get(key) is None]
        self._left -= sum(order.source.requests for order in wanted.values())
        self._progress.expect(self._left + sum(order.source.requests for order in missing))
        for run in self._runs.play(missing):
            self._store.add(run)
            self._progress.tell(run.requests)
        found = [kept for order in orders if (kept := self._store.get(order.key)) is not None]
        self.used |= {kept.key: kept for kept in found}
        return found

    def play_all(self, agenda: Agenda) -> None:
        """Writes. What a plan asks for, until it asks for nothing. Raises RunFailed, KeyboardInterrupt."""
        while orders := agenda.orders():
            self.expect(agenda.left())
            self.play(orders)
        self.used |= {run.key: run for run in agenda.used()}
