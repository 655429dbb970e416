"""What is counted on a request's way, by model and worker and for the router itself.

Counting is an addition to an attribute (0.03 µs; the client library's counters cost 0.9 µs each); `metrics`
gives it names when somebody scrapes. Series are bounded: workers come and go with the fleet, model names
beyond `_MODELS_MAX` are counted together.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from warmroute.hot_prefixes import HotPrefixes
from warmroute.tenures import Tenures
from warmroute_policies.types import Decision, Outcome, Usage, WorkerId

if TYPE_CHECKING:
    from warmroute.exchange import Exchange
    from warmroute.wire.replies import RouterError

# Clients may name any model where workers accept any.
_MODELS_MAX: Final = 100
_OTHER_MODEL: Final = "other"

# Requests that ended after their worker had left are counted together: its own series must not come back.
_REMOVED_WORKER: Final = "removed"

# Counted from the first scrape on: a series that appears with its first event hides that event from `rate`,
# and an alert that adds it up finds nothing.
FAILURE_KINDS: Final = ("connect", "connect_timeout", "status", "broken", "timeout")
_RETRIED_KINDS: Final = ("connect", "connect_timeout", "status", "broken")
HEDGE_ENDS: Final = ("won", "lost", "rescued", "failed", "given_up")
HEDGE_REFUSALS: Final = ("budget", "no_worker")
SHORTAGES: Final = ("no_worker", "buffers_full", "too_many_connections", "internal_error")
"""Refusals that are no fault of the client."""
CONNECTION_FAULTS: Final = ("proxy_head", "tls_handshake", "tls_on_plain_port", "too_many")
"""Why connections ended before they could carry a request."""

# From a warm short prompt on an idle worker to a queue that nobody should wait in.
_TTFT_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)
# Around the 5 to 100 ms between two tokens of today's engines.
_INTER_TOKEN_BOUNDS_S = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5)
_DURATION_BOUNDS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
# Parsing and deciding: tens of microseconds, a millisecond when something is wrong.
DECISION_BOUNDS_S = (10e-6, 20e-6, 35e-6, 50e-6, 75e-6, 100e-6, 150e-6, 250e-6, 500e-6, 1e-3, 5e-3)
# An agent's next step comes within seconds, a person's next turn within minutes, if the cache is to be warm.
_RETURN_BOUNDS_S = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
# From a question to a context that fills a model's window.
_PROMPT_BOUNDS_TOKENS = (256.0, 1024.0, 4096.0, 16384.0, 32768.0, 65536.0, 131072.0, 262144.0, 1048576.0)
_LAG_BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)


OutcomeKey = tuple[str, WorkerId, Outcome]
"""Model, worker, and how a request ended."""


class Histogram:
    """State: a count per bucket, and the sum."""

    __slots__ = ("bound_labels", "bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        """Upper ends of all buckets but the last, which has none."""
        self.bound_labels = [*(f'le="{bound}"' for bound in bounds), 'le="+Inf"']
        """The buckets' upper bounds as labels of the page."""
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Writes."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Series:
    """What is counted for one model on one worker."""

    __slots__ = (
        "actual_hit_tokens", "completion_tokens", "duration_s", "inter_token_s", "outcomes",
        "predicted_hit_tokens", "prefill_s", "prompt_tokens", "reported", "reusable_tokens",
        "saved_prefill_s", "ttft_s",
    )  # fmt: skip

    def __init__(self) -> None:
        self.outcomes = dict.fromkeys(Outcome, 0)
        self.prompt_tokens = 0
        self.predicted_hit_tokens = 0
        self.reusable_tokens = 0
        self.actual_hit_tokens = 0
        self.completion_tokens = 0
        self.reported = 0
        self.prefill_s = 0.0
        self.saved_prefill_s = 0.0
        self.ttft_s = Histogram(_TTFT_BOUNDS_S)
        self.inter_token_s = Histogram(_INTER_TOKEN_BOUNDS_S)
        self.duration_s = Histogram(_DURATION_BOUNDS_S)


