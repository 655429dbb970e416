"""What the saved prefill is worth. Prices are typed at the top; all sums are over the chosen time range."""

from __future__ import annotations

from typing import Final

from boards import frame
from boards.panels import BLUE, GREEN, GREY, ORANGE, Column, Line, graph, rows, single
from boards.promql import SERVED, increase, rate

_CACHED: Final = "router_actual_hit_tokens_total"
_COMPUTED_S: Final = "router_prefill_seconds_total"
_SAVED_S: Final = "router_prefill_seconds_saved_total"
_AT_LIST_PRICE: Final = "/ 1e6 * $price_per_million_tokens"
_AT_GPU_PRICE: Final = "/ 3600 * $gpus_per_worker * $price_per_gpu_hour"

_ESTIMATE: Final = "Seconds are what the prices that the router has learned predict for cached tokens."
_SAVED: Final = increase(_SAVED_S, *SERVED)
_AVAILABLE: Final = increase("router_reusable_tokens_total", *SERVED)


def _per_hour(name: str, price: str, by: str = "") -> str:
    return f"{rate(name, *SERVED, by=by)} * 3600 {price}"


def _table(by: str) -> list[Column]:
    return [
        Column("tokens not computed", increase(_CACHED, *SERVED, by=by)),
        Column("worth by token price", f"{increase(_CACHED, *SERVED, by=by)} {_AT_LIST_PRICE}"),
        Column("prefill saved", increase(_SAVED_S, *SERVED, by=by), "s"),
        Column("worth by GPU price", f"{increase(_SAVED_S, *SERVED, by=by)} {_AT_GPU_PRICE}"),
    ]


BOARD: Final = frame.Board(
    name="money",
    title="warmroute / Money",
    description="What the saved prefill is worth, by the price of a prompt token and by that of a GPU: two "
    "views of one saving, do not add them.",
    variables=(
        frame.model,
        frame.worker,
        frame.number(
            "price_per_million_tokens",
            "Price per million prompt tokens",
            "0.50",
            "What a million uncached prompt tokens cost you, or would cost elsewhere.",
        ),
        frame.number("price_per_gpu_hour", "Price per GPU-hour", "2.50", "What one GPU costs for an hour."),
        frame.number("gpus_per_worker", "GPUs per worker", "1", "Tensor parallel size of an engine."),
        frame.number("currency", "Currency", "USD", "Shown in titles only; nothing is converted."),
    ),
    head=(
        single(
            "Prompt tokens not recomputed",
            increase(_CACHED, *SERVED),
            "Prompt tokens that engines reported as cached, over the time range.",
            width=4,
            graph=False,
        ),
        single(
            "Worth by token price, $currency",
            f"{increase(_CACHED, *SERVED)} {_AT_LIST_PRICE}",
            "Those tokens at the price per million prompt tokens.",
            width=4,
            decimals=2,
            graph=False,
            steps=((None, GREEN),),
        ),
        single(
            "GPU time saved",
            f"{_SAVED} * $gpus_per_worker",
            f"GPU-seconds of prefill that were not needed. {_ESTIMATE}",
            unit="s",
            width=4,
            graph=False,
        ),
        single(
            "Worth by GPU price, $currency",
            f"{_SAVED} {_AT_GPU_PRICE}",
            "That time at the price of a GPU-hour. It is money only if the time is used: a fleet that is "
            "idle anyway saves latency instead.",
            width=4,
            decimals=2,
            graph=False,
            steps=((None, GREEN),),
        ),
        single(
            "Prefill avoided",
            f"{_SAVED} / ({_SAVED} + {increase(_COMPUTED_S, *SERVED)})",
            "Share of all prefill time that the caches saved. Without it the fleet would need that much more "
            "for prefill.",
            unit="percentunit",
            width=4,
            graph=False,
        ),
        single(
            "Left on the table, $currency",
            f"clamp_min({_AVAILABLE} - {increase(_CACHED, *SERVED)}, 0) {_AT_LIST_PRICE}",
            "Tokens that some worker was believed to hold, and that were computed again all the same, at the "
            "token price. The dashboard Cache says where they were lost.",
            width=4,
            decimals=2,
            graph=False,
            steps=((None, ORANGE),),
        ),
    ),
    sections=(
        (
            "Over time",
            (
                graph(
                    "Saved per hour by token price, $currency",
                    [Line(_per_hour(_CACHED, _AT_LIST_PRICE, by="model"), "{{model}}")],
                    "At the present rate.",
                    stacked=True,
                ),
                graph(
                    "Saved per hour by GPU price, $currency",
                    [Line(_per_hour(_SAVED_S, _AT_GPU_PRICE, by="model"), "{{model}}")],
                    f"At the present rate. {_ESTIMATE}",
                    stacked=True,
                ),
                graph(
                    "Prefill",
                    [
                        Line(f"{rate(_COMPUTED_S, *SERVED)} * $gpus_per_worker", "computed", BLUE),
                        Line(f"{rate(_SAVED_S, *SERVED)} * $gpus_per_worker", "saved", GREEN),
                    ],
                    "GPUs that prefill at a time, and GPUs that would have to beside them without caches.",
                    stacked=True,
                ),
            ),
        ),
        (
            "Who saves",
            (
                rows("By model, $currency", "model", _table("model"), f"Over the time range. {_ESTIMATE}"),
                rows("By worker, $currency", "worker", _table("worker"), f"Over the time range. {_ESTIMATE}"),
            ),
        ),
        (
            "What another policy would save (empty unless shadow policies are configured)",
            (
                graph(
                    "Predicted to be saved per hour by token price, $currency",
                    [
                        Line(
                            f"{rate('router_predicted_hit_tokens_total')} * 3600 {_AT_LIST_PRICE}",
                            "live, corrected by engines",
                            GREY,
                        ),
                        Line(
                            f"{rate('router_shadow_predicted_hit_tokens_total', by='policy')}"
                            f" * 3600 {_AT_LIST_PRICE}",
                            "{{policy}}",
                            dashed=True,
                        ),
                    ],
                    "Predictions, for all models and workers. Engines' answers correct the live router and "
                    "never a shadow: compare with a shadow of the live policy, not with the live line. More "
                    "hits at worse balance may still be the slower fleet: see the dashboard Cache.",
                    width=24,
                ),
            ),
        ),
    ),
)
