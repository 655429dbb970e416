"""The page's sections on limits: how much load each policy bears, and how far a cell is from what no router
can beat."""

from __future__ import annotations

from typing import Final

from routing_lib.knees import TARGET
from routing_lib.markdown import cell_name, code, percent, place_name, ratio, seconds, table
from routing_lib.plan import OURS
from routing_lib.results import CapacityFound, CellFound, Quality
from warmroute_simulator.report import words

_CAPACITY: Final = """\
## Goodput

How many requests a second a policy bears on {place}: those of the largest load at which {target} of
them keep the limits, as the median of {seeds} seeds. Neighbouring loads that were tried differ by 5 %, so one
step up or down is within what a search can tell. In brackets: the share of the best policy's.
"""

_BOUNDS: Final = """\
## Distance from what no router can beat

An endless cache that all workers share hits most (U1). A pool as large as all caches together hits most
when it evicts what is needed last (Belady, U2); with the engines' own eviction (LRU) it is a mark and no
bound. The floor of TTFT is each prompt alone on an idle worker, after the hits of the endless cache. All of
them are of the sequence that `{ours}` left behind with the first seed, of which the rates and times beside
them are too; in closed loop other policies leave others. *highest other*: the highest hit rate of all other
policies, which need not be the fastest.
"""


def capacity_section(quality: Quality) -> str:
    """Reads. A policy a row, a trace a column."""
    by_place = {(found.policy, found.trace): found for found in quality.capacities}
    traces = list(dict.fromkeys(found.trace for found in quality.capacities))
    best = {
        trace: max(
            (found.requests_per_s or 0.0 for found in quality.capacities if found.trace == trace), default=0.0
        )
        for trace in traces
    }
    rows = [
        (code(policy), *(_capacity(by_place[policy, trace], best[trace]) for trace in traces))
        for policy in sorted(
            quality.policies,
            key=lambda policy: (
                -sum(
                    (by_place[policy, trace].requests_per_s or 0.0) / (best[trace] or 1.0) for trace in traces
                )
            ),
        )
    ]
    intro = _CAPACITY.format(
        place=place_name(quality.capacity_fleet, quality.capacity_kv_tokens),
        target=percent(TARGET),
        seeds=len(quality.capacity_seeds),
    )
    return f"{intro}\n{table(('policy', *traces), rows)}"


def bounds_section(quality: Quality, folder: str) -> str:
    """Reads. A cell a row."""
    headers = (
        *("trace", "cell", "hit rate", "highest other", "", "pooled LRU", "pooled Belady", "endless"),
        *("mean TTFT", "floor", "times the floor"),
    )
    rows = [_distance(cell) for cell in quality.cells]
    plot = f"![Hit rates beside the bounds, cell by cell]({folder}/hits.svg)\n"
    return f"{_BOUNDS.format(ours=OURS)}\n{table(headers, rows, texts=2)}\n{plot}"


def highest_other(cell: CellFound) -> tuple[str, float]:
    """Reads. The policy with the highest hit rate beside ours with the first seed, and that."""
    rates = {name: result.hit_rate[0] for name, result in cell.results.items() if name != OURS}
    name = max(rates, key=rates.__getitem__)
    return name, rates[name]


def _capacity(found: CapacityFound, best: float) -> str:
    if found.requests_per_s is None:
        return "none"
    number = words.three_digits(found.requests_per_s)
    if not found.found:
        number = f"≥ {number}"
    share = found.requests_per_s / best
    return f"**{number}**" if share == 1 else f"{number} ({ratio(share)})"


def _distance(cell: CellFound) -> tuple[str, ...]:
    ours = cell.results[OURS]
    name, highest = highest_other(cell)
    ttft_s = ours.ttft_mean_s[0]
    bounds = cell.bounds
    hits = (bounds.pooled_lru, bounds.pooled_belady, bounds.single_infinite)
    floor_s = bounds.ttft_floor_mean_s
    return (
        cell.trace,
        cell_name(cell),
        words.percent(ours.hit_rate[0]),
        words.percent(highest),
        code(name),
        *map(words.percent, hits),
        seconds(ttft_s),
        seconds(floor_s),
        ratio(ttft_s / floor_s),
    )
