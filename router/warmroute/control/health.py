"""Is the process there, may it get requests, and what did it count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import sleep
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest as text_of
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_of
from pydantic import BaseModel

from warmroute.gateway import Gateway
from warmroute.metrics import RouterCollector, page
from warmroute.metrics.family import OPENMETRICS, TEXT

# Twice as long as a slice of the page: the event loop has the interpreter for two thirds of the time.
_PAUSE_S = 0.0005


class Readiness(BaseModel):
    """Whether requests can be taken."""

    status: Literal["ready", "not ready"]
    reason: str | None = None
    """Left out where they can."""
    healthy_workers: int
    total_workers: int


def endpoints(gateway: Gateway) -> APIRouter:
    """/health, /liveness, /readiness and /metrics, open to all."""
    router = APIRouter(tags=["health"])

    @router.get("/liveness")
    @router.get("/health")
    async def health() -> dict[str, str]:
        """200 while the process serves, with or without workers."""
        return {"status": "ok"}

    @router.head("/readiness", include_in_schema=False)
    @router.get(
        "/readiness",
        response_model_exclude_none=True,
        responses={503: {"model": Readiness, "description": "No request can be taken"}},
    )
    async def readiness(response: Response) -> Readiness:
        """200 while requests can be taken: some worker is healthy and not draining, and the router is not
        stopping. Else 503, so that a balancer in front sends requests elsewhere."""
        total = len(gateway.workers)
        able = able_workers(gateway)
        if gateway.stopping:
            reason = "the router is stopping"
        elif not total:
            reason = "there are no workers"
        elif not able:
            reason = f"none of the {total} workers can take a request"
        else:
            return Readiness(status="ready", healthy_workers=able, total_workers=total)
        response.status_code = 503
        return Readiness(status="not ready", reason=reason, healthy_workers=able, total_workers=total)

    own = RouterCollector(gateway)
    process = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=process)

    @router.get("/metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        """Everything that is counted, in the text format of Prometheus or OpenMetrics."""
        openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
        snapshot = own.snapshot()

        def pieces() -> list[bytes]:
            of_process: bytes = (openmetrics_of if openmetrics else text_of)(process)
            return [*page(own.families(snapshot, _pause), openmetrics=openmetrics), of_process]

        content_type = OPENMETRICS if openmetrics else TEXT
        # In pieces: the loop would be busy for a millisecond with handing 1.6 MB to the kernel.
        made = _as_they_are_taken(await asyncio.to_thread(pieces))
        return StreamingResponse(made, headers={"content-type": content_type})

    return router


async def _as_they_are_taken(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


def _pause() -> None:
    """In the thread that makes a page."""
    sleep(_PAUSE_S)


def able_workers(gateway: Gateway) -> int:
    """Reads. Workers that may take a request now."""
    return len(gateway.balancer.eligible())
