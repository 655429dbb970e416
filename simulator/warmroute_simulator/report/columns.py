"""The numbers that runs are compared by, in the order of tables, on a terminal as on a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from warmroute_simulator.report import words
from warmroute_simulator.report.comparison import Interval


class Column(NamedTuple):
    """One number of a run, by its dotted name in `Report`."""

    header: str
    key: str
    text: Callable[[float | None], str]
    more_is_better: bool
    keep: int
    """Where there is no room the smallest go first."""

    def best(self, rows: Iterable[dict[str, float]]) -> str | None:
        """Reads. As text: what is written alike is equally good."""
        values = [row[self.key] for row in rows if self.key in row]
        return self.text((max if self.more_is_better else min)(values)) if values else None

    def leads(self, own: Interval, rivals: Iterable[Interval]) -> bool:
        """Reads. Whether it is better than all rivals beyond its interval and theirs; that of a single run is
        a point."""
        low, high = _ends(own)
        if self.more_is_better:
            return all(low > _ends(rival)[1] for rival in rivals)
        return all(high < _ends(rival)[0] for rival in rivals)

    def half_width(self, interval: Interval) -> str:
        """Reads. "±0.7" points of a percentage, or "±6 %" of anything else; "" of a single run."""
        if interval.low is None or interval.high is None:
            return ""
        half = (interval.high - interval.low) / 2
        if self.text is words.percent:
            return f"±{100 * half:.1f}"
        if self.text is _above:
            return f"±{half:.1f}"
        return f"±{100 * half / abs(interval.mean):.0f} %" if interval.mean else ""

    def difference(self, interval: Interval) -> str:
        """Reads. With its sign, and a star where the interval leaves out 0."""
        value = interval.mean
        if self.text is words.percent:
            text = words.points(100 * value)
        elif self.text is _above:
            text = _above(value)
        else:
            text = ("+" if value > 0 else "") + self.text(value)
        certain = (
            interval.low is not None and interval.high is not None and not interval.low <= 0 <= interval.high
        )
        return text + "*" * certain


def _ends(interval: Interval) -> tuple[float, float]:
    if interval.low is None or interval.high is None:
        return interval.mean, interval.mean
    return interval.low, interval.high


def _above(points_below: float | None) -> str:
    """A distance below a mark, as it is read: negative."""
    return words.points(None if points_below is None else -points_below)


COLUMNS: Final = (
    Column("hit rate", "hit_rate", words.percent, True, 9),
    Column("vs LRU", "below_bounds_points.pooled_lru", _above, False, 8),
    Column("TTFT mean", "ttft_s.mean", words.seconds, False, 10),
    Column("TTFT p50", "ttft_s.p50", words.seconds, False, 4),
    Column("TTFT p99", "ttft_s.p99", words.seconds, False, 7),
    Column("TPOT mean", "tpot_s.mean", words.seconds, False, 3),
    Column("E2E mean", "e2e_s.mean", words.seconds, False, 5),
    Column("session mean", "session_s.mean", words.seconds, False, 2),
    Column("goodput", "goodput.share", words.percent, True, 6),
    Column("output/s", "output_tokens_per_s", words.count, True, 0),
    Column("imbalance", "imbalance", words.ratio, False, 1),
)

VERSUS_LRU: Final = "vs LRU: points above (+) or below (−) the hit rate of one cache of all workers' size"
INTERVALS: Final = "± is half of the 95 % interval of the mean, in points or in % of the mean"
DIFFERENCES: Final = "Differences are taken seed by seed; * where the 95 % interval leaves out 0"


def measured(rows: Iterable[Iterable[str]]) -> list[Column]:
    """Reads. The columns whose keys occur in any row."""
    known = {key for row in rows for key in row}
    return [column for column in COLUMNS if column.key in known]
