"""Figures beside those of the run in which nothing is wrong, seed by seed, and the bars that they hold.

    capacity    hit rate of the later half: at most 2 points less; mean TTFT over the true one's beside it
    price       mean TTFT after the first 200 requests: at most 10 % more
    restart     requests that were promised a hit before the router noticed: at most 10 in the mean
    flush       the same, without a bar
    replicas    mean TTFT over that of one router: at most 5 % more where a session stays with its router;
                and the same where engines tell the routers of their load

A busy worker that dies is ejected, and the next check sees its new process: answers are seldom the first
to tell. A flush is told by answers alone. It has no bar: requests that run keep their prefixes, so the worker
keeps some promises and breaks others, as one does whose cache is smaller than believed.

A bar is held by the value; the interval beside it says how sure that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from beliefs_lib.levels import TRUE, Loss, Variant
from beliefs_lib.played import LEARNING_REQUESTS, Played
from routing_lib import markdown
from routing_lib.statistics import Interval, mean_interval, ratio_interval
from warmroute_simulator.report import words
from warmroute_simulator.simulation.config import Spread

BAR_POINTS: Final = 2.0
"""Of hit rate. On Mooncake's trace two points are 6 % of the mean TTFT."""
BAR_PRICE: Final = 1.10
"""Less than the 15 % that somebody notices who does not measure."""
BAR_SENT: Final = 10.0
"""Three misses in a row make the router certain at the earliest, and some more requests are under way until
these end."""
BAR_REPLICAS: Final = 1.05
"""Half of what a wrong price may cost: prices are learned, replicas stay strangers."""

Runs = Mapping[tuple[str, str], Sequence[Played]]
"""By trace and variant; seeds in the same order everywhere."""


class Row(msgspec.Struct, frozen=True):
    """A line of the table."""

    name: str
    value: Interval
    text: str
    bar: str = ""
    held: bool | None = None
    """None: there is no bar."""


def by_variant(runs: Iterable[Played]) -> dict[tuple[str, str], list[Played]]:
    """Reads."""
    found: dict[tuple[str, str], list[Played]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        found.setdefault((run.trace, run.variant), []).append(run)
    return found


def rows_of(runs: Runs, traces: Sequence[str], variants: Sequence[Variant]) -> list[Row]:
    """Reads. By variant, then by trace."""
    rows = []
    for variant in variants:
        for trace in traces:
            row = row_of(trace, variant, runs[trace, variant.name], runs[trace, TRUE.name])
            if row is not None:
                rows.append(row)
    return rows


def row_of(trace: str, variant: Variant, runs: Sequence[Played], true: Sequence[Played]) -> Row | None:
    """Reads. None: there is nothing to be said, as no session of the trace can stay with its router."""
    name = f"{variant.name}: {trace}"
    ttft = ratio_interval([run.ttft_mean_s for run in runs], [run.ttft_mean_s for run in true])
    if variant == TRUE:
        rate = mean_interval([run.hit_rate for run in runs])
        alarms = sum(run.noticed_restarts for run in runs)
        wait = markdown.seconds(sum(run.ttft_mean_s for run in runs) / len(runs))
        return Row(name, rate, f"hit rate {words.percent(rate.value)}, TTFT {wait}, {alarms} false alarms")
    if variant.loss is not None:
        return _loss_row(name, runs, with_bar=variant.loss is Loss.RESTART)
    if variant.capacity_error != 1.0:
        pairs = zip(runs, true, strict=True)
        points = mean_interval([100 * (run.hit_rate - other.hit_rate) for run, other in pairs])
        text = f"{_points(points)} points of hit rate, TTFT ×{markdown.ratio_interval(ttft)}"
        return Row(name, points, text, f"at least −{BAR_POINTS:g} points", points.value >= -BAR_POINTS)
    if variant.price_error != 1.0:
        learned = ratio_interval([run.ttft_learned_s for run in runs], [run.ttft_learned_s for run in true])
        text = f"TTFT ×{markdown.ratio_interval(learned)} after {LEARNING_REQUESTS} requests"
        return Row(name, learned, text, f"at most ×{BAR_PRICE:.2f}", learned.value <= BAR_PRICE)
    text = f"TTFT ×{markdown.ratio_interval(ttft)}"
    if variant.spread is Spread.RANDOM:
        return Row(name, ttft, text)
    if not all(run.sessions for run in runs):
        return None
    return Row(name, ttft, text, f"at most ×{BAR_REPLICAS:.2f}", ttft.value <= BAR_REPLICAS)


def _loss_row(name: str, runs: Sequence[Played], *, with_bar: bool) -> Row:
    restarts = [restart for run in runs for restart in run.restarts]
    count = len(restarts)
    sent = mean_interval([sum(one.sent for one in run.restarts) / len(run.restarts) for run in runs])
    wrong, blind = (sum(getattr(one, field) for one in restarts) / count for field in ("wrong", "blind"))
    text = (
        f"{sent.value:.1f} requests ({sent.low:.1f}–{sent.high:.1f}), at worst "
        f"{max(one.sent for one in restarts)}; {wrong:.1f} wrong, {blind:.1f} blind; "
        f"dropped {sum(one.dropped for one in restarts)} of {count}"
    )
    if not with_bar:
        return Row(name, sent, text)
    return Row(name, sent, text, f"at most {BAR_SENT:g} requests", sent.value <= BAR_SENT)


def _points(interval: Interval) -> str:
    """A value and its interval: −0.4 (−0.9 to +0.1)."""
    value, low, high = map(words.points, interval)
    return f"{value} ({low} to {high})"
