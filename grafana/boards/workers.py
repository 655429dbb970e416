"""Load, health and failures of each worker."""

from __future__ import annotations

from typing import Final

from boards import frame
from boards.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    YELLOW,
    Column,
    Line,
    graph,
    rows,
    single,
    states,
)
from boards.promql import SERVED, WORKER, imbalance, quantile, rate, series, total

_HEALTHY: Final = f"min by (worker) ({series('router_worker_health', WORKER)})"
_DRAINING: Final = f"max by (worker) ({series('router_worker_draining', WORKER)})"
_BREAKER: Final = f"max by (worker) ({series('router_worker_breaker_state', WORKER)})"
_INFLIGHT: Final = total("router_worker_inflight_requests", WORKER, by="worker")
_QUEUED: Final = total("router_worker_queued_prefill_seconds", WORKER, by="worker")
_DECODING: Final = total("router_worker_decode_requests", WORKER, by="worker")
_CROWDING: Final = f"max by (worker) ({series('router_worker_cache_crowding', WORKER)})"


def _worst(name: str) -> str:
    """Of each worker. No sum over routers: each of them is told the same."""
    return f"max by (worker) ({series(name, WORKER)})"


_FOREIGN: Final = _worst("router_worker_foreign_requests")


def _restarts(within: str) -> str:
    """Of each worker. No sum over routers: each of them counts the same ones."""
    return f"max by (worker) (increase({series('router_worker_restarts_total', WORKER)}[{within}]))"


