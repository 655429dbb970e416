"""Workers on their way out: no new requests, and gone when the running ones have ended or time is up."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic

from warmroute import audit
from warmroute.gateway import Gateway
from warmroute_policies.types import WorkerId

log = logging.getLogger("warmroute")

# How soon it is noticed that the last request has ended.
_POLL_S = 0.1


class Removals:
    """State: one task and one deadline per worker that leaves; one task per worker that stays and whose
    requests have a deadline."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._leaving: dict[WorkerId, tuple[asyncio.Task[None], float]] = {}
        self._clearing: dict[WorkerId, asyncio.Task[None]] = {}

    def due_at(self, worker_id: WorkerId) -> float | None:
        """Reads. When the worker is removed at the latest; None: it stays."""
        leaving = self._leaving.get(worker_id)
        return None if leaving is None else leaving[1]

    def begin(self, worker_id: WorkerId, deadline_s: float) -> None:
        """Writes. Drains the worker and removes it then. Again: the deadline is set anew."""
        self.cancel(worker_id)
        self._gateway.workers.drain(worker_id, True)
        deadline = monotonic() + deadline_s
        task = asyncio.get_running_loop().create_task(self._remove_when_idle(worker_id, deadline))
        self._leaving[worker_id] = task, deadline
        log.info("worker drains", extra={"worker": worker_id, "deadline_s": deadline_s})

    def clear(self, worker_id: WorkerId, deadline_s: float) -> None:
        """Writes. The worker drains already; what runs on it then goes elsewhere or is cut, and the worker
        stays, draining. Again: the deadline is set anew."""
        self._keep_requests(worker_id)
        task = asyncio.get_running_loop().create_task(self._clear_at(worker_id, deadline_s))
        self._clearing[worker_id] = task

    def _keep_requests(self, worker_id: WorkerId) -> None:
        task = self._clearing.pop(worker_id, None)
        if task is not None:
            task.cancel()

    async def _clear_at(self, worker_id: WorkerId, deadline_s: float) -> None:
        await asyncio.sleep(deadline_s)
        del self._clearing[worker_id]  # not cancelled: this task is it
        running = [
            exchange
            for exchange in self._gateway.exchanges.values()
            if exchange.decision is not None
            and exchange.decision.worker == worker_id
            and not (exchange.ticket is not None and exchange.ticket.waiting)  # it has left: it failed here
        ]
        for exchange in running:
            exchange.leave_worker()
        log.info("worker cleared", extra={"worker": worker_id, "in_flight": len(running)})

    def cancel(self, worker_id: WorkerId) -> None:
        """Writes. The worker stays, still draining, and its requests too. Not leaving: nothing happens."""
        self._keep_requests(worker_id)
        leaving = self._leaving.pop(worker_id, None)
        if leaving is not None:
            leaving[0].cancel()

    def remove_now(self, worker_id: WorkerId) -> None:
        """Writes. The worker is gone; answers that are on their way still arrive."""
        self.cancel(worker_id)
        left = self.in_flight(worker_id)
        self._gateway.workers.remove(worker_id)
        log.info("worker removed", extra={"worker": worker_id, "in_flight": left})

    def in_flight(self, worker_id: WorkerId) -> int:
        """Reads. The worker's requests that have not ended."""
        fleet = self._gateway.balancer.fleet
        return fleet.own_inflight(fleet.slot_of[worker_id])

    async def _remove_when_idle(self, worker_id: WorkerId, deadline: float) -> None:
        # The books have no hook for a single worker, and nobody waits for this to the millisecond.
        while self.in_flight(worker_id) and monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        del self._leaving[worker_id]  # not cancelled: this task is it
        self.remove_now(worker_id)
        audit.tell("remove_worker", worker_id, audit.ROUTER)
