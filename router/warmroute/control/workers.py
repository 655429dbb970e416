"""The fleet while it runs: list, add, change, drain and remove workers, one at a time.

A worker's id is its URL, `http://host:port` or `https://host:port`: one that an operator knows without
asking, that says the same to every replica and after a restart. In a path it stands percent-encoded, as it
is, or as `host:port`. Many at a time are the business of `fleet`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    WithJsonSchema,
    model_validator,
)

from warmroute import audit
from warmroute.config.backends import HOST_NAME, Backend, TlsName, worker_url
from warmroute.config.kinds import Weight
from warmroute.config.presets import preset_name
from warmroute.control.admission import check_allowed
from warmroute.control.audited import actor_of, changing_route
from warmroute.control.auth import change_guard, view_guard
from warmroute.control.errors import Refused, refusals
from warmroute.control.health import able_workers
from warmroute.control.views import WorkerView, worker_view
from warmroute.gateway import Gateway
from warmroute.removal import Removals
from warmroute.wire.replies import RouterError
from warmroute_policies.latency import PRESETS
from warmroute_policies.types import WorkerId

log = logging.getLogger("warmroute")

# A long stream fits, as when the router itself stops (`shutdown_grace_s`).
DEADLINE_S = 180.0
_DEADLINE_MAX_S = 86400.0

# Beyond the check's own deadline, so that its verdict is seen.
CONTACT_SLACK_S = 1.0

# Clients and proxies that tidy paths make one slash of two.
_SCHEME = re.compile(r"^(https?):/{1,2}", re.IGNORECASE)

WorkerUrl = Annotated[
    str,
    AfterValidator(worker_url),
    # For programs that read the description; the words of a refusal are `worker_url`'s.
    WithJsonSchema({"type": "string", "pattern": f"^https?://{HOST_NAME}(:[1-9][0-9]{{0,3}})?/?$"}),
]

Preset = Annotated[
    str, AfterValidator(preset_name), WithJsonSchema({"type": "string", "enum": sorted(PRESETS)})
]

Drain = Annotated[bool, Query(description="Let its requests end first.")]
Deadline = Annotated[
    float,
    Query(gt=0, le=_DEADLINE_MAX_S, allow_inf_nan=False, description="Removed after this time in any case."),
]


class NewWorker(BaseModel):
    """A worker to be added; all but the URL is optional."""

    model_config = ConfigDict(extra="forbid")

    url: WorkerUrl
    models: list[Annotated[str, Field(min_length=1)]] = []
    """Names of the models it serves; none: asked at its /v1/models."""
    weight: Weight = 1.0
    """Relative speed."""
    kv_capacity_tokens: int | None = Field(default=None, ge=1)
    """None: read from the engine where it tells, else learned."""
    preset: Preset | None = None
    """Latency preset; None: the fleet's."""
    tls_name: TlsName | None = None
    """With https://: the name that its certificate must show; None: the URL's host."""
    max_inflight: int | None = Field(default=None, ge=1)
    """Requests that it may have in flight; None: as all others."""
    model_id: Annotated[str, Field(min_length=1)] | None = None
    """One more name of a model, as sglang-router's clients give it."""
    worker_type: Literal["regular"] = "regular"

    @model_validator(mode="after")
    def _name_is_of_use(self) -> Self:
        if self.tls_name is not None and not self.url.startswith("https://"):
            raise ValueError("tls_name is for workers with https://")
        return self

    def backend(self) -> Backend:
        """The worker as an operator would list it."""
        names = self.models if self.model_id is None else [*self.models, self.model_id]
        return Backend(
            url=self.url,
            model=tuple(dict.fromkeys(names)),
            weight=self.weight,
            kv_capacity_tokens=self.kv_capacity_tokens,
            preset=self.preset,
            tls_name=self.tls_name,
            max_inflight=self.max_inflight,
        )


class WorkerChange(BaseModel):
    """What a PATCH changes; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    draining: StrictBool | None = None
    """True: no new requests. False: back in service, a removal under way is called off."""
    weight: Weight | None = None
    max_inflight: int | None = Field(default=None, ge=1)
    """Requests that it may have in flight."""
    deadline_s: float | None = Field(default=None, gt=0, le=_DEADLINE_MAX_S, allow_inf_nan=False)
    """With `draining: true`: what still runs then goes to another worker, or is cut where the client has a
    part of the answer."""

    @model_validator(mode="after")
    def _drains_by_then(self) -> Self:
        if self.deadline_s is not None and not self.draining:
            raise ValueError("deadline_s needs draining: true")
        return self


class WorkerList(BaseModel):
    """All workers, in the order in which they came."""

    workers: list[WorkerView]
    total: int
    healthy: int
    """Those that can take a request now."""
    stats: dict[str, int]
    """As sglang-router counts them: `regular_count`, and none for prefill or decode alone."""


class AddedWorker(WorkerView):
    """A worker that was added; the last two fields are for sglang-router's clients."""

    worker_id: str
    """The same as `id`."""
    location: str
    """Its own place."""


class RemovalView(BaseModel):
    """What a DELETE brought about."""

    id: str
    status: Literal["removed", "draining"]
    inflight_requests: int
    message: str


def find_worker(gateway: Gateway, text: str) -> WorkerId:
    """Reads. A worker by its URL, however it is written. Raises Refused."""
    named = _SCHEME.match(text)
    for scheme in ("http", "https") if named is None else (named[1],):
        try:
            worker_id = worker_url(f"{scheme}://{_SCHEME.sub('', text)}")
        except ValueError:
            continue
        if worker_id in gateway.workers:
            return worker_id
    if text not in gateway.workers:
        raise Refused(
            RouterError(404, "worker_not_found", f"there is no worker {text!r}; GET /workers lists them")
        )
    return text


