"""Many workers at once: what there should be (`PUT /workers`), and what should change (`PATCH /workers`).

Rule kept. All or nothing: every part of a request is looked at before the first worker is touched. Workers
that discovery found are its own: a list leaves those alone, and they leave it alone.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from warmroute import audit
from warmroute.config.backends import worker_url
from warmroute.config.kinds import Positive
from warmroute.control.admission import check_allowed
from warmroute.control.audited import actor_of, changing_route
from warmroute.control.auth import change_guard
from warmroute.control.errors import Refused, refusals
from warmroute.control.views import WorkerView, worker_view
from warmroute.control.workers import (
    CONTACT_SLACK_S,
    DEADLINE_S,
    Deadline,
    Drain,
    NewWorker,
    WorkerChange,
    change_one,
    find_worker,
)
from warmroute.gateway import Gateway
from warmroute.joining import add_workers, let_go, take_back
from warmroute.wire.replies import RouterError
from warmroute_policies.types import WorkerId

# As many as discovery adds by default (`discovery_max_workers`).
_WORKERS_MAX = 1024

# Who is added by whom decides whose it is (`Worker.added_by`).
_PEOPLE = ("configuration", "admin")

Action = Literal["added", "changed", "kept", "taken_back", "draining", "removed", "left_alone"]


class Fleet(BaseModel):
    """The workers that there should be."""

    model_config = ConfigDict(extra="forbid")

    workers: Annotated[list[NewWorker], Field(max_length=_WORKERS_MAX)]


class OneChange(BaseModel):
    """What changes of one worker; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, AfterValidator(worker_url)]
    draining: bool | None = None
    weight: Positive | None = None


class Changes(BaseModel):
    """Changes of several workers."""

    model_config = ConfigDict(extra="forbid")

    workers: Annotated[list[OneChange], Field(max_length=_WORKERS_MAX)]


class Done(BaseModel):
    """What became of one worker."""

    id: str
    action: Action
    """`draining`: removed when its requests have ended. `left_alone`: discovery's, or somebody else's
    change came between."""
    worker: WorkerView | None
    """As it is now; null: it is gone."""


class FleetDone(BaseModel):
    """What became of all of them."""

    workers: list[Done]
    total: int
    """Workers that are there now, those of discovery and those that drain included."""


def endpoints(gateway: Gateway) -> APIRouter:
    """PUT and PATCH of /workers, behind an admin key."""
    router = APIRouter(
        tags=["workers"],
        dependencies=[Depends(change_guard(gateway))],
        route_class=changing_route(),
        responses=refusals(400, 401, 403, 404, 409, 422),
    )
    removals = gateway.removals

    def told(done: dict[WorkerId, Action]) -> FleetDone:
        views = {
            worker_id: worker_view(gateway, worker_id, removals.due_at(worker_id))
            for worker_id in done
            if worker_id in gateway.workers
        }
        rows = [Done(id=worker, action=action, worker=views.get(worker)) for worker, action in done.items()]
        return FleetDone(workers=rows, total=len(gateway.workers))

    @router.put("/workers", responses=refusals(404, 409))
    async def replace_workers(
        fleet: Fleet,
        request: Request,
        drain: Drain = True,
        deadline_s: Deadline = DEADLINE_S,
        wait: Annotated[bool, Query(description="Until every new worker was asked who it is.")] = True,
    ) -> FleetDone:
        """Makes the fleet what the list says: adds who is missing, describes anew who changed, and removes
        who is not in it, draining first. All that is wrong with the list is found before anything happens.
        Workers of discovery that are not in the list are not touched."""
        backends = {new.url: new.backend() for new in fleet.workers}
        if len(backends) != len(fleet.workers):
            twice = next(new.url for at, new in enumerate(fleet.workers) if new.url in _urls(fleet, at))
            raise Refused(RouterError(422, "invalid_value", f"{twice} is listed twice", param="workers"))
        for url in backends.keys() - set(gateway.workers):
            await check_allowed(gateway, url)
        actor = actor_of(request)
        async with gateway.reloader.lock:
            done: dict[WorkerId, Action] = {}
            for url, backend in backends.items():
                worker = gateway.workers.get(url)
                if worker is None:
                    done[url] = "left_alone"  # until it is added
                elif worker.added_by not in _PEOPLE:
                    done[url] = "left_alone"
                else:
                    done[url] = "taken_back" if take_back(gateway, url) else "kept"
                    if backend != worker.backend:
                        before = str(worker.backend)
                        gateway.workers.describe(url, backend, worker.learned)
                        audit.tell("change_worker", url, actor, before=before, after=str(backend))
                        done[url] = "changed"
            for url, worker in list(gateway.workers.items()):
                if url not in backends and worker.added_by in _PEOPLE:
                    gone = let_go(gateway, url, deadline_s, actor) if drain else _drop(gateway, url, actor)
                    done[url] = "removed" if gone else "draining"
            new = [backend for url, backend in backends.items() if url not in gateway.workers]
            added = await add_workers(gateway, new, "admin", actor)
            done |= dict.fromkeys(added, "added")
        if wait:
            await _contacted(gateway, added)
        return told(done)

    @router.patch("/workers")
    async def change_workers(changes: Changes, request: Request) -> FleetDone:
        """Drains workers, takes them back, sets their weights: all of them, or none when one is not there."""
        wanted = {find_worker(gateway, one.url): one for one in changes.workers}
        if len(wanted) != len(changes.workers):
            raise Refused(RouterError(422, "invalid_value", "a worker is listed twice", param="workers"))
        for worker_id, one in wanted.items():
            change = WorkerChange(draining=one.draining, weight=one.weight)
            change_one(gateway, worker_id, change, request)
        return told(dict.fromkeys(wanted, "changed"))

    return router


def _urls(fleet: Fleet, before: int) -> set[str]:
    return {new.url for new in fleet.workers[:before]}


def _drop(gateway: Gateway, worker_id: WorkerId, actor: audit.Actor) -> bool:
    gateway.removals.remove_now(worker_id)
    audit.tell("remove_worker", worker_id, actor)
    return True


async def _contacted(gateway: Gateway, added: list[WorkerId]) -> None:
    """Waits until each was asked, or the time for that has passed."""
    waits = [gateway.workers[one].contacted.wait() for one in added if one in gateway.workers]
    try:
        async with asyncio.timeout(gateway.settings.health_timeout_s + CONTACT_SLACK_S):
            await asyncio.gather(*waits)
    except TimeoutError:
        pass  # their status says "starting"
