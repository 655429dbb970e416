"""The router asks engines how much they have to do, where `load_poll` says so.

One task looks ten times a second whose turn it is; a question is a task of its own, with a deadline. Rules
kept: a worker has one question at a time; one that fails its health checks is not asked; what an engine's
answers cost decides how often they are asked for (`pace`); over all workers there are no more than
`QUESTIONS_PER_S`. Nothing that is answered ends the task.
"""

from __future__ import annotations

import asyncio
import logging
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Final

from warmroute.load.pace import Pace
from warmroute.load.sources import Asked, Sources, mood_of
from warmroute.watch import Unanswered, ask

if TYPE_CHECKING:
    from warmroute.gateway import Gateway
    from warmroute.workers import Worker

log: Final = logging.getLogger("warmroute.load")

# The shortest interval that is of use: no answer says more than a step of an engine, some 20 ms, could tell.
_LOOK_S: Final = 0.1

QUESTIONS_PER_S: Final = 50.0
"""Each costs the router's loop about a millisecond: a twentieth of its time. 256 busy workers are asked every
five seconds then."""


async def poll_loads(gateway: Gateway) -> None:
    """Writes. Asks all workers, those too that are added later, until it is cancelled."""
    await Polling(gateway, Random()).run()


class Polling:
    """State: what is known of each worker's sources, and the questions under way."""

    def __init__(self, gateway: Gateway, chance: Random) -> None:
        self._gateway = gateway
        self._chance = chance
        self._workers: dict[Worker, Sources] = {}

    async def run(self) -> None:
        """Writes. Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._look(group)
                await asyncio.sleep(_LOOK_S)

    def _look(self, group: asyncio.TaskGroup) -> None:
        """Writes. Starts the questions whose turn it is, those that are late the most first."""
        now = monotonic()
        present = set(self._gateway.workers.values())
        for worker in self._workers.keys() - present:
            del self._workers[worker]
        due: list[tuple[float, Worker, Asked]] = []
        for worker in self._gateway.workers.values():
            sources = self._workers.get(worker)
            if sources is None:
                sources = self._workers[worker] = self._met(now)
            asked = sources.due(now) if worker.checks_passed else None
            if asked is not None and not self._gateway.loads.is_fed(worker.pool.worker_id, now):
                due.append((asked.due_at, worker, asked))
        due.sort(key=lambda one: one[0])
        for _, worker, asked in due[: int(QUESTIONS_PER_S * _LOOK_S)]:
            sources = self._workers[worker]
            sources.under_way = True
            group.create_task(self._ask(worker, sources, asked))

    def _met(self, now: float) -> Sources:
        settings = self._gateway.settings

        def make_pace() -> Pace:
            return Pace(settings.load_poll_min_s, settings.load_poll_max_s, settings.load_poll_share)

        # Many workers, met in one moment, are not asked in one moment.
        return Sources(make_pace, now + settings.load_poll_min_s * self._chance.random())

    async def _ask(self, worker: Worker, sources: Sources, asked: Asked) -> None:
        gateway, worker_id = self._gateway, worker.pool.worker_id
        began, was_busy = monotonic(), self._own(worker_id) > 0
        deadline = asyncio.get_running_loop().time() + gateway.settings.health_timeout_s
        try:
            body = await ask(gateway, worker.pool, asked.source.path, deadline)
        except Unanswered as error:
            took_s = monotonic() - began
            gateway.loads.asked("failed", took_s)
            asked.pace.failed(took_s)
            asked.failed(error.status, odd=False)
        else:
            self._answered(worker, asked, body, began, was_busy=was_busy)
        finally:
            sources.under_way = False
        asked.next_at(monotonic(), asked.pace.wait_s(self._chance))
        if sources.silent and not sources.complained:
            sources.complained = True
            log.warning(
                "worker tells nothing of its load, so only the router's own requests count there",
                extra={"worker": worker_id},
            )

    def _answered(self, worker: Worker, asked: Asked, body: bytes, began: float, *, was_busy: bool) -> None:
        """Writes. What the answer says goes to the core, unless the worker has left meanwhile."""
        gateway, worker_id, now = self._gateway, worker.pool.worker_id, monotonic()
        took_s = now - began
        own = self._own(worker_id) > 0
        try:
            report = asked.take(body, busy=was_busy and own)
        except ValueError:
            gateway.loads.asked("odd", took_s)
            asked.pace.failed(took_s)
            asked.failed(None, odd=True)
            return
        gateway.loads.asked("answered", took_s)
        foreign = False
        if report is not None and gateway.workers.get(worker_id) is worker:
            foreign = gateway.loads.take(
                worker_id, report, asked.source.path.partition("?")[0], began - asked.source.lag_s, now
            )
        asked.pace.answered(took_s, mood_of(foreign=foreign, own=own))

    def _own(self, worker_id: str) -> int:
        """Reads. Requests that the router has there; none where the worker has left."""
        fleet = self._gateway.balancer.fleet
        slot = fleet.slot_of.get(worker_id)
        return 0 if slot is None else fleet.own_inflight(slot)
