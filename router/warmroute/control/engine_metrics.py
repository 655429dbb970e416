"""GET /engine_metrics: the metrics pages of all workers as one, for who scrapes the router alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from warmroute.control.errors import Refused, refusals_in_json
from warmroute.fanout import Shared, ask, over
from warmroute.gateway import Gateway
from warmroute.metrics.family import TEXT
from warmroute.metrics.merged import merged
from warmroute.wire.replies import RouterError

log = logging.getLogger("warmroute")

# 256 vLLM workers of one model; the pages of workers beyond it are left out, and the log says so.
_PAGES_BYTES_MAX: Final = 64 << 20

# Two Prometheus replicas scrape together; a page that is a second old is as good.
_FRESH_S: Final = 1.0


def endpoints(gateway: Gateway) -> APIRouter:
    """/engine_metrics, open as /metrics is."""
    router = APIRouter(tags=["health"])
    shared: Shared[list[bytes]] = Shared(_FRESH_S)

    @router.get(
        "/engine_metrics",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Metrics"},
            **refusals_in_json(502, 503),
        },
    )
    async def engine_metrics() -> Response:
        """The `/metrics` of every worker, each sample with the label `worker`. A worker that does not answer
        is missing; 502 when all are."""
        if not gateway.workers:
            raise Refused(RouterError(503, "no_worker", "there are no workers"))
        pieces = await shared.get(lambda: _collect(gateway))
        if not pieces:
            raise Refused(RouterError(502, "worker_failed", "no worker answered GET /metrics"))
        return StreamingResponse(_one_by_one(pieces), headers={"content-type": TEXT})

    return router


async def _collect(gateway: Gateway) -> list[bytes]:
    """The merged page in pieces; none when no worker answered."""
    room, left_out = _PAGES_BYTES_MAX, 0
    pages: list[tuple[str, str]] = []

    async def one(worker: str) -> None:
        nonlocal room, left_out
        if room <= 0:
            left_out += 1
            return
        answer = await ask(gateway, worker, "GET", ("/metrics",), gateway.settings.engine_call_timeout_s)
        if answer.ok:
            room -= len(answer.body)
            pages.append((worker, answer.body.decode("utf-8", "replace")))

    await over(list(gateway.workers), one)
    if left_out:
        log.warning("engine metrics are left out: the pages are too large", extra={"workers": left_out})
    pages.sort()
    return await asyncio.to_thread(lambda: [piece.encode() for piece in merged(pages)])


async def _one_by_one(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)
