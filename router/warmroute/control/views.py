"""A worker as people and programs see it: what was declared, what was learned, how it is, what it does."""

from __future__ import annotations

from math import isfinite
from time import monotonic
from typing import Literal

from pydantic import BaseModel

from warmroute.gateway import Gateway
from warmroute.kv_events.worker import WorkerEvents
from warmroute.workers import Worker
from warmroute_policies.known import Tier
from warmroute_policies.resilience import Trust
from warmroute_policies.types import WorkerId


class CheckView(BaseModel):
    """The last active check."""

    passed: bool
    why: str | None
    """What was wrong."""
    ago_s: float


class KvEventsView(BaseModel):
    """What the worker tells of its cache."""

    state: Literal["exact", "partial", "approximate"]
    why: str
    """Why not more is known; empty: everything is."""
    block_tokens: int | None
    """Tokens of a block; null: not known."""
    blocks: dict[str, int]
    """Blocks that it is known to hold, by tier."""
    fingerprint: str
    """Equal where the same blocks are known, on other routers too."""
    batches: int
    last_batch: dict[str, int | None]
    """By data-parallel rank, the number of the last batch that was applied."""
    lag_s: float
    """Of the last batch; engines' clocks may differ from the router's."""


class ReportedView(BaseModel):
    """What the engine says of its load, and what of it is not this router's own."""

    requests: int | None
    """Running or waiting; null, as everywhere here: not told."""
    waiting_requests: int | None
    waiting_tokens: int | None
    """Prompt tokens that are to be computed."""
    kv_usage: float | None
    """Share of the KV cache that requests hold, 0 to 1."""
    told_by: str
    """A path of the engine's, `answers` (their heads) or `feed`."""
    ago_s: float
    foreign_requests: int
    """Of others: believed, and counted like the router's own when a worker is chosen."""
    foreign_prompt_tokens: int
    foreign_queue_s: float
    under_pressure: bool
    """Its KV cache is full (`kv_pressure_gate`): nothing new goes there while others have room."""


class WorkerView(BaseModel):
    """One worker."""

    id: str
    url: str
    models: list[str]
    """Empty: any."""
    status: Literal["starting", "healthy", "unhealthy", "ejected", "probing"]
    healthy: bool
    """May take requests, unless it drains."""
    draining: bool
    leaves_in_s: float | None
    """Removed after this time, or as soon as its requests have ended."""
    added_by: str
    """"configuration", "admin", or the kind of discovery: "file", "dns", "kubernetes"."""
    weight: float
    preset: str
    engine: str | None
    kv_capacity_tokens: int | None
    """Believed; null: not known, so nothing is believed evicted."""
    kv_capacity_from: Literal["operator", "engine", "settings", "answers", "nobody"]
    block_tokens: int
    prefill_us_per_token: float
    """Believed, of a token after no others; the preset's until answers tell more."""
    prefill_us_per_token_10k: float
    """What it costs more for every 10,000 tokens before it."""
    inflight_requests: int
    max_inflight: int | None
    """How many it may have; null: any number."""
    queued_prompt_tokens: int
    """Not cached, and of requests whose first token was not seen yet."""
    queued_prefill_s: float
    cache_crowding: float
    """How much of the KV cache holds what will be asked for again, 0 to 1."""
    resident_blocks: int
    kv_events: KvEventsView | None
    """null: it is not listened to (`kv_events`)."""
    idle_connections: int
    failures: dict[str, int]
    """Requests that failed by the worker's fault, by kind."""
    last_check: CheckView | None
    reported: ReportedView | None
    """Null: the engine has told nothing, or was not asked (`load_poll`)."""
    is_healthy: bool
    """The same as `healthy`; this and what follows has the names of sglang-router and vllm-router."""
    model_id: str
    """The first of its models; `unknown` where it serves any."""
    load: int
    """The same as `inflight_requests`."""
    worker_type: Literal["regular"] = "regular"
    connection_mode: Literal["HTTP"] = "HTTP"


