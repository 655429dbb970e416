"""What a router tells of itself. Fields that an older or newer router does not have are as empty."""

from __future__ import annotations

import msgspec


class Totals(msgspec.Struct, frozen=True):
    """Over the last minute; None: nothing came that could tell."""

    requests_per_s: float | None = None
    errors_per_s: float | None = None
    in_flight: int = 0
    connections: int = 0
    prompt_tokens_per_s: float | None = None
    actual_hit_rate: float | None = None
    predicted_hit_rate: float | None = None
    reusable_rate: float | None = None
    ttft_p50_s: float | None = None
    ttft_p99_s: float | None = None
    prefill_saved_s_per_s: float | None = None


Points = list[float | None]


class History(msgspec.Struct, frozen=True):
    """The last five minutes, oldest first."""

    step_s: float = 5.0
    requests_per_s: Points = []
    actual_hit_rate: Points = []
    predicted_hit_rate: Points = []
    ttft_p50_s: Points = []
    ttft_p99_s: Points = []


class Worker(msgspec.Struct, frozen=True):
    """One worker."""

    id: str
    status: str = ""
    healthy: bool = False
    draining: bool = False
    leaves_in_s: float | None = None
    inflight_requests: int = 0
    queued_prompt_tokens: int = 0
    queued_prefill_s: float = 0.0
    kv_share: float | None = None
    kv_capacity_tokens: int | None = None
    cache_crowding: float = 0.0
    failures: dict[str, int] = {}


class Prefix(msgspec.Struct, frozen=True):
    """One of the prefixes that saved most lately."""

    prefix: str
    model: str = ""
    requests: int = 0
    saved_tokens: float = 0.0
    share: float | None = None
    seen_ago_s: float = 0.0


class Session(msgspec.Struct, frozen=True):
    """One of the sessions that were seen last."""

    session: str
    worker: str | None = None
    turns: int = 0
    moves: int = 0
    footprint_tokens: float = 0.0
    seen_ago_s: float = 0.0


class Sessions(msgspec.Struct, frozen=True):
    """All sessions, and some."""

    known: int = 0
    turns_stayed: int = 0
    turns_moved: int = 0
    recent: list[Session] = []


class Shadow(msgspec.Struct, frozen=True):
    """What another policy would have done."""

    policy: str
    decisions: int = 0
    agreed_share: float | None = None
    predicted_hit_rate: float | None = None
    failures: int = 0
    inflight: dict[str, int] = {}


class Live(msgspec.Struct, frozen=True):
    """What the policy in charge did since the start, of requests that have ended."""

    decisions: int = 0
    predicted_hit_rate: float | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """A router as of one moment."""

    at_s: float
    uptime_s: float
    version: str
    policy: str
    workers: list[Worker]
    stopping: bool = False
    models: list[str] = []
    totals: Totals = Totals()
    history: History = History()
    prefixes: list[Prefix] = []
    sessions: Sessions = Sessions()
    live: Live = Live()
    shadows: list[Shadow] = []


class Decision(msgspec.Struct, frozen=True):
    """A request as it was routed; once more, with the same number, when it has ended."""

    number: int
    at_s: float = 0.0
    model: str = ""
    worker: str | None = None
    reason: str = ""
    attempt: int = 0
    prompt_tokens: int = 0
    predicted_hit_tokens: int = 0
    outcome: str | None = None
    status: int | None = None
    cached_tokens: int | None = None
    ttft_s: float | None = None
    duration_s: float | None = None


class Decisions(msgspec.Struct, frozen=True):
    """Those since the last time, and how many are not among them."""

    decisions: list[Decision]
    skipped: int = 0
