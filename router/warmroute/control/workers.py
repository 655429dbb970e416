"""The fleet while it runs: list, add, change, drain and remove workers.

A worker's id is its URL, `http://host:port`. In a path it stands percent-encoded, as it is, or as
`host:port`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from warmroute.config.backends import Backend, worker_url
from warmroute.config.kinds import Positive
from warmroute.config.presets import preset_name
from warmroute.control.auth import admin_guard
from warmroute.control.errors import Refused
from warmroute.control.health import able_workers
from warmroute.control.views import WorkerView, worker_view
from warmroute.gateway import Gateway
from warmroute.removal import Removals
from warmroute.wire.replies import RouterError
from warmroute_policies.types import WorkerId

log = logging.getLogger("warmroute")

# A long stream fits, as when the router itself stops (`shutdown_grace_s`).
_DEADLINE_S = 180.0
_DEADLINE_MAX_S = 86400.0

# Beyond the check's own deadline, so that its verdict is seen.
_CONTACT_SLACK_S = 1.0

# Clients and proxies that tidy paths make one slash of two.
_SCHEME = re.compile(r"^http:/{1,2}", re.IGNORECASE)


class NewWorker(BaseModel):
    """A worker to be added; all but the URL is optional."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, AfterValidator(worker_url)]
    models: list[Annotated[str, Field(min_length=1)]] = []
    """Names of the models it serves; none: asked at its /v1/models."""
    weight: Positive = 1.0
    """Relative speed."""
    kv_capacity_tokens: int | None = Field(default=None, ge=1)
    """None: read from the engine where it tells, else learned."""
    preset: Annotated[str, AfterValidator(preset_name)] | None = None
    """Latency preset; None: the fleet's."""


class WorkerChange(BaseModel):
    """What a PATCH changes; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    draining: bool | None = None
    """True: no new requests. False: back in service, a removal under way is called off."""
    weight: Positive | None = None
    deadline_s: float | None = Field(default=None, gt=0, le=_DEADLINE_MAX_S)
    """With `draining: true`: what still runs then goes to another worker, or is cut where the client has a
    part of the answer."""

    @model_validator(mode="after")
    def _drains_by_then(self) -> WorkerChange:
        if self.deadline_s is not None and not self.draining:
            raise ValueError("deadline_s needs draining: true")
        return self


class WorkerList(BaseModel):
    """All workers, in the order in which they came."""

    workers: list[WorkerView]
    total: int
    healthy: int
    """Those that can take a request now."""


class RemovalView(BaseModel):
    """What a DELETE brought about."""

    id: str
    status: Literal["removed", "draining"]
    inflight_requests: int
    message: str


def endpoints(gateway: Gateway, removals: Removals) -> APIRouter:
    """/workers, behind an admin key."""
    router = APIRouter(tags=["workers"], dependencies=[Depends(admin_guard(gateway.settings))])

    def view(worker_id: WorkerId) -> WorkerView:
        return worker_view(gateway, worker_id, removals.due_at(worker_id))

    def find(text: str) -> WorkerId:
        try:
            worker_id = worker_url("http://" + _SCHEME.sub("", text))
        except ValueError:
            worker_id = text
        if worker_id not in gateway.workers:
            raise Refused(
                RouterError(404, "worker_not_found", f"there is no worker {text!r}; GET /workers lists them")
            )
        return worker_id

    @router.get("/workers")
    async def list_workers() -> WorkerList:
        """All workers with their books: requests in flight, queued work, what they are believed to hold."""
        views = [view(worker_id) for worker_id in gateway.workers]
        return WorkerList(workers=views, total=len(views), healthy=able_workers(gateway))

    @router.post("/workers", status_code=201)
    async def add_worker(new: NewWorker, response: Response) -> WorkerView:
        """Adds a worker and asks it who it is; the answer says whether it was reached. One that was not
        stays in the list, is asked again every `health_interval_s`, and gets requests once it is well."""
        backend = Backend(
            url=new.url,
            model=tuple(new.models),
            weight=new.weight,
            kv_capacity_tokens=new.kv_capacity_tokens,
            preset=new.preset,
        )
        if backend.url in gateway.workers:
            raise Refused(
                RouterError(409, "worker_exists", f"there is a worker {backend.url} already", param="url")
            )
        worker = gateway.workers.add(backend, trusted=False, added_by="admin")
        log.info("worker added", extra={"worker": backend.url})
        patience_s = gateway.settings.health_timeout_s + _CONTACT_SLACK_S
        try:
            async with asyncio.timeout(patience_s):
                await worker.contacted.wait()
        except TimeoutError:
            pass  # its status says "starting"
        if gateway.workers.get(backend.url) is not worker:
            raise Refused(RouterError(409, "worker_removed", f"{backend.url} was removed while it was added"))
        response.headers["location"] = "/workers/" + backend.url.removeprefix("http://")
        return view(backend.url)

    @router.get("/workers/{worker:path}")
    async def get_worker(worker: str) -> WorkerView:
        """One worker."""
        return view(find(worker))

    @router.patch("/workers/{worker:path}")
    async def change_worker(worker: str, change: WorkerChange) -> WorkerView:
        """Drains a worker, takes it back into service, or sets its weight."""
        worker_id = find(worker)
        if change.weight is not None:
            known = gateway.workers[worker_id]
            backend = known.backend.model_copy(update={"weight": change.weight})
            gateway.workers.describe(worker_id, backend, known.learned)
        if change.draining is not None:
            if not change.draining:
                removals.cancel(worker_id)
            gateway.workers[worker_id].drained_by_hand = change.draining
            log.info(
                "worker drains" if change.draining else "worker taken back",
                extra={"worker": worker_id, "by": "admin"},
            )
            gateway.workers.drain(worker_id, change.draining)
            if change.deadline_s is not None:
                removals.clear(worker_id, change.deadline_s)
        return view(worker_id)

    @router.delete("/workers/{worker:path}", responses={202: {"description": "Draining, removed later"}})
    async def remove_worker(
        worker: str,
        response: Response,
        drain: Annotated[bool, Query(description="Let its requests end first.")] = True,
        deadline_s: Annotated[
            float, Query(gt=0, le=_DEADLINE_MAX_S, description="Removed after this time in any case.")
        ] = _DEADLINE_S,
    ) -> RemovalView:
        """Removes a worker. With requests in flight it gets no new ones, and 202 is answered: it goes when
        they have ended or the deadline has passed. `drain=false` removes it at once; answers that are on
        their way still arrive."""
        worker_id = find(worker)
        in_flight = removals.in_flight(worker_id)
        if drain and in_flight:
            removals.begin(worker_id, deadline_s)
            response.status_code = 202
            text = f"no new requests; removed when {in_flight} in flight have ended, or in {deadline_s:g} s"
            return RemovalView(id=worker_id, status="draining", inflight_requests=in_flight, message=text)
        removals.remove_now(worker_id)
        text = "removed" if not in_flight else f"removed; {in_flight} answers are still on their way"
        return RemovalView(id=worker_id, status="removed", inflight_requests=in_flight, message=text)

    return router
