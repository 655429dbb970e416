"""What could be reused, what routing made of it, and what the engines delivered."""

from __future__ import annotations

from typing import Final

from boards import frame
from boards.panels import (
    BLUE,
    GREEN,
    GREY,
    LIGHT_BLUE,
    RED,
    YELLOW,
    Column,
    Line,
    bars,
    graph,
    rows,
    single,
)
from boards.promql import SERVED, WORKER, imbalance, increase, quantile, rate, series, total

_PROMPT: Final = "router_prompt_tokens_total"
_STEPS: Final = (
    ("available", "router_reusable_tokens_total", LIGHT_BLUE),
    ("captured by routing", "router_predicted_hit_tokens_total", BLUE),
    ("delivered by engines", "router_actual_hit_tokens_total", GREEN),
)
"""The waterfall, from what the best holder had to what the engine counted."""

_WATERFALL: Final = (
    "available: the best holder was believed to have it. captured: the chosen worker was. delivered: the "
    "engine reported it as cached. Available to captured is lost by routing, mostly because the holder was "
    "too busy; captured to delivered by engines that had forgotten it, or do not report."
)
_AGREED: Final = 'agreed="true"'
_SHADOW_HITS: Final = (
    f"{rate('router_shadow_predicted_hit_tokens_total', by='policy')}"
    f" / {rate('router_shadow_prompt_tokens_total', by='policy')}"
)
_LIVE_HITS: Final = f"{rate('router_predicted_hit_tokens_total')} / {rate(_PROMPT)}"


def _share(step: str, by: str = "") -> str:
    return f"{rate(step, *SERVED, by=by)} / {rate(_PROMPT, *SERVED, by=by)}"


def _share_of_range(step: str, by: str) -> str:
    return f"{increase(step, *SERVED, by=by)} / {increase(_PROMPT, *SERVED, by=by)}"


def _table(by: str) -> list[Column]:
    return [
        Column("prompt tokens", increase(_PROMPT, *SERVED, by=by)),
        *(Column(name, _share_of_range(step, by), "percentunit") for name, step, _ in _STEPS),
        Column(
            "delivered / predicted",
            f"{increase(_STEPS[2][1], *SERVED, by=by)} / {increase(_STEPS[1][1], *SERVED, by=by)}",
            "percentunit",
            ((None, RED), (0.7, YELLOW), (0.9, GREEN)),
        ),
        Column(
            "answers that report",
            f"{increase('router_usage_reports_total', *SERVED, by=by)}"
            f" / {increase('router_requests_total', *SERVED, by=by)}",
            "percentunit",
            ((None, RED), (0.5, YELLOW), (0.9, GREEN)),
        ),
    ]


