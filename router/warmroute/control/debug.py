"""What is going on in there: one JSON snapshot for the person on call. No secret and no prompt is in it."""

from __future__ import annotations

import platform
from heapq import nsmallest
from importlib.metadata import version
from time import monotonic, time
from typing import Any

import msgspec
from fastapi import APIRouter, Depends, Response

from warmroute.config.settings import FIELDS
from warmroute.config.show import plain_value
from warmroute.control.auth import view_guard
from warmroute.control.views import worker_view
from warmroute.exchange import Exchange
from warmroute.gateway import Gateway
from warmroute.removal import Removals

# The oldest are the interesting ones, and ten thousand would only be a long page.
_EXCHANGES_MAX = 200

_PACKAGES = ("warmroute", "uvloop", "httptools", "msgspec", "xxhash", "fastapi", "uvicorn", "httpx")


def endpoints(gateway: Gateway, removals: Removals) -> APIRouter:
    """/debug/state, behind an admin key."""
    router = APIRouter(tags=["debug"], dependencies=[Depends(view_guard(gateway))])
    started_at, started = time(), monotonic()
    versions = {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()}

    @router.get("/debug/state", response_class=Response)
    async def state() -> Response:
        """Workers with their books, sizes of everything remembered, requests in progress (the oldest 200),
        the settings in effect (keys masked), versions."""
        now = monotonic()
        oldest = nsmallest(_EXCHANGES_MAX, gateway.exchanges.values(), key=lambda exchange: exchange.began_at)
        document = {
            "started_at": started_at,
            "uptime_s": round(now - started, 3),
            "stopping": gateway.stopping,
            "policy": gateway.metrics.policy,
            "workers": [
                worker_view(gateway, worker_id, removals.due_at(worker_id)).model_dump()
                for worker_id in gateway.workers
            ],
            "discovery": None if gateway.discovery is None else gateway.discovery.view(),
            "models": gateway.balancer.models(),
            "memory": msgspec.to_builtins(gateway.balancer.statistics()),
            "client_connections": len(gateway.clients),
            "held_body_bytes": gateway.held_bytes,
            "admission": None if gateway.admission is None else gateway.admission.view(),
            "retries_allowed_now": round(gateway.retry_budget.fill(monotonic(), gateway.requests), 3),
            "exchanges": {
                "total": len(gateway.exchanges),
                "oldest": [_exchange(exchange, now) for exchange in oldest],
            },
            "settings": {name: plain_value(name, getattr(gateway.settings, name)) for name in FIELDS},
            "versions": versions,
        }
        return Response(msgspec.json.encode(document, enc_hook=_plain), media_type="application/json")

    return router


def _plain(value: object) -> object:
    """What msgspec does not know: a size is a subclass of int."""
    return int(value) if isinstance(value, int) else str(value)


def _exchange(exchange: Exchange, now: float) -> dict[str, Any]:
    decision = exchange.decision
    return {
        "request_id": exchange.request_id.decode("latin-1"),
        "age_s": round(now - exchange.began_at, 3),
        "model": exchange.parsed.model,
        "stream": exchange.parsed.stream,
        "worker": None if decision is None else decision.worker,
        "reason": None if decision is None else decision.reason,
        "attempt": 0 if decision is None else decision.attempt + 1,
        "prompt_tokens": None if decision is None else decision.prompt_tokens,
        "predicted_hit_tokens": None if decision is None else decision.predicted_hit_tokens,
        "status": exchange.status or None,
        "first_byte_after_s": round(exchange.first_byte_at - exchange.began_at, 3)
        if exchange.pieces
        else None,
        "pieces": exchange.pieces,
        "client_paused": exchange.client.paused,
    }
