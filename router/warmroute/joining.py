"""Workers that join and leave while the router runs, many at a time, without holding up requests.

What is decided of them is decided whole before the first one is touched; what is done then is done in small
pieces, and a worker that somebody else added or removed meanwhile is left as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from warmroute import audit
from warmroute.config.backends import Backend

if TYPE_CHECKING:
    from warmroute.audit import Actor
    from warmroute.gateway import Gateway
    from warmroute_policies.types import WorkerId

# A worker costs 20 µs to add to a small fleet and 0.5 ms to one of a thousand; requests go on in between.
_AT_ONCE: Final = 8
_NEXT_S: Final = 0.01


async def add_workers(
    gateway: Gateway, backends: Iterable[Backend], added_by: str, actor: Actor
) -> list[WorkerId]:
    """Writes. Adds those that are not there yet; they get requests once a check has passed. Who was added."""
    added = []
    for number, backend in enumerate(backends, 1):
        if backend.url not in gateway.workers:
            gateway.workers.add(backend, trusted=False, added_by=added_by)
            audit.tell("add_worker", backend.url, actor, after=str(backend))
            added.append(backend.url)
        if number % _AT_ONCE == 0:
            await asyncio.sleep(_NEXT_S)
    return added


def take_back(gateway: Gateway, worker_id: WorkerId) -> bool:
    """Writes. Calls off a removal under way; whether there was one. Whom a person drained stays drained."""
    if gateway.removals.due_at(worker_id) is None:
        return False
    gateway.removals.cancel(worker_id)
    if not gateway.workers[worker_id].drained_by_hand:
        gateway.workers.drain(worker_id, False)
    return True


def let_go(gateway: Gateway, worker_id: WorkerId, deadline_s: float, actor: Actor) -> bool:
    """Writes. Removes an idle worker at once, and drains any other first; whether it is gone."""
    removals = gateway.removals
    if removals.in_flight(worker_id):
        removals.begin(worker_id, deadline_s)
        audit.tell("drain_worker", worker_id, actor, after=f"removed in {deadline_s:g} s at the latest")
        return False
    removals.remove_now(worker_id)
    audit.tell("remove_worker", worker_id, actor)
    return True
