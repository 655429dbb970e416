"""Every metric of the router: its name, its labels, its meaning. What is counted is `series`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from warmroute.logs import dropped_lines
from warmroute.series import Series
from warmroute_policies.balancer import Statistics
from warmroute_policies.types import WorkerId

if TYPE_CHECKING:
    from warmroute.gateway import Gateway


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
            [(lesson.value, count) for lesson, count in gateway.balancer.beliefs.lessons.items()],
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