async def add_one(gateway: Gateway, new: NewWorker, request: Request) -> WorkerId:
    """Writes. Adds a worker and waits for what its first check says. Raises Refused."""
    backend = new.backend()
    await check_allowed(gateway, backend.url)
    if backend.url in gateway.workers:
        raise Refused(
            RouterError(409, "worker_exists", f"there is a worker {backend.url} already", param="url")
        )
    worker = gateway.workers.add(backend, trusted=False, added_by="admin")
    log.info("worker added", extra={"worker": backend.url})
    audit.tell("add_worker", backend.url, actor_of(request), after=str(backend))
    try:
        async with asyncio.timeout(gateway.settings.health_timeout_s + CONTACT_SLACK_S):
            await worker.contacted.wait()
    except TimeoutError:
        pass  # its status says "starting"
    if gateway.workers.get(backend.url) is not worker:
        raise Refused(RouterError(409, "worker_removed", f"{backend.url} was removed while it was added"))
    return backend.url


def change_one(gateway: Gateway, worker_id: WorkerId, change: WorkerChange, request: Request) -> None:
    """Writes. Drains a worker, takes it back, or sets its weight or its limit."""
    known, actor = gateway.workers[worker_id], actor_of(request)
    facts = change.model_dump(include={"weight", "max_inflight"}, exclude_none=True)
    if facts:
        before = {name: getattr(known.backend, name) for name in facts}
        gateway.workers.describe(worker_id, known.backend.model_copy(update=facts), known.learned)
        audit.tell("change_worker", worker_id, actor, before=before, after=facts)
    if change.draining is not None:
        fleet = gateway.balancer.fleet
        before = {"draining": fleet.draining[fleet.slot_of[worker_id]]}
        if not change.draining:
            gateway.removals.cancel(worker_id)
        known.drained_by_hand = change.draining
        log.info(
            "worker drains" if change.draining else "worker taken back",
            extra={"worker": worker_id, "by": "admin"},
        )
        gateway.workers.drain(worker_id, change.draining)
        if change.deadline_s is not None:
            gateway.removals.clear(worker_id, change.deadline_s)
        audit.tell("drain_worker", worker_id, actor, before=before, after={"draining": change.draining})


def endpoints(gateway: Gateway, removals: Removals) -> APIRouter:
    """/workers, behind an admin key."""
    router = APIRouter(tags=["workers"], responses=refusals(401, 403))
    views = APIRouter(dependencies=[Depends(view_guard(gateway))])
    changes = APIRouter(dependencies=[Depends(change_guard(gateway))], route_class=changing_route())

    def view(worker_id: WorkerId) -> WorkerView:
        return worker_view(gateway, worker_id, removals.due_at(worker_id))

    @views.get("/workers")
    async def list_workers() -> WorkerList:
        """All workers with their books: requests in flight, queued work, what they are believed to hold."""
        shown = [view(worker_id) for worker_id in gateway.workers]
        stats = {"prefill_count": 0, "decode_count": 0, "regular_count": len(shown)}
        return WorkerList(workers=shown, total=len(shown), healthy=able_workers(gateway), stats=stats)

    @changes.post("/workers", status_code=201, responses=refusals(400, 409, 422))
    async def add_worker(new: NewWorker, request: Request, response: Response) -> AddedWorker:
        """Adds a worker and asks it who it is; the answer says whether it was reached. One that was not
        stays in the list, is asked again every `health_interval_s`, and gets requests once it is well."""
        worker_id = await add_one(gateway, new, request)
        location = "/workers/" + worker_id.removeprefix("http://")
        response.headers["location"] = location
        return AddedWorker(**view(worker_id).model_dump(), worker_id=worker_id, location=location)

    @views.get("/workers/{worker:path}", responses=refusals(404))
    async def get_worker(worker: str) -> WorkerView:
        """One worker."""
        return view(find_worker(gateway, worker))

    @changes.patch("/workers/{worker:path}", responses=refusals(400, 404, 422))
    async def change_worker(worker: str, change: WorkerChange, request: Request) -> WorkerView:
        """Drains a worker, takes it back into service, or sets its weight or its limit."""
        worker_id = find_worker(gateway, worker)
        change_one(gateway, worker_id, change, request)
        return view(worker_id)

    @changes.delete(
        "/workers/{worker:path}",
        responses={
            202: {"model": RemovalView, "description": "Draining, removed later"},
            **refusals(404, 422),
        },
    )
    async def remove_worker(
        worker: str,
        request: Request,
        response: Response,
        drain: Drain = True,
        deadline_s: Deadline = DEADLINE_S,
    ) -> RemovalView:
        """Removes a worker. With requests in flight it gets no new ones, and 202 is answered: it goes when
        they have ended or the deadline has passed. `drain=false` removes it at once; answers that are on
        their way still arrive."""
        worker_id = find_worker(gateway, worker)
        in_flight, actor = removals.in_flight(worker_id), actor_of(request)
        if drain and in_flight:
            removals.begin(worker_id, deadline_s)
            response.status_code = 202
            text = f"no new requests; removed when {in_flight} in flight have ended, or in {deadline_s:g} s"
            audit.tell("drain_worker", worker_id, actor, after=f"removed in {deadline_s:g} s at the latest")
            return RemovalView(id=worker_id, status="draining", inflight_requests=in_flight, message=text)
        removals.remove_now(worker_id)
        text = "removed" if not in_flight else f"removed; {in_flight} answers are still on their way"
        audit.tell("remove_worker", worker_id, actor)
        return RemovalView(id=worker_id, status="removed", inflight_requests=in_flight, message=text)

    router.include_router(views)
    router.include_router(changes)
    return router
