"""Endpoints by the names that sglang-router and vllm-router have for them, for scripts that know those.

What differs is on purpose: a load is this router's own count, exact and never -1; a worker that is not there
cannot be removed, which is told. `/get_server_info` and `/get_model_info` are the answer of the first worker
that can take requests, unchanged.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from warmroute import audit
from warmroute.control.audited import actor_of, changing_route
from warmroute.control.auth import change_guard, view_guard
from warmroute.control.errors import Refused, refusals, refusals_in_json, reply
from warmroute.control.workers import NewWorker, WorkerUrl, add_one, find_worker
from warmroute.fanout import Answer, Shared, ask
from warmroute.gateway import Gateway
from warmroute.wire.replies import RouterError
from warmroute_policies.types import WorkerId

# SGLang has renamed them; older scripts and engines know the longer name.
_SERVER_INFO: Final = ("/get_server_info", "/server_info")
_MODEL_INFO: Final = ("/get_model_info", "/model_info")

# Each one lets an engine compute a token: balancers that ask ten times a second share an answer.
_HEALTH_FRESH_S: Final = 1.0

# Workers that are asked before there is no answer: a fleet that is down is not asked for minutes.
_TRIED_MAX: Final = 3

_NOBODY: Final = RouterError(503, "no_worker", "no worker can take a request now", retry_after_s=1)

_Url = Annotated[WorkerUrl, Query(description="http://host:port")]
_ANY: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "A worker's own answer", "content": {"application/json": {"schema": {}}}}
}


class Load(BaseModel):
    """Requests in flight on one worker."""

    worker: str
    load: int


class Loads(BaseModel):
    """Of all workers."""

    workers: list[Load]


class Urls(BaseModel):
    """All workers."""

    urls: list[str]


def endpoints(gateway: Gateway) -> APIRouter:
    """The peers' names: some open, most behind an admin key."""
    router = APIRouter(tags=["peers' names"])
    views = APIRouter(dependencies=[Depends(view_guard(gateway))], responses=refusals(401, 403))
    changes = APIRouter(dependencies=[Depends(change_guard(gateway))], route_class=changing_route())

    @views.get("/get_loads")
    async def get_loads() -> Loads:
        """Requests in flight on each worker, by this router's books."""
        fleet = gateway.balancer.fleet
        return Loads(
            workers=[
                Load(worker=spec.worker_id, load=fleet.own_inflight(slot)) for slot, spec in fleet.slots()
            ]
        )

    @views.get("/list_workers")
    async def list_urls() -> Urls:
        """The URLs of all workers."""
        return Urls(urls=list(gateway.workers))

    @views.get("/server_info", include_in_schema=False)
    @views.get("/get_server_info", response_class=Response, responses=_ANY | refusals(404, 502, 503))
    async def get_server_info() -> Response:
        """What the first worker that can take requests says of itself."""
        return _passed_on(await _first(gateway, _SERVER_INFO))

    @views.get("/model_info", include_in_schema=False)
    @views.get("/get_model_info", response_class=Response, responses=_ANY | refusals(404, 502, 503))
    async def get_model_info() -> Response:
        """What the first worker that can take requests says of its model."""
        return _passed_on(await _first(gateway, _MODEL_INFO))

    @changes.post(
        "/add_worker", response_class=PlainTextResponse, responses=refusals_in_json(401, 403, 409, 422)
    )
    async def add_worker_by_url(url: _Url, request: Request) -> str:
        """As `POST /workers` with nothing but the URL; the answer is text."""
        worker_id = await add_one(gateway, NewWorker(url=url), request)
        return f"Successfully added worker: {worker_id}"

    @changes.post(
        "/remove_worker", response_class=PlainTextResponse, responses=refusals_in_json(401, 403, 404, 422)
    )
    async def remove_worker_by_url(url: _Url, request: Request) -> str:
        """As `DELETE /workers/{url}?drain=false`: gone at once, answers on their way still arrive."""
        worker_id = find_worker(gateway, url)
        gateway.removals.remove_now(worker_id)
        audit.tell("remove_worker", worker_id, actor_of(request))
        return f"Successfully removed worker: {worker_id}"

    generated: Shared[Answer | None] = Shared(_HEALTH_FRESH_S)

    @router.get("/health_generate", response_class=PlainTextResponse, responses=refusals_in_json(503))
    async def health_generate() -> Response:
        """200 when a worker that can take requests has just computed a token (as SGLang's check does), or
        is healthy where its engine has no such check. Who asks within a second shares an answer."""
        answer = await generated.get(
            lambda: _first(gateway, ("/health_generate", gateway.settings.health_path))
        )
        if answer is None or not answer.ok:
            why = "" if answer is None else f": {answer.worker} {answer.why}"
            return reply(RouterError(503, "no_worker", f"no worker could compute a token{why}"))
        return PlainTextResponse(f"{answer.worker} answered")

    router.include_router(views)
    router.include_router(changes)
    return router


async def _first(gateway: Gateway, paths: tuple[str, ...]) -> Answer | None:
    """The answer of the first able worker that gives one; None: no worker is able."""
    found: Answer | None = None
    for worker in _able(gateway)[:_TRIED_MAX]:
        found = await ask(gateway, worker, "GET", paths, gateway.settings.engine_call_timeout_s)
        if found.status and found.status < 500:
            break
    return found


def _able(gateway: Gateway) -> list[WorkerId]:
    fleet = gateway.balancer.fleet
    return [
        spec.worker_id for slot, spec in fleet.slots() if fleet.healthy[slot] and not fleet.draining[slot]
    ]


def _passed_on(answer: Answer | None) -> Response:
    """Raises Refused."""
    if answer is None:
        raise Refused(_NOBODY)
    if answer.status in (404, 405, 501):
        text = f"the engine of {answer.worker} does not know this: it {answer.why}"
        raise Refused(RouterError(404, "unknown_to_engine", text))
    if not answer.ok:
        raise Refused(RouterError(502, "worker_failed", f"{answer.worker} {answer.why}"))
    headers = {"x-router-worker": answer.worker}
    return Response(answer.body, 200, headers, answer.content_type)
