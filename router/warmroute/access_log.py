"""One line per inference request, with what the person on call asks first: what came, where it went and why,
how much of it was cached, and how it ended.

A request that no worker was asked for has a line too, with the error's code. Fields of clients are escaped by
`logs`, and its thread writes the lines. Off unless asked for.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from warmroute.observers import REFUSED
from warmroute.tracing.context import trace_id_of
from warmroute.wire.replies import RouterError
from warmroute_policies.types import Decision, Outcome, RoutingRequest, Usage

if TYPE_CHECKING:
    from warmroute.client import ClientConnection
    from warmroute.exchange import Exchange
    from warmroute.plan import Plan

log = logging.getLogger("warmroute")


class AccessLog:
    """An observer. State: none."""

    def arrived(self, exchange: Exchange, request: RoutingRequest, now: float) -> None:
        """Nothing is written before the end."""

    def routed(self, exchange: Exchange, decision: Decision, now: float) -> None:
        """Nothing is written before the end."""

    def first_byte(self, exchange: Exchange, now: float) -> None:
        """Nothing is written before the end."""

    def finished(self, exchange: Exchange, outcome: Outcome, usage: Usage | None, now: float) -> None:
        """Writes."""
        decision = exchange.decision
        assert decision is not None
        ttft_s = exchange.ttft_s
        log.info(
            "request",
            extra=_request(exchange)
            | {
                "worker": decision.worker,
                "reason": decision.reason,
                "outcome": outcome.value,
                "status": exchange.status,
                "attempts": decision.attempt + 1,
                "prompt_tokens": decision.prompt_tokens if usage is None else usage.prompt_tokens,
                "predicted_hit_tokens": decision.predicted_hit_tokens,
                "reusable_tokens": decision.reusable_tokens,
                "cached_tokens": None if usage is None else usage.cached_tokens,
                "completion_tokens": None if usage is None else usage.completion_tokens,
                "ttft_s": None if ttft_s is None else round(ttft_s, 6),
                "duration_s": round(now - exchange.began_at, 6),
            },
        )

    def refused(self, exchange: Exchange, code: str, now: float) -> None:
        """Writes."""
        log.info(
            "request",
            extra=_request(exchange)
            | {
                "outcome": REFUSED,
                "status": exchange.status,
                "code": code,
                "duration_s": round(now - exchange.began_at, 6),
            },
        )

    def turned_away(self, error: RouterError, client: ClientConnection, plan: Plan | None) -> None:
        """Writes. A request that did not get as far as an exchange; without a plan not even its head could be
        read."""
        fields: dict[str, Any] = {"client": client.address}
        if plan is not None:
            name = plan.request_id
            fields |= {
                "request_id": None if name is None else name.decode("latin-1"),
                "method": plan.head.method,
                "path": plan.head.path,
                "session": plan.session,
            }
        log.info("request", extra=fields | {"outcome": REFUSED, "status": error.status, "code": error.code})


def _request(exchange: Exchange) -> dict[str, Any]:
    """What came."""
    plan, parsed = exchange.plan, exchange.parsed
    return {
        "request_id": exchange.request_id.decode("latin-1"),
        "trace_id": trace_id_of(exchange.trace_field),
        "client": exchange.client.address,
        "method": plan.head.method,
        "path": plan.head.path,
        "model": parsed.model,
        "session": plan.session or parsed.session,
        "stream": parsed.stream,
    }
