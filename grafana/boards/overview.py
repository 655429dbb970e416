"""Is it well? Traffic, errors, latency, load: the first dashboard to open."""

from __future__ import annotations

from typing import Final

from boards import frame
from boards.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    YELLOW,
    Line,
    graph,
    quantiles,
    single,
)
from boards.promql import MODEL, SERVED, WORKER, quantile, rate, total

_FAILED: Final = 'outcome=~"worker_error|timeout|cancelled"'
"""Not the client's doing. `client_error` is the client's fault and `client_gone` its choice."""

_REQUESTS: Final = rate("router_requests_total", *SERVED)
_PROMPT: Final = rate("router_prompt_tokens_total", *SERVED)
_CACHED: Final = rate("router_actual_hit_tokens_total", *SERVED)

_OUTCOMES: Final = (
    ("ok", GREEN),
    ("client_error", YELLOW),
    ("client_gone", GREY),
    ("worker_error", RED),
    ("timeout", ORANGE),
    ("cancelled", PURPLE),
)

BOARD: Final = frame.Board(
    name="overview",
    title="warmroute / Overview",
    description="Is it well? Traffic, errors, latency and load of the chosen routers.",
    variables=(frame.model, frame.worker),
    head=(
        single(
            "Alerts firing",
            'count(ALERTS{alertname=~"Warmroute.*",alertstate="firing",job=~"$job"}) or vector(0)',
            "Alerts of grafana/prometheus/rules that fire now. 0 is good; docs/alerts.md says what to do. "
            "Always 0 where the rules are not loaded.",
            width=2,
            steps=((None, GREEN), (1, RED)),
            decimals=0,
        ),
        single(
            "Requests/s",
            _REQUESTS,
            "Requests that were given to a worker and have ended, per second.",
            unit="reqps",
        ),
        single(
            "Failed",
            f"{rate('router_requests_total', _FAILED, *SERVED)} / {_REQUESTS}",
            "Share of requests that failed by the fleet's fault: broken workers, time-outs, given up. Below "
            "1 % is usual, above 5 % somebody notices.",
            unit="percentunit",
            steps=((None, GREEN), (0.01, YELLOW), (0.05, RED)),
        ),
        single(
            "Refused/s",
            rate("router_refusals_total"),
            "Requests that the router answered itself, without a worker: wrong keys, unknown models, full "
            "buffers, nobody to take it. The codes are below.",
            unit="reqps",
        ),
        single(
            "TTFT p50",
            quantile(0.5, "router_ttft_seconds", *SERVED),
            "Half of the streamed answers began within this.",
            unit="s",
            steps=((None, GREEN), (1, YELLOW), (5, RED)),
        ),
        single(
            "TTFT p99",
            quantile(0.99, "router_ttft_seconds", *SERVED),
            "One streamed answer in a hundred began later than this. The alert's objective is 99 % within 5 "
            "s.",
            unit="s",
            steps=((None, GREEN), (2.5, YELLOW), (5, RED)),
        ),
        single(
            "Cached",
            f"{_CACHED} / {_PROMPT}",
            "Share of the prompt tokens that engines reported as cached. More is better; what is possible "
            "depends on the traffic: see the dashboard Cache.",
            unit="percentunit",
        ),
        single(
            "In flight",
            total("router_inflight_requests"),
            "Requests inside the routers now, at every worker and model.",
            width=2,
            decimals=0,
        ),
        single(
            "Longest queue",
            f"max(sum by (worker) ({total('router_worker_queued_prefill_seconds', WORKER, by='worker')}))",
            "Predicted prefill time of what waits at the worker with the longest queue: about what a request "
            "that has to go there waits.",
            unit="s",
            width=2,
            steps=((None, GREEN), (2, YELLOW), (10, RED)),
        ),
    ),
    sections=(
        (
            "Traffic and errors",
            (
                graph(
                    "Requests by outcome",
                    [
                        Line(rate("router_requests_total", f'outcome="{outcome}"', *SERVED), outcome, color)
                        for outcome, color in _OUTCOMES
                    ],
                    "How routed requests ended. client_error and client_gone are the clients' doing; red "
                    "and orange are workers that broke or were too slow, after all retries; purple was "
                    "given up by the router.",
                    unit="reqps",
                    stacked=True,
                ),
                graph(
                    "Refusals by code",
                    [Line(rate("router_refusals_total", by="code"), "{{code}}")],
                    "Answered by the router itself. no_worker, buffers_full and too_many_connections mean "
                    "that there is too little of something; the other codes are mistakes of clients. "
                    "docs/operations.md explains each.",
                    unit="reqps",
                ),
                graph(
                    "Requests by model",
                    [Line(rate("router_requests_total", *SERVED, by="model"), "{{model}}")],
                    "Which model the traffic is for. `other` are names beyond the hundredth.",
                    unit="reqps",
                ),
            ),
        ),
        (
            "Latency",
            (
                graph(
                    "Time to first token",
                    quantiles("router_ttft_seconds", *SERVED),
                    "From the whole request to the first byte of a streamed answer: queue and prefill. When "
                    "it climbs, look at queues below, then at the dashboard Cache.",
                    unit="s",
                ),
                graph(
                    "Time between tokens",
                    quantiles("router_inter_token_seconds", *SERVED),
                    "Mean time between two tokens of a streamed answer. It grows with the number of requests "
                    "that decode at once on a worker; the router cannot shorten it, only spread it.",
                    unit="s",
                ),
                graph(
                    "Whole request",
                    quantiles("router_request_duration_seconds", *SERVED),
                    "From the whole request to the end of its answer. Mostly the answer's length.",
                    unit="s",
                ),
            ),
        ),
        (
            "Load",
            (
                graph(
                    "In flight by worker",
                    [Line(total("router_worker_inflight_requests", WORKER, by="worker"), "{{worker}}")],
                    "Requests at each worker. They need not be equal: a worker with warm prefixes takes "
                    "more, shorter prefills.",
                ),
                graph(
                    "Queued prefill by worker",
                    [Line(total("router_worker_queued_prefill_seconds", WORKER, by="worker"), "{{worker}}")],
                    "Predicted prefill time of what waits at each worker. Seconds at all of them: the fleet "
                    "is too small. Seconds at one and none at the others: see the dashboard Workers.",
                    unit="s",
                ),
                graph(
                    "Tokens/s",
                    [
                        Line(_PROMPT, "prompt", GREY),
                        Line(_CACHED, "of them cached", GREEN),
                        Line(rate("router_completion_tokens_total", *SERVED), "generated", BLUE),
                    ],
                    "Tokens per second. What lies between prompt and cached was computed.",
                ),
            ),
        ),
        (
            "Decisions",
            (
                graph(
                    "Decisions by reason",
                    [Line(rate("router_decisions_total", by="reason"), "{{reason}}")],
                    "Why workers were chosen. For cache_aware: warm is the best holder, spill a worker that "
                    "holds less because the holder is busy, cold means that nobody holds any of it. Much "
                    "spill means that hot prefixes have more traffic than their holders can take.",
                    unit="reqps",
                    width=12,
                ),
                graph(
                    "TTFT p99 by model",
                    [Line(quantile(0.99, "router_ttft_seconds", MODEL, by="model"), "{{model}}")],
                    "One model that stands out has too few workers, or workers that are unwell.",
                    unit="s",
                    width=12,
                ),
            ),
        ),
    ),
)
