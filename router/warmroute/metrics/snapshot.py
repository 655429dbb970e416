"""What grows, shrinks or belongs together, taken on the event loop in one go: 0.4 ms for 256 workers.

Counters within the series go on counting while a page is made of them elsewhere.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from warmroute.load.reports import Reported
from warmroute.series import Histogram, OutcomeKey, Series
from warmroute_policies.balancer import Statistics
from warmroute_policies.known import Tier
from warmroute_policies.resilience import Trust
from warmroute_policies.types import WorkerId

if TYPE_CHECKING:
    from warmroute.admission import Admission
    from warmroute.gateway import Gateway
    from warmroute.kv_events.worker import WorkerEvents
    from warmroute.tokens.service import Tokens

# As gauges of circuit breakers count: closed, half open, open.
_BREAKER = {Trust.TRUSTED: 0, Trust.DUE: 1, Trust.PROBING: 1, Trust.EJECTED: 2}

_HOTTEST = 10


class WorkerRow(NamedTuple):
    """One worker. The order is that of `workers.GAUGES`."""

    inflight: int
    decoding: int
    queued_prefill_s: float
    healthy: int
    breaker: int
    draining: int
    capacity_tokens: float
    crowding: float
    resident_blocks: int
    idle_connections: int


class ShadowRow(NamedTuple):
    """One shadow policy."""

    policy: str
    agreed: int
    differed: int
    prompt_tokens: int
    predicted_hit_tokens: int
    failures: int
    decision_s: Histogram
    workers: list[tuple[WorkerId, int, float]]
    """Requests that it would have in flight, and the prefill seconds that would wait."""


class TokensRow(NamedTuple):
    """Prompts as token ids."""

    told: list[tuple[str, int]]
    untold: list[tuple[str, int]]
    seconds: Histogram
    checks: list[tuple[str, int]]
    differences: list[tuple[str, int]]
    waiting: int
    memory_bytes: int


class SourceRow(NamedTuple):
    """One source of workers."""

    kind: str
    target: str
    workers: int
    syncs: int
    failures: int
    last_success_at: float | None
    """Seconds since 1970."""


class KvEventsRow(NamedTuple):
    """What one worker tells of its cache."""

    worker: WorkerId
    state: str
    blocks: list[tuple[str, int]]
    """By tier."""
    lag_s: float
    batches: int
    events: list[tuple[str, int]]
    gaps: int
    restarts: int
    replays: list[tuple[str, int]]
    errors: list[tuple[str, int]]
    stalls: int


class AdmissionRow(NamedTuple):
    """Who is let in; lists go by class."""

    classes: list[str]
    waiting: list[int]
    waited_s: list[Histogram]
    admitted: list[int]
    exits: list[list[tuple[str, int]]]
    tenant_tokens: list[tuple[str, int]]
    rate_limited: list[tuple[tuple[str, str], int]]


class Snapshot(NamedTuple):
    """As of one moment."""

    series: list[tuple[tuple[str, WorkerId], Series]]
    policy: str
    decisions: list[tuple[str, str, int]]
    """By policy and reason."""
    former_outcomes: list[tuple[str, OutcomeKey, int]]
    """What stands in `series` too and was counted under policies that are in charge no more."""
    retries: list[tuple[str, int]]
    retries_left: float
    hedges: list[tuple[str, int]]
    hedges_refused: list[tuple[str, int]]
    refusals: list[tuple[str, int]]
    connection_faults: list[tuple[str, int]]
    session_moves: list[tuple[str, int]]
    worker_failures: list[tuple[tuple[WorkerId, str], int]]
    worker_ejections: list[tuple[tuple[WorkerId, str], int]]
    worker_restarts: list[tuple[WorkerId, int]]
    lessons: list[tuple[str, int]]
    workers: list[tuple[WorkerId, WorkerRow]]
    hot_prefixes: list[float]
    """Tokens saved, the hottest first."""
    shadows: list[ShadowRow]
    sources: list[SourceRow]
    panicking_models: int
    statistics: Statistics
    index_max_bytes: float
    client_connections: int
    exchanges: int
    held_bytes: int
    spans_dropped: int
    owners: int
    owner_searches: list[tuple[str, int]]
    full_workers: int
    kv_events: list[KvEventsRow]
    kv_events_unmatched: int
    loads: list[tuple[WorkerId, Reported]]
    """Of those that have told anything."""
    load_questions: list[tuple[str, int]]
    load_asking_s: float
    admission: AdmissionRow | None
    tokens: TokensRow | None


def take_snapshot(gateway: Gateway) -> Snapshot:
    """Reads. To be called on the event loop."""
    metrics, balancer = gateway.metrics, gateway.balancer
    fleet, index = balancer.fleet, balancer.index
    rows = []
    for slot, spec in fleet.slots():
        worker = gateway.workers[spec.worker_id]
        rows.append(
            (
                spec.worker_id,
                WorkerRow(
                    fleet.own_inflight(slot),
                    fleet.own_inflight(slot) - fleet.waiting(slot),
                    fleet.queued_prefill_s[slot],
                    int(fleet.healthy[slot]),
                    _BREAKER[worker.ejector.trust],
                    int(fleet.draining[slot]),
                    fleet.kv_capacity_tokens[slot],
                    round(fleet.crowding[slot], 6),
                    index.resident(slot),
                    worker.pool.idle(),
                ),
            )
        )
    return Snapshot(
        list(metrics.series.items()),
        metrics.policy,
        [
            *(
                (metrics.policy, *row)
                for row in metrics.decisions_by_policy.of(metrics.policy, metrics.decisions)
            ),
            *metrics.decisions_by_policy.others(metrics.policy),
        ],
        list(metrics.outcomes_by_policy.others(metrics.policy)),
        list(metrics.retries.items()),
        gateway.retry_budget.fill(monotonic(), gateway.requests),
        list(metrics.hedges.items()),
        list(metrics.hedges_refused.items()),
        list(metrics.refusals.items()),
        list(metrics.connection_faults.items()),
        list(metrics.session_moves.items()),
        list(metrics.worker_failures.items()),
        list(metrics.worker_ejections.items()),
        list(metrics.worker_restarts.items()),
        [(lesson.value, count) for lesson, count in balancer.beliefs.lessons.items()],
        rows,
        [prefix.saved_tokens for prefix in metrics.hot_prefixes.top(_HOTTEST)],
        [shadow.row() for shadow in gateway.shadows],
        [] if gateway.discovery is None else [feed.row() for feed in gateway.discovery.sources],
        len(balancer.panicking()),
        balancer.statistics(),
        index.max_bytes,
        len(gateway.clients),
        len(gateway.exchanges),
        gateway.held_bytes,
        0 if gateway.tracing is None else gateway.tracing.dropped,
        len(gateway.owners),
        list(gateway.owner_search.outcomes.items()),
        len(fleet.full),
        [_kv_events_row(events) for events in gateway.kv_events.all()],
        gateway.kv_events.unmatched,
        _loads(gateway),
        list(gateway.loads.questions.items()),
        gateway.loads.asking_s,
        None if gateway.admission is None else _admission_row(gateway.admission),
        None if gateway.tokenizing is None else _tokens_row(gateway.tokenizing),
    )


def _tokens_row(tokens: Tokens) -> TokensRow:
    counts = tokens.counts
    return TokensRow(
        list(counts.told.items()),
        list(counts.untold.items()),
        counts.seconds,
        list(counts.checks.items()),
        list(counts.differences.items()),
        tokens.waiting,
        tokens.memory.bytes,
    )


def _kv_events_row(events: WorkerEvents) -> KvEventsRow:
    counts = events.counts
    return KvEventsRow(
        events.worker_id,
        events.state()[0],
        [(tier.name.lower(), count) for tier, count in zip(Tier, events.held(), strict=True)],
        round(counts.lag_s, 6),
        counts.batches,
        list(counts.events.items()),
        counts.gaps,
        counts.restarts,
        list(counts.replays.items()),
        list(counts.odds.items()),
        counts.stalls,
    )


def _loads(gateway: Gateway) -> list[tuple[WorkerId, Reported]]:
    now = monotonic()
    told = [(worker_id, gateway.loads.of(worker_id, now)) for worker_id in gateway.workers]
    return [(worker_id, reported) for worker_id, reported in told if reported is not None]


def _admission_row(admission: Admission) -> AdmissionRow:
    counts = admission.counts
    return AdmissionRow(
        counts.classes,
        admission.lengths(),
        counts.waited_s,
        list(counts.admitted),
        [list(exits.items()) for exits in counts.exits],
        list(counts.tenant_tokens.items()),
        list(counts.rate_limited.items()),
    )
