"""The values of a report: what `--json` writes, and what tables and pages show.

Whose numbers. *Hits* are the engines' own: tokens that were in the cache when an engine took the request
up, over all requests that some engine took up. *Latencies*, sessions and *goodput* are over requests, and
can leave out a warm-up; hits cannot, because the bounds beside them are of the whole run.

A number that nothing was measured for is None (`null`), never 0: no request ended, nobody had a session,
the bounds were not asked for. For equal runs `encode` gives equal bytes but for `wall_s` and `cpu_s`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from warmroute_simulator.report.latencies import Spread

SCHEMA: Final = 1
"""Raised when a key changes its meaning or goes away; new keys do not raise it."""


Settings = dict[str, str | int | float]


class Slo(msgspec.Struct, frozen=True):
    """What a good answer is: limits that goodput holds requests to."""

    ttft_s: float = 2.0
    """About as long as people wait before they take a chat to be stuck."""
    tpot_s: float = 0.1
    """Ten tokens a second: somewhat faster than people read."""


class BoundValues(msgspec.Struct, frozen=True):
    """One number for each bound: a hit rate, or how far below it a run stayed."""

    single_infinite: float | None = None
    pooled_lru: float | None = None
    pooled_belady: float | None = None


class PredictionError(msgspec.Struct, frozen=True):
    """What the router predicted against what the engines found, in tokens per request taken up."""

    mean_abs_tokens: float
    bias_tokens: float
    """Above 0: it promised more than there was."""


class PromptTokens(msgspec.Struct, frozen=True):
    """Where the prompt tokens of requests taken up went; the last five add up to the first."""

    total: int
    reused: int
    """Cached on the worker that took the request up."""
    elsewhere: int
    """Computed although another worker held them."""
    after_eviction: int
    """Computed again: this worker had them before."""
    first_time: int
    """No worker had ever computed them."""
    forgotten: int
    """The rest: another worker had computed them once and lost them since, or they are the few at the end of
    a shared stretch that fill no whole page."""


class Goodput(msgspec.Struct, frozen=True):
    """Requests that ended well within both limits; an answer of one token has no TPOT to miss."""

    ttft_slo_s: float
    tpot_slo_s: float
    requests: int
    share: float | None
    """Of those that came."""
    requests_per_s: float


class WarmUp(msgspec.Struct, frozen=True):
    """The beginning that latencies, sessions and goodput leave out."""

    skip_s: float
    """From the first arrival on."""
    requests: int
    """That arrived in it."""


class WorkerReport(msgspec.Struct, frozen=True):
    """What one worker did."""

    worker: str
    requests: int
    prompt_tokens: int
    output_tokens: int
    hit_rate: float | None
    computed_share: float | None
    """Its share of the prompt tokens that the fleet computed."""
    busy_share: float | None
    """Share of the run's span in which it computed anything."""
    evicted_tokens: int
    preemptions: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run. The keys up to `cpu_s` are a contract with whoever reads the files."""

    schema: int = SCHEMA
    trace: str
    policy: str
    workers: int
    seed: int
    requests: int
    """That came; fewer than the trace has when the run was cut short."""
    hit_rate: float | None
    """Cached prompt tokens ÷ prompt tokens."""
    predicted_hit_rate: float | None
    ttft_s: Spread | None
    tpot_s: Spread | None
    e2e_s: Spread | None
    session_s: Spread | None
    """From a session's start to the end of its last request, of those that ended well."""
    output_tokens_per_s: float
    """Of requests that ended well, over the span."""
    imbalance: float | None
    """Computed prompt tokens of the worker with most of them ÷ the mean over workers; 1: even."""
    evicted_tokens: int
    bounds: BoundValues
    wall_s: float
    cpu_s: float

    span_s: float
    """From the first arrival to the last end, or to the interruption."""
    partial: bool
    """The run was interrupted."""
    outcomes: dict[str, int]
    retried: int
    """Requests that were dispatched more than once."""
    reasons: dict[str, int]
    """Decisions by the policy's word for them, the most frequent first."""
    below_bounds_points: BoundValues
    """Bound − hit rate, in percentage points."""
    prompt_tokens: PromptTokens
    prediction_error: PredictionError | None
    goodput: Goodput
    warm_up: WarmUp
    preemptions: int
    per_worker: list[WorkerReport]
    settings: Settings
    """What else the run was given: preset, load, KV tokens."""
    skipped: int
    """Lines of the trace that were malformed and passed over."""
    notes: list[str]
    """What to know of the trace's import."""


def encode(report: Report) -> bytes:
    """Reads. As JSON, the keys in the order above."""
    return msgspec.json.encode(report)


def decode(data: bytes) -> Report:
    """Reads. A report that was written before. Raises msgspec.ValidationError."""
    return msgspec.json.decode(data, type=Report)
