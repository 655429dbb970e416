"""What a page shows of all its runs, as plots: each function gives one <svg>, or "" if it would be empty."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from warmroute_simulator.report import words
from warmroute_simulator.report.axes import (
    Axis,
    clock,
    clock_text,
    linear,
    logarithmic,
    normal,
    percent,
    plain,
    short_seconds,
)
from warmroute_simulator.report.comparison import LoadPoint
from warmroute_simulator.report.curves import HIGHEST_SHARE, LOWEST_SHARE, Ecdf
from warmroute_simulator.report.latencies import Spread
from warmroute_simulator.report.markup import Series
from warmroute_simulator.report.svg import Plot

_SHARE_TICKS: Final = tuple(
    (share, f"{100 * share:g} %") for share in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)
)
_SHORTEST_S: Final = 1e-4
"""Nothing that an engine does is faster; zeros have no place on a logarithmic axis."""
_ROW: Final = 45.0
"""Height of a bar, its name and the room around them."""

TOKEN_KINDS: Final = (
    ("reused", "reused"),
    ("first", "computed for the first time"),
    ("evicted", "computed again, evicted here"),
    ("elsewhere", "computed again, held by another worker"),
    ("forgotten", "computed again, lost elsewhere or part of a page"),
)
"""Classes of colours, and what became of a prompt token."""


def distribution(
    what: str, measured: Sequence[tuple[Series, Ecdf | None, Spread | None]], limit_s: float | None = None
) -> str:
    """Reads. Share of requests (upwards) that took at most so long (to the right)."""
    drawn = [(one, ecdf, spread) for one, ecdf, spread in measured if ecdf is not None]
    if not drawn:
        return ""
    low = max(min(ecdf.values_s[0] for _, ecdf, _ in drawn), _SHORTEST_S)
    high = max(max(ecdf.values_s[-1] for _, ecdf, _ in drawn), low)
    plot = Plot(
        f"Distribution of {what} by policy",
        logarithmic(low, high, short_seconds),
        normal(LOWEST_SHARE, HIGHEST_SHARE, _SHARE_TICKS, "share of requests that took at most …"),
    )
    if limit_s is not None and low < limit_s < high:
        plot.upright(limit_s, "rule", f"limit of goodput: {words.seconds(limit_s)}")
    for one, ecdf, _ in drawn:
        points = zip(ecdf.values_s, ecdf.shares, strict=True)
        plot.line([(max(value, low), share) for value, share in points], one.css, one.name)
    for one, ecdf, spread in drawn:
        if spread is not None:
            for share, value in ((0.5, spread.p50), (0.9, spread.p90), (0.99, spread.p99)):
                if share <= ecdf.shares[-1]:
                    tooltip = f"{one.name}: {100 * share:g} % of requests within {words.seconds(value)}"
                    plot.dot(max(value, low), share, one.css, tooltip)
    return plot.render()


def hits_over_time(series: Sequence[Series]) -> str:
    """Reads. Hit rates of the requests that came in each stretch of time, and the bounds of the first run."""
    hits, bounds = series[0].curves.hits, series[0].report.bounds
    edges = max((one.curves.hits.edges_s for one in series), key=lambda times: times[-1])
    rates = [rate for one in series for rate in one.curves.hits.rates if rate is not None]
    rates += [rate for rate in hits.infinite if rate is not None]
    plot = Plot(
        "Hit rate over time by policy, with the bounds",
        clock(edges[-1], "time of arrival"),
        linear(0, max([*rates, bounds.single_infinite or 0.0, 0.01]), percent),
        width=460,
        right=104,
        top=12,
    )
    plot.steps_area(hits.edges_s, hits.infinite, "ceiling")
    for name, bound in (
        ("infinite", bounds.single_infinite),
        ("Belady", bounds.pooled_belady),
        ("LRU", bounds.pooled_lru),
    ):
        if bound is not None:
            if name != "infinite" or not hits.infinite:
                plot.level(bound, "rule")
            plot.edge_label(bound, f"{name} {words.percent(bound)}", "")
    for one in series:
        plot.steps(one.curves.hits.edges_s, one.curves.hits.rates, one.css)
    known = [(one.name, one.curves.hits.edges_s, one.curves.hits.rates) for one in series]
    known.append(("infinite cache", hits.edges_s, hits.infinite))
    _stretches(plot, edges, known, words.percent, series)
    return plot.render()


def ttft_over_time(series: Sequence[Series]) -> str:
    """Reads. What nine of ten requests that came in each stretch of time did not wait longer than."""
    waits = [value for one in series for value in one.curves.waits.p90_s if value is not None]
    if not waits:
        return ""
    edges = max((one.curves.waits.edges_s for one in series), key=lambda times: times[-1])
    plot = Plot(
        "TTFT p90 over time by policy",
        clock(edges[-1], "time of arrival"),
        logarithmic(max(min(waits), _SHORTEST_S), max(*waits, _SHORTEST_S), short_seconds),
        top=12,
    )
    for one in series:
        waits_s = [None if value is None else max(value, _SHORTEST_S) for value in one.curves.waits.p90_s]
        plot.steps(one.curves.waits.edges_s, waits_s, one.css)
    known = [(one.name, one.curves.waits.edges_s, one.curves.waits.p90_s) for one in series]
    _stretches(plot, edges, known, words.seconds, series)
    return plot.render()


def _stretches(
    plot: Plot,
    edges_s: Sequence[float],
    known: Sequence[tuple[str, Sequence[float], Sequence[float | None]]],
    text: Callable[[float | None], str],
    series: Sequence[Series],
) -> None:
    """Writes. A line where something happened; a tooltip for each stretch of time, of what is known there:
    names, each with edges of its own."""
    marks = _marks(series)
    for at_s, _ in marks:
        plot.upright(at_s, "rule")
    for left, right in pairwise(edges_s):
        lines = [f"{clock_text(left)} to {clock_text(right)}"]
        for name, own_s, values in known:
            place = bisect_right(own_s, (left + right) / 2) - 1
            if place < len(values):
                lines.append(f"{name}: {text(values[place])}")
        lines += [what for at_s, what in marks if left <= at_s < right or at_s == right == edges_s[-1]]
        plot.hover(left, right, "\n".join(lines))


def _marks(series: Sequence[Series]) -> list[tuple[float, str]]:
    """When something happened, and what; in which runs, if not in all of them."""
    runs: dict[tuple[float, str], list[str]] = {}
    for one in series:
        for mark in one.curves.marks:
            runs.setdefault((mark.at_s, mark.what), []).append(one.name)
    return [
        (at_s, f"{clock_text(at_s)}: {what}" + f" ({', '.join(names)})" * (len(names) < len(series)))
        for (at_s, what), names in runs.items()
    ]


def token_bars(series: Sequence[Series]) -> str:
    """Reads. A bar for each run, of what became of its prompt tokens; ticks where the bounds are."""
    plot = Plot(
        "Where prompt tokens went, by policy",
        linear(0, 1, percent, "share of prompt tokens"),
        Axis(lambda value: 1 - value / len(series), ()),
        width=460,
        height=_ROW * len(series) + 56,
        left=0,
        top=4,
    )
    for row, one in enumerate(series):
        plot.text(0, row + 0.32, one.name, "strong", "start")
        tokens, bounds = one.report.prompt_tokens, one.report.bounds
        parts = (
            tokens.reused, tokens.first_time, tokens.after_eviction, tokens.elsewhere, tokens.forgotten
        )  # fmt: skip
        at = 0.0
        for (css, name), part in zip(TOKEN_KINDS, parts, strict=True):
            share = part / tokens.total if tokens.total else 0.0
            tooltip = f"{one.name}: {words.count(part)} tokens {name}, {words.percent(share)}"
            plot.bar((at, at + share), (row + 0.42, row + 0.86), css, tooltip, words.percent(share))
            at += share
        for name, bound in (
            ("one pooled LRU cache", bounds.pooled_lru),
            ("the best eviction", bounds.pooled_belady),
            ("one infinite cache", bounds.single_infinite),
        ):
            if bound is not None:
                tooltip = f"{name} would reuse {words.percent(bound)}"
                plot.line([(bound, row + 0.36), (bound, row + 0.92)], "mark", tooltip)
    return plot.render()


def knee(
    what: str,
    points: Sequence[tuple[LoadPoint, float | None]],
    colours: dict[str, str],
    load_name: str,
    up: Callable[[float, float], Axis],
    limit: float | None = None,
) -> str:
    """Reads. One number (upwards) against the load, a line for each policy.

    `up` makes the axis from the least and the largest number, which are above 0.
    """
    known = [
        (point.policy, point.load, max(number, _SHORTEST_S)) for point, number in points if number is not None
    ]
    if not known:
        return ""
    loads, numbers = [load for _, load, _ in known], [number for _, _, number in known]
    low, high = min(numbers), max(numbers)
    plot = Plot(
        f"{what} against {load_name}, by policy",
        linear(min(loads), max(loads), plain, load_name),
        up(low, high),
        top=12,
    )
    if limit is not None and low < limit < high:
        plot.level(limit, "rule", f"limit: {words.seconds(limit)}")
    for policy in dict.fromkeys(policy for policy, _, _ in known):
        own = sorted((load, number) for other, load, number in known if other == policy)
        plot.line(own, colours[policy], policy)
        for load, number in own:
            tooltip = f"{policy} at {words.three_digits(load)}: {words.three_digits(number)}"
            plot.dot(load, number, colours[policy], tooltip)
    return plot.render()
