"""The router's state as one JSON document, made once a second for all who watch.

Rules kept. Lists are bounded, and what is listed is the most recent or the largest. It yields to the loop
between workers: 256 of them take some milliseconds, and no request waits for all of that.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from math import isfinite
from time import monotonic, time
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import BaseModel

from warmroute.control.views import worker_view
from warmroute.live.decisions import NAME_MAX
from warmroute.live.history import STEP_S, History

if TYPE_CHECKING:
    from warmroute.gateway import Gateway

MODELS_MAX = 100
SESSIONS_MAX = 20
PREFIXES_MAX = 20

# A view takes about 30 µs: a quarter of a millisecond at a time.
_WORKERS_AT_A_TIME = 8


class Snapshots:
    """State: when the router started, and its version."""

    def __init__(self, gateway: Gateway, history: History) -> None:
        self._gateway, self._history = gateway, history
        self._started = monotonic()
        self._version = version("warmroute")

    async def encoded(self) -> bytes:
        """Reads."""
        gateway, now = self._gateway, monotonic()
        document = {
            "at_s": round(time(), 3),
            "uptime_s": round(now - self._started, 3),
            "version": self._version,
            "policy": gateway.metrics.policy,
            "stopping": gateway.stopping,
            "models": gateway.balancer.models()[:MODELS_MAX],
            "session_header": next(iter(gateway.settings.session_header), None),
            "totals": self._totals(),
            "history": {"step_s": STEP_S, **self._history.points()._asdict()},
            "workers": await self._workers(),
            "prefixes": prefixes(gateway, now),
            "sessions": sessions(gateway, now),
            "live": self._history.ever()._asdict(),
            "shadows": shadows(gateway),
            "discovery": None if gateway.discovery is None else gateway.discovery.summary(),
        }
        return msgspec.json.encode(document)

    def _totals(self) -> dict[str, float | None]:
        gateway = self._gateway
        return {
            **self._history.minute()._asdict(),
            "in_flight": len(gateway.exchanges),
            "connections": len(gateway.clients),
        }

    async def _workers(self) -> list[msgspec.Raw]:
        gateway, found = self._gateway, list[msgspec.Raw]()
        for number, worker_id in enumerate(list(gateway.workers), 1):
            if worker_id in gateway.workers:  # it may leave between two turns of the loop
                view = worker_view(gateway, worker_id, gateway.removals.due_at(worker_id))
                shown = {**view.__dict__, "kv_share": kv_share(gateway, worker_id)}
                found.append(msgspec.Raw(msgspec.json.encode(shown, enc_hook=_plain)))
            if number % _WORKERS_AT_A_TIME == 0:
                await asyncio.sleep(0)
        return found


def kv_share(gateway: Gateway, worker_id: str) -> float | None:
    """Reads. How much of the worker's KV cache is believed to be occupied, 0 to 1; None: size unknown."""
    slot, index = gateway.balancer.fleet.slot_of[worker_id], gateway.balancer.index
    room = index.room(slot)
    return round(min(1.0, index.resident(slot) / room), 4) if isfinite(room) and room > 0 else None


def prefixes(gateway: Gateway, now: float) -> list[dict[str, Any]]:
    """Reads. The prefixes that saved most lately, and their shares of all that was saved."""
    hot = gateway.metrics.hot_prefixes
    return [
        {
            "prefix": f"{one.prefix:016x}",
            "parent": None if one.parent is None else f"{one.parent:016x}",
            "model": one.model[:NAME_MAX],
            "requests": round(one.requests),
            "saved_tokens": round(one.saved_tokens),
            "share": round(one.saved_tokens / hot.saved_tokens, 4) if hot.saved_tokens else 0.0,
            "seen_ago_s": round(now - one.seen_at, 3),
        }
        for one in hot.top(PREFIXES_MAX)
    ]


def sessions(gateway: Gateway, now: float) -> dict[str, Any]:
    """Reads. How sessions fare, and those that were seen last."""
    known = gateway.balancer.sessions
    return {
        "known": len(known),
        "turns_stayed": known.turns_stayed,
        "turns_moved": known.turns_moved,
        "recent": [
            {
                "session": name[:NAME_MAX],
                "worker": session.worker,
                "turns": session.turns,
                "moves": session.moves,
                "footprint_tokens": session.footprint_tokens,
                "seen_ago_s": round(now - session.last_seen_at, 3),
            }
            for name, session in known.recent(SESSIONS_MAX)
        ],
    }


def shadows(gateway: Gateway) -> list[dict[str, Any]]:
    """Reads. What other policies would have done."""
    return [
        {
            "policy": shadow.name,
            "decisions": shadow.decisions,
            "agreed_share": round(shadow.agreed / shadow.decisions, 4) if shadow.decisions else None,
            "predicted_hit_rate": round(shadow.predicted_hit_tokens / shadow.prompt_tokens, 4)
            if shadow.prompt_tokens
            else None,
            "failures": shadow.failures,
            "inflight": shadow.inflight(),
        }
        for shadow in gateway.shadows
    ]


def _plain(value: object) -> object:
    """A view within a view."""
    if isinstance(value, BaseModel):
        return value.__dict__
    raise TypeError(f"{type(value).__name__} is not meant for JSON")