BOARD: Final = frame.Board(
    name="cache",
    title="warmroute / Cache",
    description="What could be reused, what routing made of it, and what the engines delivered.",
    variables=(frame.model, frame.worker),
    head=(
        single(
            "Reuse available",
            _share(_STEPS[0][1]),
            "Share of the prompt tokens that the best holder was believed to have: what routing could get "
            "from the caches, as believed; engines may hold more. Low: the prompts share little, or the "
            "caches are too small for them.",
            unit="percentunit",
            width=4,
        ),
        single(
            "Captured by routing",
            _share(_STEPS[1][1]),
            "Share of the prompt tokens that the chosen worker was believed to have. Close to what is "
            "available is good; a gap is what load balancing costs.",
            unit="percentunit",
            width=4,
        ),
        single(
            "Delivered by engines",
            _share(_STEPS[2][1]),
            "Share of the prompt tokens that engines reported as cached: the hit rate.",
            unit="percentunit",
            width=4,
        ),
        single(
            "Delivered / predicted",
            f"{rate(_STEPS[2][1], *SERVED)} / {rate(_STEPS[1][1], *SERVED)}",
            "1 is a right prediction. Below 0.9: engines forget earlier than believed, or do not report. "
            "Above 1.1: they keep more than is believed.",
            unit="percentunit",
            width=4,
            steps=((None, RED), (0.7, YELLOW), (0.9, GREEN), (1.1, YELLOW)),
        ),
        single(
            "Answers that report",
            f"{rate('router_usage_reports_total', *SERVED)} / {rate('router_requests_total', *SERVED)}",
            "Share of the answers that told how many tokens were cached. All that is said of delivered "
            "tokens here is only as complete as this: vLLM needs --enable-prompt-tokens-details, SGLang "
            "--enable-cache-report, streams stream_options.include_usage.",
            unit="percentunit",
            width=4,
            steps=((None, RED), (0.5, YELLOW), (0.9, GREEN)),
        ),
        single(
            "Index of its budget",
            f"max({series('router_index_bytes')} / {series('router_index_max_bytes')})",
            "Memory of the fullest router's prefix index over index_max_bytes. At 100 % it forgets before "
            "the engines do: raise the setting.",
            unit="percentunit",
            width=4,
            steps=((None, GREEN), (0.8, YELLOW), (0.95, RED)),
        ),
    ),
    sections=(
        (
            "Waterfall",
            (
                graph(
                    "Share of prompt tokens",
                    [Line(_share(step), name, color) for name, step, color in _STEPS],
                    _WATERFALL,
                    unit="percentunit",
                    width=16,
                    most=1,
                ),
                bars(
                    "Share of prompt tokens, whole time range",
                    [Line(_share_of_range(step, ""), name, color) for name, step, color in _STEPS],
                    _WATERFALL,
                    unit="percentunit",
                    most=1,
                ),
                rows("By model", "model", _table("model"), _WATERFALL),
                rows("By worker", "worker", _table("worker"), _WATERFALL),
            ),
        ),
        (
            "Prediction",
            (
                graph(
                    "Delivered / predicted by worker",
                    [
                        Line(
                            f"{rate(_STEPS[2][1], *SERVED, by='worker')}"
                            f" / {rate(_STEPS[1][1], *SERVED, by='worker')}",
                            "{{worker}}",
                        )
                    ],
                    "1 is a right prediction. One worker that falls to 0 was restarted, or has been told a "
                    "wrong KV capacity; the router learns both within some requests.",
                    unit="percentunit",
                    limit=((None, "transparent"), (1, GREEN)),
                ),
                graph(
                    "Lessons",
                    [Line(rate("router_capacity_lessons_total", by="lesson"), "{{lesson}}")],
                    "Answers that corrected the belief about a worker's cache. nothing: the prediction was "
                    "right, or the engine does not report. grew, cut: its size. lost: one prefix was gone. "
                    "restarted: all was gone. Steady cuts mean a wrong kv_capacity_tokens, or traffic that "
                    "goes around the router.",
                    unit="ops",
                ),
                graph(
                    "Requests without a prompt that was found",
                    [Line(rate("router_requests_without_prefix_total"), "without prefix")],
                    "Bodies in which no prompt was found are routed by load alone. Anything but 0 is another "
                    "API's format or a field of an unknown name.",
                    unit="reqps",
                ),
            ),
        ),
        (
            "Room",
            (
                graph(
                    "Alive share of the KV cache",
                    [
                        Line(
                            f"max by (worker) ({series('router_worker_cache_crowding', WORKER)})",
                            "{{worker}}",
                        )
                    ],
                    "Believed share of each worker's cache that somebody is still likely to come back for. "
                    "Near 100 % everywhere: what is stored displaces what is needed, and more KV cache "
                    "would pay.",
                    unit="percentunit",
                    most=1,
                ),
                graph(
                    "Believed KV capacity",
                    [
                        Line(
                            total("router_worker_believed_kv_capacity_tokens", WORKER, by="worker"),
                            "{{worker}}",
                        )
                    ],
                    "What the router believes that each worker's cache can hold, in tokens. Gaps: unknown "
                    "yet. It should be flat; steps down are lessons.",
                ),
                graph(
                    "Blocks held by worker",
                    [Line(total("router_worker_resident_blocks", WORKER, by="worker"), "{{worker}}")],
                    "Blocks of 512 bytes of prompt that each worker is believed to hold.",
                ),
                graph(
                    "Index evictions",
                    [Line(rate("router_index_evicted_blocks_total"), "blocks")],
                    "Blocks per second that the index forgot for room, mostly because the worker is "
                    "believed to have done the same. Steady is normal for full caches.",
                    unit="ops",
                ),
                graph(
                    "Index memory",
                    [
                        Line(total("router_index_bytes", by="instance"), "{{instance}}"),
                        Line(
                            total("router_index_max_bytes", by="instance"),
                            "{{instance}} at most",
                            dashed=True,
                        ),
                    ],
                    "Memory of each router's prefix index, and index_max_bytes.",
                    unit="bytes",
                ),
                graph(
                    "Index blocks",
                    [Line(total("router_index_blocks", by="instance"), "{{instance}}")],
                    "Blocks that all workers together are believed to hold.",
                ),
            ),
        ),
        (
            "KV events (empty unless kv_events is on)",
            (
                graph(
                    "Workers by what is known of their caches",
                    [Line(total("router_kv_event_state", WORKER, by="state"), "{{state}}")],
                    "exact: the engine tells all that its cache holds. partial: what is known is there, and "
                    "more may be. approximate: predicted as without events. GET /workers says why.",
                    width=8,
                ),
                graph(
                    "Blocks known by tier",
                    [Line(total("router_kv_event_blocks", WORKER, by="worker, tier"), "{{worker}} {{tier}}")],
                    "Blocks of the engine's own size. A fall to 0 is a cleared cache, a restart, or a stream "
                    "that began anew.",
                    width=8,
                ),
                graph(
                    "Events",
                    [
                        Line(rate("router_kv_event_events_total", WORKER, by="kind"), "{{kind}}"),
                        Line(rate("router_kv_event_batches_total", WORKER), "batches", dashed=True),
                    ],
                    "ignored: about what is not looked up, such as other groups of layers. skipped: of kinds "
                    "that this router does not know.",
                    unit="ops",
                    width=8,
                ),
                graph(
                    "Lag",
                    [
                        Line(
                            f"max by (worker) ({series('router_kv_event_lag_seconds', WORKER)})", "{{worker}}"
                        )
                    ],
                    "From the engine's clock to the router's. A constant part is the clocks' difference; a "
                    "growing one is a router or a network that does not keep up.",
                    unit="s",
                    width=8,
                ),
                graph(
                    "Gaps, replays, restarts, stalls",
                    [
                        Line(rate("router_kv_event_gaps_total", WORKER), "gaps"),
                        Line(rate("router_kv_event_replays_total", WORKER, by="result"), "replay {{result}}"),
                        Line(rate("router_kv_event_restarts_total", WORKER), "restarts"),
                        Line(rate("router_kv_event_stalls_total", WORKER), "stalls"),
                    ],
                    "A replay asks whether something is missing, behind quiet requests too; filled is good. "
                    "short: the engine kept too little (buffer_steps). unanswered: no replay_endpoint, or it "
                    "cannot be reached.",
                    unit="ops",
                    width=8,
                ),
                graph(
                    "Odd events",
                    [
                        Line(rate("router_kv_event_errors_total", WORKER, by="reason"), "{{reason}}"),
                        Line(rate("router_kv_event_unmatched_total"), "of no worker"),
                    ],
                    "0 is good; docs/exact-mode.md says what each reason means. of no worker: a topic that "
                    "names nobody, on the line that all share.",
                    unit="ops",
                    width=8,
                ),
            ),
        ),
        (
            "Hot prefixes",
            (
                bars(
                    "Tokens that the hottest prefixes saved lately",
                    [Line(total("router_hot_prefix_saved_tokens", by="rank"), "rank {{rank}}")],
                    "Prompt tokens not computed again thanks to each of the ten hottest prefixes. One bar "
                    "far above the rest is a common system prompt. /ui on the router names them.",
                    width=24,
                ),
            ),
        ),
        (
            "Shadow policies (empty unless some are configured)",
            (
                graph(
                    "Predicted hit rate",
                    [
                        Line(_LIVE_HITS, "live, corrected by engines", GREY),
                        Line(_SHADOW_HITS, "{{policy}}", dashed=True),
                    ],
                    "What each policy in the shadow believes that it would have hit. Engines' answers "
                    "correct the live router and never a shadow: compare with a shadow of the live policy, "
                    "not with the live line. Higher at even load (on the right) is a better policy for this "
                    "traffic.",
                    unit="percentunit",
                    most=1,
                ),
                graph(
                    "Agreement with the live policy",
                    [
                        Line(
                            f"{rate('router_shadow_decisions_total', _AGREED, by='policy')}"
                            f" / {rate('router_shadow_decisions_total', by='policy')}",
                            "{{policy}}",
                        )
                    ],
                    "Share of decisions in which the shadow chose the worker that the request went to.",
                    unit="percentunit",
                    most=1,
                ),
                graph(
                    "Imbalance of requests in flight",
                    [
                        Line(imbalance(total("router_worker_inflight_requests", by="worker")), "live", GREY),
                        Line(
                            imbalance(
                                total("router_shadow_worker_inflight_requests", by="policy, worker"), "policy"
                            ),
                            "{{policy}}",
                            dashed=True,
                        ),
                    ],
                    "Most over mean. 1 is even. A policy that hits more by piling everything on one worker "
                    "shows here. The baseline is a shadow of the live policy.",
                ),
                graph(
                    "Would-be requests in flight",
                    [
                        Line(
                            total("router_shadow_worker_inflight_requests", WORKER, by="policy, worker"),
                            "{{policy}} {{worker}}",
                        )
                    ],
                    "Where the running requests would be, had the shadow decided.",
                    width=6,
                ),
                graph(
                    "Would-be queued prefill",
                    [
                        Line(
                            total("router_shadow_worker_queued_prefill_seconds", WORKER, by="policy, worker"),
                            "{{policy}} {{worker}}",
                        )
                    ],
                    "Predicted prefill time that would wait at each worker, had the shadow decided.",
                    unit="s",
                    width=6,
                ),
                graph(
                    "Cost of a decision, p99",
                    [
                        Line(quantile(0.99, "router_decision_seconds"), "live, with parsing", GREEN),
                        Line(
                            quantile(0.99, "router_shadow_decision_seconds", by="policy"),
                            "{{policy}}",
                            dashed=True,
                        ),
                    ],
                    "A shadow decides on the same event loop: a slow one delays requests. Below a "
                    "millisecond nobody notices.",
                    unit="s",
                    width=6,
                ),
                graph(
                    "Failures of shadows",
                    [Line(total("router_shadow_failures_total", by="policy"), "{{policy}}")],
                    "Faults of the shadow's code. The first ends its decisions, and its figures stand still. "
                    "Requests do not notice. 0 is good.",
                    width=6,
                ),
            ),
        ),
    ),
)
