"""Every metric of the router: its name, its labels, its meaning, and where it is counted.

On a request's way, counting is an addition to an attribute (0.03 µs); the client library is asked only
when somebody scrapes (its own counters cost 0.9 µs each). Labels are bounded: workers come and go with
the fleet, model names beyond `_MODELS_MAX` are counted together.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from warmroute.logs import dropped_lines
from warmroute_policies.balancer import Statistics
from warmroute_policies.types import Decision, Outcome, Usage, WorkerId

if TYPE_CHECKING:
    from warmroute.exchange import Exchange
    from warmroute.gateway import Gateway
    from warmroute.wire.replies import RouterError

# Clients may name any model where workers accept any.
_MODELS_MAX: Final = 100
_OTHER_MODEL: Final = "other"

# Requests that ended after their worker had left are counted together: its own series must not come back.
_REMOVED_WORKER: Final = "removed"

# From a warm short prompt on an idle worker to a queue that nobody should wait in.
_TTFT_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)
# Around the 5 to 100 ms between two tokens of today's engines.
_INTER_TOKEN_BOUNDS_S = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5)
_DURATION_BOUNDS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
# Parsing and deciding: tens of microseconds, a millisecond when something is wrong.
_DECISION_BOUNDS_S = (10e-6, 20e-6, 35e-6, 50e-6, 75e-6, 100e-6, 150e-6, 250e-6, 500e-6, 1e-3, 5e-3)
_LAG_BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)


class Histogram:
    """State: a count per bucket, and the sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Writes."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def export(self) -> tuple[list[tuple[str, float]], float]:
        """Reads. Cumulative buckets and the sum, as the client library wants them."""
        buckets, total = [], 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else repr(bound), float(total)))
        return buckets, self._sum


class Series:
    """What is counted for one model on one worker."""

    __slots__ = (
        "actual_hit_tokens", "completion_tokens", "duration_s", "inter_token_s", "outcomes",
        "predicted_hit_tokens", "prompt_tokens", "reported", "reusable_tokens", "ttft_s",
    )  # fmt: skip

    def __init__(self) -> None:
        self.outcomes = dict.fromkeys(Outcome, 0)
        self.prompt_tokens = 0
        self.predicted_hit_tokens = 0
        self.reusable_tokens = 0
        self.actual_hit_tokens = 0
        self.completion_tokens = 0
        self.reported = 0
        self.ttft_s = Histogram(_TTFT_BOUNDS_S)
        self.inter_token_s = Histogram(_INTER_TOKEN_BOUNDS_S)
        self.duration_s = Histogram(_DURATION_BOUNDS_S)


