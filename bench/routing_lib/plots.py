"""The page's plots: SVG files that stand alone, the same bytes for the same results.

They are shown as images, on a light page and on a dark one, so colours are of middling lightness, the ground
is left out, and whatever a reader needs to know is written in the plot. Colours are those of Okabe and Ito
("Color Universal Design", 2008), which stay apart for colour-blind eyes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypedDict

from routing_lib.factors import SHARES
from routing_lib.markdown import full_name, percent
from routing_lib.page_limits import highest_other
from routing_lib.plan import OURS
from routing_lib.results import CellFound, Quality
from routing_lib.verdicts import CLEARLY, Metric, ratio_to_best, standings, verdict
from warmroute_simulator.report.axes import Axis, linear, logarithmic, plain
from warmroute_simulator.report.svg import Plot, Point

_STYLE: Final = (
    "<style>"
    "text{font:12px system-ui,sans-serif;fill:#7a828c}"
    ".strong{font-weight:600;fill:#4d8fd1}"
    "path{fill:none}.grid{stroke:#8883}.axis{stroke:#888}.rule{stroke:#888;stroke-dasharray:4 3}"
    ".line{stroke-width:1.4}.dot{stroke:none}.soft{fill:#8884}"
    + "".join(
        f".dot.s{place},.key.s{place},.bar.s{place}{{fill:{colour}}}.line.s{place}{{stroke:{colour}}}"
        for place, colour in enumerate(
            ("#2f86c5", "#d9682a", "#1fa37a", "#c36aa5", "#bd8a14", "#4fb0e0", "#80858c")
        )
    )
    + "</style>"
)
_SVG: Final = '<svg xmlns="http://www.w3.org/2000/svg"'
_COLOURS: Final = 7
_WIDTH: Final = 780.0
"""Of a page's text, so that type has its size."""
_ROW: Final = 18.0
"""Height of a row with a name."""
_SPREAD: Final = 0.11
"""Between cells of different traces at the same load, in steps of the axis of loads."""
_LETTER: Final = 7.0
"""Width of a letter of the key, rather more than less."""
_RATIOS: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, CLEARLY, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)
"""Ticks: no gain, and steps that are worth something."""
_AIR: Final = 1.06
"""Between the outermost marks and the frame, as a ratio."""


class _Size(TypedDict):
    width: float
    height: float
    left: float
    right: float
    top: float


def regret(quality: Quality) -> str:
    """Reads. By policy the ratios of its mean TTFT to the least of each cell, and their geometric mean."""
    found = standings(quality.cells, Metric.MEAN, quality.policies)
    plot = Plot(
        "Mean TTFT over the least of the cell, by policy: a dot for each cell, a bar to the geometric mean",
        logarithmic(1.0, max(one.worst_ratio for one in found), plain, "mean TTFT over the cell's least"),
        _rows(len(found)),
        **_size(len(found)),
    )
    _key(plot, (1.0, 0.0), _traces(quality))
    for row, one in enumerate(found):
        css = "strong" if one.policy == OURS else ""
        plot.text(1.0, row + 0.5, one.policy, css, "end", right=-10, down=4)
        plot.bar((1.0, max(one.mean_ratio, 1.0)), (row + 0.2, row + 0.8), "soft")
        for cell in quality.cells:
            plot.dot(ratio_to_best(cell, Metric.MEAN, one.policy), row + 0.5, _colour(quality, cell))
    return _alone(plot)


def ratio_by_load(quality: Quality, metric: Metric) -> str:
    """Reads. Our TTFT over that of the best other policy, a dot with its interval for each cell."""
    found = [verdict(cell, metric, OURS) for cell in quality.cells]
    name = "mean" if metric is Metric.MEAN else "p99"
    ends = [bound for one in found for bound in (one.ratio.low, one.ratio.high, 1.0, CLEARLY)]
    low, high = min(ends) / _AIR, max(ends) * _AIR
    ratios = logarithmic(low, high, plain)
    loads = [(float(place), percent(share)) for place, share in enumerate(SHARES)]
    plot = Plot(
        f"{name} TTFT of {OURS} over that of the best other policy, by load",
        Axis(lambda value: (value + 0.5) / len(SHARES), loads, "load, of the knee"),
        Axis(ratios.place, _ratio_ticks(low, high), f"{name} TTFT over the best other's"),
        width=_WIDTH,
        height=330,
        top=56,
    )
    _key(plot, (-0.5, high), _traces(quality))
    plot.level(1.0, "axis")
    plot.level(CLEARLY, "rule")
    names = [trace.name for trace in quality.traces]
    for one in found:
        place = names.index(one.cell.trace) - (len(names) - 1) / 2
        x, css = SHARES.index(one.cell.share) + _SPREAD * place, _colour(quality, one.cell)
        plot.line([(x, one.ratio.low), (x, one.ratio.high)], css)
        plot.dot(x, one.ratio.value, css)
    return _alone(plot)


def hits(quality: Quality) -> str:
    """Reads. Hit rates with the first seed beside what a pool and an endless cache would have hit, a row for
    each cell."""
    cells = quality.cells
    plot = Plot(
        "Hit rates by cell: ours, the highest of the others, and the bounds",
        linear(0.0, 1.0, percent, "hit rate"),
        _rows(len(cells)),
        **_size(len(cells)),
    )
    keys = (("s0", OURS), ("s1", "highest other"), ("s6", "pooled LRU to Belady"), ("", "bar: endless"))
    _key(plot, (0.0, 0.0), keys)
    for row, cell in enumerate(cells):
        bounds = cell.bounds
        plot.text(0.0, row + 0.5, full_name(cell), "", "end", right=-10, down=4)
        plot.bar((0.0, bounds.single_infinite), (row + 0.15, row + 0.85), "soft")
        plot.bar((bounds.pooled_lru, bounds.pooled_belady), (row + 0.35, row + 0.65), "s6")
        plot.dot(highest_other(cell)[1], row + 0.5, "s1")
        plot.dot(cell.results[OURS].hit_rate[0], row + 0.5, "s0")
    return _alone(plot)


def _rows(count: int) -> Axis:
    """Places from 0 at the top to `count` at the bottom."""
    return Axis(lambda value: 1 - value / count, ())


def _size(rows: int) -> _Size:
    """Of a plot with names at its left."""
    return {"width": _WIDTH, "height": _ROW * rows + 76, "left": 260.0, "right": 24.0, "top": 36.0}


def _ratio_ticks(low: float, high: float) -> list[tuple[float, str]]:
    return [(tick, plain(tick)) for tick in _RATIOS if low <= tick <= high]


def _traces(quality: Quality) -> list[tuple[str, str]]:
    names = [trace.name for trace in quality.traces]
    return [(f"s{place % _COLOURS}", name) for place, name in enumerate(names)]


def _colour(quality: Quality, cell: CellFound) -> str:
    return next(css for css, name in _traces(quality) if name == cell.trace)


def _key(plot: Plot, corner: Point, entries: Sequence[tuple[str, str]]) -> None:
    """Writes. Names in their colours above the plot's upper left corner."""
    at = 0.0
    for css, text in entries:
        plot.text(*corner, f"● {text}" if css else text, f"key {css}", "start", right=at, down=-12)
        at += _LETTER * (len(text) + 4)


def _alone(plot: Plot) -> str:
    """As a file of its own."""
    head, _, rest = plot.render().partition(">")
    return f"{head.replace('<svg', _SVG, 1)}>{_STYLE}{rest}\n"
