"""Small plots: how loaded one worker was, and what each worker would have cost one request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Final

from warmroute_policies.types import CostShares
from warmroute_simulator.report import words
from warmroute_simulator.report.axes import Axis, linear, short_seconds
from warmroute_simulator.report.curves import Load
from warmroute_simulator.report.page_style import SERIES
from warmroute_simulator.report.svg import Plot

_COSTS_SHOWN: Final = 12
"""Workers in the picture of a decision: the cheapest, and the one that was chosen."""


def busiest(loads: Iterable[Load]) -> float:
    """Reads. The most requests that any worker had at once: the common height of all loads."""
    return max(
        (
            running + waiting
            for load in loads
            for worker in load.workers
            for running, waiting in zip(worker.running, worker.waiting, strict=True)
        ),
        default=0.0,
    )


def worker_load(load: Load, worker: int, most: float) -> str:
    """Reads. Two small plots: requests running and waiting, and the share of the KV cache in use."""
    own, times = load.workers[worker], load.times_s
    end_s = times[-1] if times and times[-1] else 1.0
    time = Axis(lambda value: value / end_s, ())
    floor = [(at, 0.0) for at in times]
    running = list(zip(times, own.running, strict=True))
    both = [(at, run + wait) for (at, run), wait in zip(running, own.waiting, strict=True)]
    requests = _small(
        "Requests running and waiting over time", time, Axis(lambda value: value / max(most, 1.0), ()), 56
    )
    requests.area(floor, running, "running", f"running, at most {max(own.running, default=0):.0f}")
    requests.area(running, both, "waiting", f"waiting, at most {max(own.waiting, default=0):.0f}")
    requests.level(0, "axis")
    cache = _small("Share of the KV cache over time", time, Axis(lambda value: value, ()), 30)
    cache.area(floor, list(zip(times, own.kv_cached, strict=True)), "cached", "holds prefixes")
    used = max(own.kv_used, default=0)
    cache.area(
        floor, list(zip(times, own.kv_used, strict=True)), "used", f"in use, at most {words.percent(used)}"
    )
    cache.level(0, "axis")
    return requests.render() + cache.render()


def _small(label: str, x: Axis, y: Axis, height: float) -> Plot:
    return Plot(label, x, y, width=170, height=height, left=0, right=0, top=1, bottom=1)


def decision_costs(shares: Sequence[CostShares], chosen: str) -> tuple[str, list[tuple[str, str]]]:
    """Reads. What each worker would have cost, a bar each; and the legend: colours and names of shares."""
    eligible = sorted(
        (row for row in shares if row.eligible and isfinite(row.total_s)), key=lambda row: row.total_s
    )
    shown = eligible[:_COSTS_SHOWN]
    shown += [row for row in shares if row.worker == chosen and row not in shown]
    names = list(
        dict.fromkeys(name for row in shown for name, value in row.shares_s.items() if _visible(value))
    )
    colours = [(f"s{place % SERIES}", name) for place, name in enumerate(names)]
    widest = max(
        (sum(value for value in row.shares_s.values() if _visible(value)) for row in shown), default=0.0
    )
    plot = Plot(
        "Price of each worker for this request",
        linear(0, widest or 1.0, short_seconds, ticks=4),
        Axis(lambda value: 1 - value / max(len(shown), 1), ()),
        width=480,
        height=18.0 * len(shown) + 24,
        left=150,
        right=70,
        top=0,
        bottom=22,
    )
    for place, row in enumerate(shown):
        css = "strong" if row.worker == chosen else "tick"
        plot.text(
            0,
            place + 0.5,
            short_name(row.worker) + (" ◂" if row.worker == chosen else ""),
            css,
            "end",
            right=-8,
            down=4,
        )
        at = 0.0
        for colour, name in colours:
            value = row.shares_s.get(name, 0.0)
            if _visible(value):
                tooltip = f"{name}: {words.seconds(value)}"
                plot.bar((at, at + value), (place + 0.15, place + 0.85), colour, tooltip)
                at += value
        plot.text(at, place + 0.5, words.seconds(row.total_s), css, "start", right=6, down=4)
    return plot.render(), colours


def short_name(worker: str) -> str:
    """A worker's URL without what all have in common."""
    return worker.removeprefix("http://").removeprefix("https://").rstrip("/")


def _visible(value: float) -> bool:
    return isfinite(value) and value > 0