class Metrics:
    """State: series by model and worker, and the router's own counters."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.series: dict[tuple[str, WorkerId], Series] = {}
        self.decisions: defaultdict[str, int] = defaultdict(int)
        self.decision_s = Histogram(_DECISION_BOUNDS_S)
        self.loop_lag_s = Histogram(_LAG_BOUNDS_S)
        self.retries: dict[str, int] = {}
        self.refusals: dict[str, int] = {}
        self.worker_failures: dict[tuple[WorkerId, str], int] = {}
        self.worker_restarts: dict[WorkerId, int] = {}
        self.without_prefix = 0
        self._models: set[str] = set()

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
        # A refusal may come at once, and is no token; `first_byte_at` is not set for what came whole.
        streams = parsed.stream and exchange.first_byte_at and exchange.status < 400
        if streams:
            series.ttft_s.observe(exchange.first_byte_at - exchange.began_at)
        if usage is None:
            series.prompt_tokens += decision.prompt_tokens
            return
        series.prompt_tokens += usage.prompt_tokens or decision.prompt_tokens
        if usage.cached_tokens is not None:
            series.actual_hit_tokens += usage.cached_tokens
            series.reported += 1
        tokens = usage.completion_tokens
        if tokens is not None:
            series.completion_tokens += tokens
            if streams and tokens > 1:
                series.inter_token_s.observe((now - exchange.first_byte_at) / (tokens - 1))

    def retried(self, kind: str) -> None:
        """Writes. A request was given to another worker."""
        self.retries[kind] = self.retries.get(kind, 0) + 1

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
        for failure in [key for key in self.worker_failures if key[0] == worker]:
            del self.worker_failures[failure]
        self.worker_restarts.pop(worker, None)

    def _new_series(self, model: str, worker: WorkerId) -> Series:
        if model not in self._models and len(self._models) >= _MODELS_MAX:
            model = _OTHER_MODEL
        self._models.add(model)
        return self.series.setdefault((model, worker), Series())


class Snapshot(NamedTuple):
    """What grows, shrinks or belongs together, as of one moment. Counters in the series go on counting."""

    series: list[tuple[tuple[str, WorkerId], Series]]
    decisions: list[tuple[str, int]]
    retries: list[tuple[str, int]]
    refusals: list[tuple[str, int]]
    worker_failures: list[tuple[tuple[WorkerId, str], int]]
    worker_restarts: list[tuple[WorkerId, int]]
    lessons: list[tuple[str, int]]
    workers: list[tuple[WorkerId, tuple[float, ...]]]
    """In the order of `_WORKER_GAUGES`."""
    statistics: Statistics
    client_connections: int
    exchanges: int


class RouterCollector(Collector):
    """Turns the counters into metric families when Prometheus asks. Reads.

    Writing families down takes 0.5 ms per worker and model, which is no work for the event loop. `snapshot`
    is taken there (0.1 ms for 64 workers); `families` may be made of it in any thread.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        """Both at once."""
        return self.families(self.snapshot())

    def snapshot(self) -> Snapshot:
        """Reads. To be called on the event loop."""
        gateway, metrics = self._gateway, self._gateway.metrics
        fleet, index = gateway.balancer.fleet, gateway.balancer.index
        return Snapshot(
            list(metrics.series.items()),
            list(metrics.decisions.items()),
            list(metrics.retries.items()),
            list(metrics.refusals.items()),
            list(metrics.worker_failures.items()),
            list(metrics.worker_restarts.items()),
            [(lesson.value, count) for lesson, count in gateway.balancer.lessons.items()],
            [
                (
                    spec.worker_id,
                    (
                        fleet.inflight[slot],
                        fleet.queued_prefill_s[slot],
                        float(fleet.healthy[slot]),
                        float(fleet.draining[slot]),
                        fleet.kv_capacity_tokens[slot],
                        index.resident(slot),
                        gateway.workers[spec.worker_id].pool.idle(),
                    ),
                )
                for slot, spec in fleet.slots()
            ],
            gateway.balancer.statistics(),
            len(gateway.clients),
            len(gateway.exchanges),
        )

    def families(self, snapshot: Snapshot) -> Iterator[Metric]:
        """Reads. In any thread."""
        yield from self._requests(snapshot)
        yield from self._own(snapshot)
        yield from self._workers(snapshot)
        yield from self._memory(snapshot)

    def describe(self) -> Iterable[Metric]:
        """All families, without values: the client library checks names at registration."""
        return ()

    def _requests(self, snapshot: Snapshot) -> Iterator[Metric]:
        metrics = self._gateway.metrics
        labels = ["model", "worker"]
        total = CounterMetricFamily(
            "router_requests", "Requests that were routed, by how they ended.",
            labels=["model", "worker", "policy", "outcome"],
        )  # fmt: skip
        counters = {
            "prompt_tokens": "Prompt tokens of routed requests: as reported, else as estimated.",
            "predicted_hit_tokens": "Prompt tokens that the chosen worker was believed to hold.",
            "reusable_tokens": "Prompt tokens that the best holder was believed to hold.",
            "actual_hit_tokens": "Prompt tokens that engines reported as cached.",
            "completion_tokens": "Tokens that engines reported as generated.",
        }
        families = {
            name: CounterMetricFamily(f"router_{name}", text, labels=labels)
            for name, text in counters.items()
        }
        reported = CounterMetricFamily(
            "router_usage_reports", "Answers that said how many prompt tokens were cached.", labels=labels
        )
        histograms = {
            "ttft_s": HistogramMetricFamily(
                "router_ttft_seconds",
                "From the whole request to the first byte of a streamed answer.",
                labels=labels,
            ),
            "inter_token_s": HistogramMetricFamily(
                "router_inter_token_seconds",
                "Mean time between two tokens of a streamed answer.",
                labels=labels,
            ),
            "duration_s": HistogramMetricFamily(
                "router_request_duration_seconds",
                "From the whole request to the end of its answer.",
                labels=labels,
            ),
        }
        for (model, worker), series in snapshot.series:
            for outcome, count in series.outcomes.items():
                if count:
                    total.add_metric([model, worker, metrics.policy, outcome.value], count)
            for name, family in families.items():
                family.add_metric([model, worker], getattr(series, name))
            reported.add_metric([model, worker], series.reported)
            for name, histogram in histograms.items():
                buckets, summed = getattr(series, name).export()
                histogram.add_metric([model, worker], buckets, summed)
        yield total
        yield from families.values()
        yield reported
        yield from histograms.values()

    def _own(self, snapshot: Snapshot) -> Iterator[Metric]:
        metrics = self._gateway.metrics
        decisions = CounterMetricFamily(
            "router_decisions", "Decisions by the policy's reason.", labels=["policy", "reason"]
        )
        for reason, count in snapshot.decisions:
            decisions.add_metric([metrics.policy, reason], count)
        yield decisions
        retries = CounterMetricFamily(
            "router_retries", "Requests given to another worker, by what had failed.", labels=["kind"]
        )
        for kind, count in snapshot.retries:
            retries.add_metric([kind], count)
        yield retries
        refusals = CounterMetricFamily(
            "router_refusals", "Requests answered without asking a worker, by error code.", labels=["code"]
        )
        for code, count in snapshot.refusals:
            refusals.add_metric([code], count)
        yield refusals
        yield CounterMetricFamily(
            "router_requests_without_prefix",
            "Requests to endpoints with a prompt in which none was found: routed blindly.",
            value=metrics.without_prefix,
        )
        for name, text, histogram in (
            (
                "router_decision_seconds",
                "Parsing, identifying and routing a request; one request in 16 is timed.",
                metrics.decision_s,
            ),
            ("router_loop_lag_seconds", "How late the event loop ran a timer.", metrics.loop_lag_s),
        ):
            family = HistogramMetricFamily(name, text)
            buckets, summed = histogram.export()
            family.add_metric([], buckets, summed)
            yield family
        yield CounterMetricFamily(
            "router_log_lines_dropped",
            "Log lines that came faster than they could be written.",
            value=dropped_lines(),
        )
        yield GaugeMetricFamily(
            "router_client_connections", "Open client connections.", value=snapshot.client_connections
        )
        yield GaugeMetricFamily(
            "router_inflight_requests", "Requests in progress in this router.", value=snapshot.exchanges
        )

    def _workers(self, snapshot: Snapshot) -> Iterator[Metric]:
        gauges = {
            "router_worker_inflight_requests": "Requests dispatched to the worker and not finished.",
            "router_worker_queued_prefill_seconds": "Predicted prefill time of what waits at the worker.",
            "router_worker_health": "1 when the worker may take requests, else 0.",
            "router_worker_draining": "1 while the worker gets no new requests on purpose.",
            "router_worker_believed_kv_capacity_tokens": "Believed size of its KV cache; +Inf: unknown.",
            "router_worker_resident_blocks": "Blocks that the worker is believed to hold.",
            "router_worker_idle_connections": "Idle connections to the worker.",
        }
        families = {name: GaugeMetricFamily(name, text, labels=["worker"]) for name, text in gauges.items()}
        failures = CounterMetricFamily(
            "router_worker_failures", "Requests that failed by the worker's fault.", labels=["worker", "kind"]
        )
        for worker, values in snapshot.workers:
            for family, value in zip(families.values(), values, strict=True):
                family.add_metric([worker], value)
        for (worker, kind), count in snapshot.worker_failures:
            failures.add_metric([worker, kind], count)
        restarts = CounterMetricFamily(
            "router_worker_restarts",
            "Times that the worker told another start time than before, so that its cache was forgotten.",
            labels=["worker"],
        )
        for worker, count in snapshot.worker_restarts:
            restarts.add_metric([worker], count)
        yield from families.values()
        yield failures
        yield restarts

    def _memory(self, snapshot: Snapshot) -> Iterator[Metric]:
        statistics = snapshot.statistics
        index = statistics.index
        for name, text, value in (
            (
                "router_index_blocks",
                "Blocks that workers are believed to hold, all workers together.",
                index.blocks,
            ),
            ("router_index_bytes", "Memory of the prefix index, as accounted.", index.bytes),
            ("router_sessions", "Sessions that are remembered.", statistics.sessions),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        yield CounterMetricFamily(
            "router_index_evicted_blocks",
            "Blocks that the index forgot for room.",
            value=index.evicted_blocks_total,
        )
        lessons = CounterMetricFamily(
            "router_capacity_lessons",
            "Answers that corrected the belief about a worker's KV cache, by how.",
            labels=["lesson"],
        )
        for lesson, count in snapshot.lessons:
            lessons.add_metric([lesson], count)
        yield lessons
        turns = CounterMetricFamily(
            "router_session_turns", "Turns of known sessions, by whether they stayed with their worker.",
            labels=["stayed"],
        )  # fmt: skip
        turns.add_metric(["true"], statistics.session_turns_stayed)
        turns.add_metric(["false"], statistics.session_turns_moved)
        yield turns