BOARD: Final = frame.Board(
    name="workers",
    title="warmroute / Workers",
    description="Load, health and failures of each worker. Where several routers see one, the worst counts.",
    variables=(frame.model, frame.worker),
    head=(
        single(
            "Eligible",
            f"sum({_HEALTHY} * on (worker) (1 - {_DRAINING}))",
            "Workers that every chosen router would send a request to: healthy and not draining. 0 means "
            "that requests are refused.",
            steps=((None, RED), (1, GREEN)),
            decimals=0,
        ),
        single(
            "Unhealthy",
            f"sum(1 - {_HEALTHY})",
            "Workers that at least one router sends nothing to, because their checks or their requests "
            "fail. 0 is good.",
            steps=((None, GREEN), (1, RED)),
            decimals=0,
        ),
        single(
            "Ejected or probing",
            f"sum({_BREAKER} > bool 0)",
            "Workers that failed several requests in a row. They get one request now and then, to find out.",
            steps=((None, GREEN), (1, ORANGE)),
            decimals=0,
        ),
        single(
            "Draining",
            f"sum({_DRAINING})",
            "Workers that get no new requests because somebody said so.",
            steps=((None, GREY), (1, BLUE)),
            decimals=0,
        ),
        single(
            "Imbalance",
            f"{imbalance(_INFLIGHT)} or vector(1)",
            "Requests in flight: most over mean, 1 where there are none. 1 is even, the number of workers is "
            "everything on one. Up to 2 is usual with warm prefixes.",
            steps=((None, GREEN), (2, YELLOW), (4, RED)),
            decimals=2,
        ),
        single(
            "Failures/s",
            rate("router_worker_failures_total", WORKER),
            "Requests that failed by a worker's fault, retried or not. 0 is good.",
            unit="reqps",
            steps=((None, GREEN), (0.01, YELLOW), (1, RED)),
        ),
        single(
            "Restarts",
            f"sum({_restarts('$__range')})",
            "Engines that came back as another process within the time range: their caches were empty. Every "
            "router sees every restart; the one that saw most counts.",
            steps=((None, GREEN), (1, YELLOW)),
            decimals=0,
        ),
        single(
            "Idle connections",
            total("router_worker_idle_connections", WORKER),
            "Connections to workers kept open for the next request.",
            decimals=0,
        ),
    ),
    sections=(
        (
            "State",
            (
                states(
                    "Health",
                    [Line(_HEALTHY, "{{worker}}")],
                    {"0": ("no requests", RED), "1": ("healthy", GREEN)},
                    "Red while some router sends nothing to the worker, whether checks fail or it is "
                    "ejected.",
                    width=8,
                ),
                states(
                    "Breaker",
                    [Line(_BREAKER, "{{worker}}")],
                    {"0": ("trusted", GREEN), "1": ("probing", YELLOW), "2": ("ejected", RED)},
                    "Ejected after eject_after_failures requests in a row; probed after eject_for_s, longer "
                    "each time. Red and yellow in turn: it answers checks but not requests.",
                    width=8,
                ),
                states(
                    "Draining",
                    [Line(_DRAINING, "{{worker}}")],
                    {"0": ("serving", GREEN), "1": ("draining", BLUE)},
                    "Blue while the worker gets no new requests on purpose.",
                    width=8,
                ),
                rows(
                    "Now",
                    "worker",
                    [
                        Column("healthy", _HEALTHY, thresholds=((None, RED), (1, GREEN))),
                        Column("draining", _DRAINING),
                        Column("in flight", _INFLIGHT),
                        Column("decoding", _DECODING),
                        Column("queued prefill", _QUEUED, "s", ((None, GREEN), (2, YELLOW), (10, RED))),
                        Column("alive share of the cache", _CROWDING, "percentunit"),
                        Column("requests/s", rate("router_requests_total", *SERVED, by="worker"), "reqps"),
                        Column(
                            "failures/s", rate("router_worker_failures_total", WORKER, by="worker"), "reqps"
                        ),
                        Column("TTFT p99", quantile(0.99, "router_ttft_seconds", *SERVED, by="worker"), "s"),
                    ],
                    "Every worker at a glance. `removed` are workers that have left since.",
                ),
            ),
        ),
        (
            "Load",
            (
                graph(
                    "In flight",
                    [Line(_INFLIGHT, "{{worker}}")],
                    "Requests at each worker, prefilling, decoding or waiting.",
                ),
                graph(
                    "Decoding",
                    [Line(_DECODING, "{{worker}}")],
                    "Requests past their first token. They slow each other down: compare with the time "
                    "between tokens.",
                ),
                graph(
                    "Queued prefill",
                    [Line(_QUEUED, "{{worker}}")],
                    "Predicted prefill time of what waits. The router keeps these even, as far as warm "
                    "prefixes let it.",
                    unit="s",
                ),
                graph(
                    "Imbalance",
                    [
                        Line(imbalance(_INFLIGHT), "in flight", BLUE),
                        Line(imbalance(_QUEUED), "queued prefill", ORANGE),
                    ],
                    "Most over mean; gaps where there is nothing. High in flight and no queue is harmless: "
                    "few requests cannot be even. High at seconds of queue is not.",
                ),
                graph(
                    "Alive share of the KV cache",
                    [Line(_CROWDING, "{{worker}}")],
                    "Believed share of the cache that somebody is likely to come back for. At 100 % new "
                    "prompts displace what is needed.",
                    unit="percentunit",
                    most=1,
                ),
                graph(
                    "Prefill computed",
                    [Line(rate("router_prefill_seconds_total", *SERVED, by="worker"), "{{worker}}")],
                    "Predicted prefill seconds per second: the share of its time that a worker prefills. "
                    "Near 1: it has no more to give.",
                    unit="percentunit",
                ),
            ),
        ),
        (
            "Load as engines tell it",
            (
                graph(
                    "Requests of others",
                    [Line(_FOREIGN, "{{worker}}")],
                    "What the engine says less what the router has there: other routers' requests and direct "
                    "clients'. Nothing without load_poll. Of several routers, the one that sees most.",
                ),
                graph(
                    "Queue of others",
                    [Line(_worst("router_worker_foreign_queue_seconds"), "{{worker}}")],
                    "Prefill time of what of that waits.",
                    unit="s",
                ),
                graph(
                    "Requests, as engines say",
                    [
                        Line(_worst("router_worker_reported_requests"), "{{worker}}"),
                        Line(_worst("router_worker_reported_waiting_requests"), "{{worker}} waiting"),
                    ],
                    "All of them, whoever sent them, and those of them that wait for a place.",
                ),
                graph(
                    "Prompt tokens that wait, as engines say",
                    [Line(_worst("router_worker_reported_waiting_tokens"), "{{worker}}")],
                    "SGLang tells them, vLLM does not.",
                ),
                graph(
                    "KV cache in use, as engines say",
                    [Line(_worst("router_worker_reported_kv_usage"), "{{worker}}")],
                    "What requests hold. Near 100 % new ones wait, or others are thrown out: see "
                    "kv_pressure_gate.",
                    unit="percentunit",
                    most=1,
                ),
                states(
                    "Under pressure",
                    [Line(_worst("router_worker_under_pressure"), "{{worker}}")],
                    {"0": ("has room", GREEN), "1": ("full", ORANGE)},
                    "Orange while the worker gets nothing new because its KV cache is full.",
                    width=8,
                ),
                graph(
                    "Age of what is told",
                    [Line(_worst("router_worker_reported_age_seconds"), "{{worker}}")],
                    "Above load_stale_s, others' requests there are forgotten.",
                    unit="s",
                ),
                graph(
                    "Questions/s",
                    [Line(rate("router_load_questions_total", by="end"), "{{end}}")],
                    "To all engines together. odd: answers that could not be read.",
                    unit="ops",
                ),
                graph(
                    "Share of time spent with answers",
                    [
                        Line(
                            f"{rate('router_load_question_seconds_total')} / "
                            f"count({series('router_worker_health')})",
                            "of an engine's time",
                        )
                    ],
                    "What the questions of one router cost an engine, at most load_poll_share.",
                    unit="percentunit",
                ),
            ),
        ),
        (
            "Latency",
            (
                graph(
                    "TTFT p99",
                    [Line(quantile(0.99, "router_ttft_seconds", *SERVED, by="worker"), "{{worker}}")],
                    "One worker above all others at the same queue is slow by itself: clocks, neighbours, a "
                    "wrong preset.",
                    unit="s",
                ),
                graph(
                    "Time between tokens, p50",
                    [Line(quantile(0.5, "router_inter_token_seconds", *SERVED, by="worker"), "{{worker}}")],
                    "Half of the answers came faster.",
                    unit="s",
                ),
                graph(
                    "Requests/s",
                    [Line(rate("router_requests_total", *SERVED, by="worker"), "{{worker}}")],
                    "Requests that ended at each worker.",
                    unit="reqps",
                ),
            ),
        ),
        (
            "Failures",
            (
                graph(
                    "Failures by worker",
                    [Line(rate("router_worker_failures_total", WORKER, by="worker"), "{{worker}}")],
                    "Requests that failed by the worker's fault, those that another worker then answered "
                    "included.",
                    unit="reqps",
                ),
                graph(
                    "Ejections by reason",
                    [Line(rate("router_worker_ejections_total", WORKER, by="reason"), "{{reason}}")],
                    "in_a_row: requests failed one after the other, or a probe did. errors: too large a "
                    "share of them (eject_error_rate). slow: late beside the others (eject_slow_factor).",
                    unit="ops",
                ),
                graph(
                    "Failures by kind",
                    [Line(rate("router_worker_failures_total", WORKER, by="kind"), "{{kind}}")],
                    "connect, connect_timeout: nobody listens, or does not accept. status: a 5xx. broken: "
                    "the connection was cut inside the answer. timeout: no byte for too long.",
                    unit="reqps",
                ),
                graph(
                    "Failed requests by worker",
                    [
                        Line(
                            rate(
                                "router_requests_total",
                                'outcome=~"worker_error|timeout"',
                                *SERVED,
                                by="worker",
                            ),
                            "{{worker}}",
                        )
                    ],
                    "What was left after retries: these reached a client as an error.",
                    unit="reqps",
                ),
                graph(
                    "Restarts, within the hour before",
                    [
                        Line(
                            _restarts("1h"),
                            "{{worker}}",
                        )
                    ],
                    "Engines that came back as another process, with an empty cache. Steps that follow each "
                    "other are a crash loop.",
                ),
                graph(
                    "Idle connections",
                    [Line(total("router_worker_idle_connections", WORKER, by="worker"), "{{worker}}")],
                    "Kept open for the next request, at most idle_connections_per_worker and for "
                    "upstream_keepalive_s.",
                ),
            ),
        ),
    ),
)
