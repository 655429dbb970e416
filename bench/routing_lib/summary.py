"""The study in ten lines, for the README: beside the best of all others, and beside each router's own rule.

The README's block is written and never typed: `placed` puts it between its two marks.
"""

from __future__ import annotations

from typing import Final

from routing_lib.markdown import code, ratio, table
from routing_lib.page_verdicts import ratios_over, verdicts_of
from routing_lib.plan import OURS
from routing_lib.results import Quality
from routing_lib.statistics import geometric_mean
from routing_lib.verdicts import Metric, Word

BEGIN: Final = "<!-- written by bench/routing.py --render -->\n"
END: Final = "<!-- /written -->\n"

WHOSE: Final = {
    "llmd_weighted": "llm-d, weighted scorers",
    "llmd_sticky_until_saturated": "llm-d, sticky until saturated",
    "vllm_router_kv": "vllm-router, KV-aware",
    "sglang_cache_aware:rule=smg-1.13": "smg 1.13",
    "sglang_cache_aware": "sglang-router 0.3.2",
    "dynamo_kv": "NVIDIA Dynamo, KV events",
    "least_requests": "nginx's `least_conn`",
    "round_robin": "nginx's default",
}
"""Rules of routers that people run, by the policy that is theirs; what only papers have is on the page."""

_SUMMARY: Final = """\
{cells} cells of trace × load × KV cache × fleet, {seeds} seeds each, simulated, with the rules of other
routers as their sources have them. Beside the best of {others} other rules, picked for each cell afterwards:
by mean TTFT {mean} cells, by p99 {p99}.

{rules}"""


def summary(quality: Quality) -> str:
    """Reads. Two sentences and a table: geometric means over the cells, below 1 where `cache_aware` is
    faster."""
    rows = [
        (f"{whose} ({code(policy)})", *(_over(quality, metric, policy) for metric in Metric))
        for policy, whose in WHOSE.items()
        if policy in quality.policies
    ]
    return _SUMMARY.format(
        cells=len(quality.cells),
        seeds=len(quality.seeds),
        others=len(quality.policies) - 1,
        mean=_words(quality, Metric.MEAN),
        p99=_words(quality, Metric.P99),
        rules=table((f"TTFT of {code(OURS)} over that of", "mean", "p99"), rows),
    )


def placed(readme: str, quality: Quality) -> str:
    """Reads. The README with today's summary between its marks. Raises ValueError where a mark is missing."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README must have {BEGIN.strip()} and {END.strip()}")
    return f"{before}{begin}\n{summary(quality)}\n{end}{after}"


def _words(quality: Quality, metric: Metric) -> str:
    found = [one.word for one in verdicts_of(quality, metric)]
    return ", ".join(f"{word} in {found.count(word)}" for word in Word)


def _over(quality: Quality, metric: Metric, policy: str) -> str:
    ratios = ratios_over(quality, metric, policy)
    return f"{ratio(geometric_mean(found.value for found in ratios))}×"