def worker_view(gateway: Gateway, worker_id: WorkerId, leaves_at: float | None) -> WorkerView:
    """Reads."""
    worker = gateway.workers[worker_id]
    fleet = gateway.balancer.fleet
    slot = fleet.slot_of[worker_id]
    spec = fleet.spec(slot)
    now = monotonic()
    believed = fleet.kv_capacity_tokens[slot]
    cache = worker.learned.kv_cache
    return WorkerView(
        id=worker_id,
        url=worker_id,
        models=list(spec.models),
        status=_status(worker),
        healthy=fleet.healthy[slot],
        draining=fleet.draining[slot],
        leaves_in_s=None if leaves_at is None else round(max(0.0, leaves_at - now), 3),
        added_by=worker.added_by,
        weight=spec.weight,
        preset=spec.worker_class,
        engine=None if cache is None else cache.engine,
        kv_capacity_tokens=int(believed) if isfinite(believed) else None,
        kv_capacity_from=_capacity_from(worker, spec.kv_capacity_tokens, believed),
        block_tokens=spec.engine_block_tokens,
        prefill_us_per_token=round(fleet.linear_s[slot] * 1e6, 3),
        prefill_us_per_token_10k=round(fleet.quadratic_s[slot] * 1e10, 3),
        inflight_requests=fleet.own_inflight(slot),
        max_inflight=spec.max_inflight,
        queued_prompt_tokens=fleet.queued_tokens[slot] - fleet.foreign_tokens[slot],
        queued_prefill_s=round(fleet.queued_prefill_s[slot], 6),
        cache_crowding=round(fleet.crowding[slot], 6),
        resident_blocks=gateway.balancer.index.resident(slot),
        kv_events=_kv_events(gateway.kv_events.get(worker_id)),
        idle_connections=worker.pool.idle(),
        failures={
            kind: count
            for (failed, kind), count in gateway.metrics.worker_failures.items()
            if failed == worker_id
        },
        last_check=_last_check(worker, now),
        reported=_reported(gateway, worker_id, now),
        is_healthy=fleet.healthy[slot],
        model_id=spec.models[0] if spec.models else "unknown",
        load=fleet.own_inflight(slot),
    )


def _kv_events(events: WorkerEvents | None) -> KvEventsView | None:
    if events is None:
        return None
    state, why = events.state()
    return KvEventsView(
        state=state,
        why=why,
        block_tokens=events.block_tokens or None,
        blocks={tier.name.lower(): count for tier, count in zip(Tier, events.held(), strict=True)},
        fingerprint=events.fingerprint(),
        batches=events.counts.batches,
        last_batch={str(one.ledger.rank): one.stream.last for one in events.publishers},
        lag_s=round(events.counts.lag_s, 6),
    )


def _status(worker: Worker) -> Literal["starting", "healthy", "unhealthy", "ejected", "probing"]:
    if not worker.checks_passed:
        return "unhealthy" if worker.contacted.is_set() else "starting"
    if worker.ejector.trust is Trust.EJECTED:
        return "ejected"
    return "healthy" if worker.ejector.trust is Trust.TRUSTED else "probing"


def _capacity_from(
    worker: Worker, declared: int | None, believed: float
) -> Literal["operator", "engine", "settings", "answers", "nobody"]:
    if not isfinite(believed):
        return "nobody"
    if declared is None or int(believed) != declared:
        return "answers"
    if worker.backend.kv_capacity_tokens is not None:
        return "operator"
    cache = worker.learned.kv_cache
    return "settings" if cache is None or cache.capacity_tokens is None else "engine"


def _reported(gateway: Gateway, worker_id: WorkerId, now: float) -> ReportedView | None:
    told = gateway.loads.of(worker_id, now)
    if told is None:
        return None
    report = told.report
    return ReportedView(
        requests=report.requests,
        waiting_requests=report.waiting_requests,
        waiting_tokens=report.waiting_tokens,
        kv_usage=report.kv_usage,
        told_by=told.told_by,
        ago_s=round(told.age_s, 3),
        foreign_requests=told.foreign_requests,
        foreign_prompt_tokens=told.foreign_tokens,
        foreign_queue_s=round(told.foreign_queue_s, 6),
        under_pressure=told.under_pressure,
    )


def _last_check(worker: Worker, now: float) -> CheckView | None:
    checks = worker.checks
    if checks.last_at is None:
        return None
    return CheckView(passed=checks.why is None, why=checks.why, ago_s=round(now - checks.last_at, 3))
