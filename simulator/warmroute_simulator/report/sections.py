"""The sections of a page with plots: latencies, reuse, the knee, the workers; "" with nothing to show."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from warmroute_simulator.report import words
from warmroute_simulator.report.axes import Axis, linear, logarithmic, percent, plain, short_seconds
from warmroute_simulator.report.comparison import LoadPoint
from warmroute_simulator.report.markup import Series, figure, legend, legend_of, named, section
from warmroute_simulator.report.model import Report
from warmroute_simulator.report.page_style import SERIES
from warmroute_simulator.report.plots import (
    TOKEN_KINDS,
    distribution,
    hits_over_time,
    knee,
    token_bars,
    ttft_over_time,
)
from warmroute_simulator.report.small_plots import busiest, short_name, worker_load

_WORKERS_SHOWN: Final = 16
"""Small plots for each run; of more workers as many are picked, evenly from most to least computed."""


def latencies(series: Sequence[Series]) -> str:
    """Reads. Distributions of TTFT, TPOT, E2E and of sessions, where there are any."""
    limits = series[0].report.goodput
    ttft = [(one, one.curves.ttft, one.report.ttft_s) for one in series]
    tpot = [(one, one.curves.tpot, one.report.tpot_s) for one in series]
    e2e = [(one, one.curves.e2e, one.report.e2e_s) for one in series]
    session = [(one, one.curves.session, one.report.session_s) for one in series]
    plots = (
        ("TTFT", "time to first token", distribution("TTFT", ttft, limits.ttft_slo_s)),
        ("TPOT", "time per output token", distribution("TPOT", tpot, limits.tpot_slo_s)),
        ("E2E", "the whole request", distribution("E2E", e2e)),
        ("Session", "from its start to its last token", distribution("sessions", session)),
        ("TTFT", "p90 by time of arrival", ttft_over_time(series)),
    )
    figures = "".join(figure(name, meaning, svg) for name, meaning, svg in plots if svg)
    if not figures:
        return ""
    text = (
        "How many requests (upwards) took at most how long (to the right). Further left is better. The scale "
        "is stretched at both ends so that the slowest percent can be seen; dots are at p50, p90 and p99, a "
        "dashed line is a limit of goodput."
    )
    if any(one.curves.marks for one in series):
        text += " Over time, a dashed line is where something happened to the fleet."
    return section("How long requests took", text, legend_of(series) + f'<div class="plots">{figures}</div>')


def tokens(series: Sequence[Series]) -> str:
    """Reads. What was reused over time and in all, and what the rest was."""
    text = (
        "Prompt tokens that are cached need not be computed. What is lost to eviction asks for more KV "
        "cache; what another worker held asks for better routing."
    )
    if any(one.report.bounds.pooled_lru is not None for one in series):
        text += " Ticks mark what one pooled LRU cache, the best eviction and one infinite cache would reuse."
    meaning = "by time of arrival"
    if series[0].curves.hits.infinite:
        meaning += "; shaded: one infinite cache"
    over_time = figure("Hit rate", meaning, legend_of(series) + hits_over_time(series))
    bars = figure("Where prompt tokens went", "", legend(TOKEN_KINDS) + token_bars(series))
    return section("What was reused", text, f'<div class="plots two">{over_time}{bars}</div>')


def sweep(points: Sequence[LoadPoint], load_name: str, series: Sequence[Series]) -> str:
    """Reads. Where the load becomes too much."""
    colours: dict[str, str] = {}
    for one in series:
        colours.setdefault(one.report.policy, one.css)
    for point in points:
        colours.setdefault(point.policy, f"s{len(colours) % SERIES}")
    goodput = [(point, point.goodput_per_s) for point in points]
    share = [(point, point.goodput_share) for point in points]
    ttft = [(point, point.ttft_p99_s) for point in points]
    limit_s = series[0].report.goodput.ttft_slo_s

    def upwards(_: float, high: float) -> Axis:
        return linear(0, high, plain)

    def shares(_: float, high: float) -> Axis:
        return linear(0, high, percent)

    def times(low: float, high: float) -> Axis:
        return logarithmic(low, high, short_seconds)

    plots = (
        ("Goodput", "requests/s", knee("goodput", goodput, colours, load_name, upwards)),
        ("Goodput", "share of requests", knee("share of goodput", share, colours, load_name, shares)),
        ("TTFT", "p99", knee("TTFT p99", ttft, colours, load_name, times, limit_s)),
    )
    figures = "".join(figure(name, meaning, svg) for name, meaning, svg in plots if svg)
    entries = [
        (css, policy) for policy, css in colours.items() if any(point.policy == policy for point in points)
    ]
    text = (
        "Up to its knee a policy's goodput grows with what is offered; the further right it is, the better."
    )
    return section("Where the knee is", text, legend(entries) + f'<div class="plots">{figures}</div>')


def workers(series: Sequence[Series]) -> str:
    """Reads. Load and KV cache of each worker over time."""
    loads = [one.curves.load for one in series if one.curves.load.times_s]
    if not loads:
        return ""
    most = busiest(loads)
    parts = []
    for one in series:
        picked = _picked(one.report)
        figures = []
        for place in picked:
            worker = one.report.per_worker[place]
            shares = f"{_percent(worker.hit_rate)} hit · {_percent(worker.busy_share)} busy"
            caption = f"{escape(short_name(worker.worker))}<br><span>{escape(shares)}</span>"
            plots = worker_load(one.curves.load, place, most)
            figures.append(f"<figure><figcaption>{caption}</figcaption>{plots}</figure>")
        some = f" <span>{len(picked)} of {one.report.workers} workers</span>"
        if len(series) > 1 or len(picked) < one.report.workers:
            parts.append(f"<h3>{named(one)}{some * (len(picked) < one.report.workers)}</h3>")
        parts.append(f'<div class="workers">{"".join(figures)}</div>')
    entries = (
        ("running", "requests running"),
        ("waiting", "waiting"),
        ("used", "KV cache in use"),
        ("cached", "holds prefixes"),
    )
    end = words.seconds(max(load.times_s[-1] for load in loads))
    text = (
        f"From the start to {end}. Above, the requests on each worker, on one scale up to {most:.0f}; below, "
        "its KV cache from empty to full."
    )
    return section("How busy each worker was", text, legend(entries) + "".join(parts))


def _percent(share: float | None) -> str:
    return words.DASH if share is None else f"{100 * share:.0f} %"


def _picked(report: Report) -> list[int]:
    """Reads. Which workers are drawn, in their own order."""
    places = range(len(report.per_worker))
    if len(places) <= _WORKERS_SHOWN:
        return list(places)
    ordered = sorted(places, key=lambda place: -(report.per_worker[place].computed_share or 0))
    steps = (step * (len(places) - 1) / (_WORKERS_SHOWN - 1) for step in range(_WORKERS_SHOWN))
    return sorted(ordered[round(step)] for step in steps)