class Metrics:
    """State: series by model and worker, and the router's own counters."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.series: dict[tuple[str, WorkerId], Series] = {}
        self.decisions: defaultdict[str, int] = defaultdict(int)
        self.decision_s = Histogram(DECISION_BOUNDS_S)
        self.loop_lag_s = Histogram(_LAG_BOUNDS_S)
        self.retries = dict.fromkeys(_RETRIED_KINDS, 0)
        self.retries_refused = 0
        self.hedges_started = 0
        self.hedges = dict.fromkeys(HEDGE_ENDS, 0)
        self.hedges_refused = dict.fromkeys(HEDGE_REFUSALS, 0)
        self.refusals = dict.fromkeys(SHORTAGES, 0)
        self.connection_faults = dict.fromkeys(CONNECTION_FAULTS, 0)
        self.worker_failures: dict[tuple[WorkerId, str], int] = {}
        self.worker_restarts: dict[WorkerId, int] = {}
        self.without_prefix = 0
        self.uploads = 0
        self.upload_bytes = 0
        self.tunnels = 0
        """Open now."""
        self.session_moves: dict[str, int] = {}
        self.session_return_s = Histogram(_RETURN_BOUNDS_S)
        self.session_prompt_tokens = Histogram(_PROMPT_BOUNDS_TOKENS)
        self.hot_prefixes = HotPrefixes()
        self.decisions_by_policy: Tenures[str] = Tenures()
        self.outcomes_by_policy: Tenures[OutcomeKey] = Tenures()
        self._models: set[str] = set()

    def policy_set(self, policy: str) -> None:
        """Writes. Another policy decides from now on."""
        self.decisions_by_policy.end(self.policy, self.decisions)
        self.outcomes_by_policy.end(self.policy, self.outcomes())
        self.policy = policy

    def outcomes(self) -> dict[OutcomeKey, int]:
        """Reads. How requests ended, by model, worker and outcome."""
        return {
            (*labels, outcome): count
            for labels, series in self.series.items()
            for outcome, count in series.outcomes.items()
        }

    def session_turn(self, decision: Decision, before: WorkerId, away_s: float) -> None:
        """Writes. A turn of a session was routed; `before` is the worker of the turn before, or empty."""
        self.session_prompt_tokens.observe(decision.prompt_tokens)
        if before:
            self.session_return_s.observe(away_s)
            if before != decision.worker:
                self.session_moves[decision.reason] = self.session_moves.get(decision.reason, 0) + 1

    def finished(
        self, exchange: Exchange, decision: Decision, outcome: Outcome, usage: Usage | None, now: float
    ) -> None:
        """Writes. A routed request ended."""
        parsed = exchange.parsed
        series = self.series.get((parsed.model, decision.worker))
        if series is None:
            present = decision.worker in exchange.gateway.workers
            series = self._new_series(parsed.model, decision.worker if present else _REMOVED_WORKER)
        series.outcomes[outcome] += 1
        series.predicted_hit_tokens += decision.predicted_hit_tokens
        series.reusable_tokens += decision.reusable_tokens
        series.duration_s.observe(now - exchange.began_at)
        self.decisions[decision.reason] += 1
        if not parsed.material and parsed.has_prompt:
            self.without_prefix += 1
        ttft_s = exchange.ttft_s
        if ttft_s is not None:
            series.ttft_s.observe(ttft_s)
        if usage is None:
            series.prompt_tokens += decision.prompt_tokens
            return
        prompt_tokens = usage.prompt_tokens or decision.prompt_tokens
        series.prompt_tokens += prompt_tokens
        if usage.cached_tokens is not None:
            series.actual_hit_tokens += usage.cached_tokens
            series.reported += 1
            self._count_prefill(series, exchange, decision, prompt_tokens, usage.cached_tokens)
        tokens = usage.completion_tokens
        if tokens is not None:
            series.completion_tokens += tokens
            if ttft_s is not None and tokens > 1:
                series.inter_token_s.observe((now - exchange.first_byte_at) / (tokens - 1))

    def _count_prefill(
        self, series: Series, exchange: Exchange, decision: Decision, prompt_tokens: int, cached_tokens: int
    ) -> None:
        """What the engine computed and what it did not have to, in seconds at the worker's learned price."""
        gateway, slot = exchange.gateway, decision.slot
        pool = gateway.pools.get(slot)
        if pool is None or pool.worker_id != decision.worker:
            return  # it has left
        fleet = gateway.balancer.fleet
        missing = max(0, prompt_tokens - cached_tokens)
        computed_s = fleet.prefill_seconds(slot, missing, prompt_tokens)
        series.prefill_s += computed_s
        series.saved_prefill_s += fleet.prefill_seconds(slot, prompt_tokens, prompt_tokens) - computed_s

    def retried(self, kind: str) -> None:
        """Writes. A request was given to another worker."""
        self.retries[kind] = self.retries.get(kind, 0) + 1

    def hedge_started(self) -> None:
        """Writes. A request was sent to a second worker as well."""
        self.hedges_started += 1

    def hedge_ended(self, how: str) -> None:
        """Writes. A second leg was over, one of `HEDGE_ENDS`."""
        self.hedges[how] += 1

    def hedge_refused(self, why: str) -> None:
        """Writes. A request was late and not hedged, for one of `HEDGE_REFUSALS`."""
        self.hedges_refused[why] += 1

    def refused(self, error: RouterError) -> None:
        """Writes. A request was answered without asking a worker."""
        self.refusals[error.code] = self.refusals.get(error.code, 0) + 1

    def worker_failed(self, worker: WorkerId, kind: str) -> None:
        """Writes. A request failed by the worker's fault."""
        self.worker_failures[worker, kind] = self.worker_failures.get((worker, kind), 0) + 1

    def worker_restarted(self, worker: WorkerId) -> None:
        """Writes. The worker is another process than before."""
        self.worker_restarts[worker] = self.worker_restarts.get(worker, 0) + 1

    def forget_worker(self, worker: WorkerId) -> None:
        """Writes. The worker left: its series would only grow in number."""
        for key in [key for key in self.series if key[1] == worker]:
            del self.series[key]
        self.outcomes_by_policy.forget(lambda key: key[1] == worker)
        for failure in [key for key in self.worker_failures if key[0] == worker]:
            del self.worker_failures[failure]
        self.worker_restarts.pop(worker, None)

    def _new_series(self, model: str, worker: WorkerId) -> Series:
        if model not in self._models and len(self._models) >= _MODELS_MAX:
            model = _OTHER_MODEL
        self._models.add(model)
        return self.series.setdefault((model, worker), Series())
