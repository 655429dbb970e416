"""The files and batches of all workers as one list each, in OpenAI's shape.

Rules kept. Every worker is asked for all of its pages, so that order, `after` and `limit` mean what they say
over the whole fleet. What a worker lists is bounded. A worker that does not answer is left out of the list,
and the answer says so.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from warmroute.control.auth import client_guard
from warmroute.control.errors import Refused
from warmroute.gateway import Gateway
from warmroute.owner_search import Fields
from warmroute.wire.replies import RouterError
from warmroute_policies.types import WorkerId

# As much as OpenAI lists of files at a time; also what is read of one worker.
_LISTED_MAX = 10_000

SILENT = "x-router-silent-workers"
"""How many workers are not in the list because they did not answer."""


class _Page(msgspec.Struct):
    """What an engine lists."""

    data: list[dict[str, Any]]
    has_more: bool = False


class _Silent(Exception):
    """A worker did not answer, or not with a list."""


_DECODE = msgspec.json.Decoder(_Page).decode


def endpoints(gateway: Gateway) -> APIRouter:
    """GET /v1/files and /v1/batches. What they list is asked for where it is kept."""
    router = APIRouter(tags=["stored objects"], dependencies=[Depends(client_guard(gateway))])

    @router.get("/v1/files")
    @router.get("/v1/batches")
    async def list_stored(
        request: Request,
        response: Response,
        after: Annotated[str | None, Query(description="Continue behind this id.")] = None,
        limit: Annotated[int, Query(ge=1, le=_LISTED_MAX)] = _LISTED_MAX,
        order: Annotated[Literal["asc", "desc"], Query(description="By time of creation.")] = "desc",
    ) -> dict[str, Any]:
        """What all workers keep, the newest first. Other parameters are the workers' own."""
        own = [(name, text) for name, text in request.query_params.multi_items() if name not in _OURS]
        found, silent = await _all(gateway, request.url.path, own, request.headers.raw)
        if silent:
            response.headers[SILENT] = str(silent)
        found.sort(key=_age, reverse=order == "desc")
        if after is not None:
            place = next((at for at, thing in enumerate(found) if thing.get("id") == after), None)
            if place is None:
                text = f"`after`: {after} is not in the list"
                raise Refused(RouterError(400, "invalid_value", text, param="after"))
            found = found[place + 1 :]
        data = found[:limit]
        return {
            "object": "list",
            "data": data,
            "first_id": data[0].get("id") if data else None,
            "last_id": data[-1].get("id") if data else None,
            "has_more": len(found) > limit,
        }

    return router


_OURS = ("after", "limit", "order")


def _age(thing: dict[str, Any]) -> tuple[float, str]:
    at = thing.get("created_at")
    return (at if isinstance(at, int | float) else 0.0), str(thing.get("id"))


async def _all(
    gateway: Gateway, path: str, own: list[tuple[str, str]], fields: Fields
) -> tuple[list[dict[str, Any]], int]:
    """What the workers list, and how many did not answer. Raises Refused when no worker lists anything."""
    workers = list(gateway.workers)
    answers = await asyncio.gather(
        *(_of_worker(gateway, worker, path, own, fields) for worker in workers), return_exceptions=True
    )
    lists, silent = [], 0
    forbidden: Refused | None = None
    for answer in answers:
        if isinstance(answer, list):
            lists.append(answer)
        elif isinstance(answer, _Silent):
            silent += 1
        elif isinstance(answer, Refused):
            forbidden = answer
        elif answer is not None:
            raise answer
    if lists:
        return [thing for things in lists for thing in things], silent
    if forbidden is not None:
        raise forbidden
    if silent or not workers:
        text = f"{silent} of {len(workers)} workers did not answer, and no other lists anything at {path}"
        raise Refused(RouterError(503, "no_worker", text, retry_after_s=5))
    raise Refused(RouterError(404, "unknown_url", f"no worker serves GET {path}"))


async def _of_worker(
    gateway: Gateway, worker: WorkerId, path: str, own: list[tuple[str, str]], fields: Fields
) -> list[dict[str, Any]] | None:
    """All that it lists; None: it does not know the path. Raises _Silent, and Refused where the client's key
    is not one of the worker's."""
    found: list[dict[str, Any]] = []
    after: list[tuple[str, str]] = []
    while len(found) < _LISTED_MAX:
        query = urlencode([*own, *after])
        told = await gateway.owner_search.ask(worker, f"{path}?{query}" if query else path, fields)
        if told.status in (404, 405):
            return None
        if told.status in (401, 403):
            raise Refused(RouterError(told.status, "invalid_api_key", f"{worker} refuses this API key"))
        try:
            page = _DECODE(told.body) if 200 <= told.status < 300 else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            page = None
        if page is None:
            raise _Silent
        before, after = after, [("after", str(page.data[-1].get("id")))] if page.data else []
        if after == before:
            break  # nothing more, or an engine that does not know `after` and says the same again
        found += page.data
        if not page.has_more:
            break
    return found[:_LISTED_MAX]
