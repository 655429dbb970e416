"""Is the process there, may it get requests, and what did it count."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from warmroute.gateway import Gateway
from warmroute.metrics import RouterCollector


def endpoints(gateway: Gateway) -> APIRouter:
    """/health, /liveness, /readiness and /metrics, open to all."""
    router = APIRouter(tags=["health"])

    @router.head("/liveness", include_in_schema=False)
    @router.get("/liveness")
    @router.head("/health", include_in_schema=False)
    @router.get("/health")
    async def health() -> dict[str, str]:
        """200 while the process serves, with or without workers."""
        return {"status": "ok"}

    @router.head("/readiness", include_in_schema=False)
    @router.get("/readiness")
    async def readiness(response: Response) -> dict[str, str | int]:
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
            return {"status": "ready", "healthy_workers": able, "total_workers": total}
        response.status_code = 503
        return {"status": "not ready", "reason": reason, "healthy_workers": able, "total_workers": total}

    own = RouterCollector(gateway)
    process = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=process)

    @router.get("/metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        """Everything that is counted, in the text format of Prometheus or OpenMetrics."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        snapshot = own.snapshot()

        def page() -> bytes:
            return encode(_Families([*own.families(snapshot), *process.collect()]))

        return Response(await asyncio.to_thread(page), headers={"content-type": content_type})

    return router


class _Families(CollectorRegistry):
    """A registry as the encoders want one: families that were collected before."""

    def __init__(self, families: list[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Reads."""
        return iter(self._families)


def able_workers(gateway: Gateway) -> int:
    """Reads. Workers that may take a request now."""
    fleet = gateway.balancer.fleet
    return sum(fleet.healthy[slot] and not fleet.draining[slot] for slot, _ in fleet.slots())
