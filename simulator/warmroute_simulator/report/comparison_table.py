"""Several cells of a comparison side by side on a terminal: a row for each, with intervals over seeds.

Of policies that met the same settings the best of each column is bold. ± is half the interval's width; cells
that ran once have none. Where the terminal is too narrow the columns that say least go first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from warmroute_simulator.report import words
from warmroute_simulator.report.comparison import Difference, Interval, Settings, Summary, varying


class _Column(NamedTuple):
    """One number. Columns with the smallest `keep` go first."""

    header: str
    key: str
    text: Callable[[float | None], str]
    more_is_better: bool
    keep: int


def _below(points: float | None) -> str:
    """A distance below a bound, as it is read: negative."""
    return words.points(None if points is None else -points)


_COLUMNS: Final = (
    _Column("hit rate", "hit_rate", words.percent, True, 9),
    _Column("vs LRU", "below_bounds_points.pooled_lru", _below, False, 8),
    _Column("TTFT mean", "ttft_s.mean", words.seconds, False, 10),
    _Column("p50", "ttft_s.p50", words.seconds, False, 4),
    _Column("p99", "ttft_s.p99", words.seconds, False, 7),
    _Column("TPOT mean", "tpot_s.mean", words.seconds, False, 3),
    _Column("E2E mean", "e2e_s.mean", words.seconds, False, 5),
    _Column("session", "session_s.mean", words.seconds, False, 2),
    _Column("goodput", "goodput.share", words.percent, True, 6),
    _Column("output/s", "output_tokens_per_s", words.count, True, 0),
    _Column("imbalance", "imbalance", words.ratio, False, 1),
)


def show_comparison(
    summaries: Sequence[Summary], console: Console, differences: Sequence[Difference] = ()
) -> None:
    """Writes both tables to the console."""
    cells, pairs = list(summaries), list(differences)
    if cells:
        console.print(_fitting(console, lambda columns: _cells(cells, columns), cells))
        notes = []
        if any("below_bounds_points.pooled_lru" in cell.keys for cell in cells):
            notes.append("vs LRU: points below (−) what one cache of all workers' size would hit")
        seeds = max(len(cell.seeds) for cell in cells)
        if seeds > 1:
            half = "half of the 95 % interval"
            notes.append(f"±: {half} of the mean over {seeds} seeds, in points or in % of the mean")
        for note in notes:
            console.print(Text(note, style="dim"))
    if pairs:
        console.print()
        console.print(_fitting(console, lambda columns: _versus(pairs, columns), pairs))
        console.print(Text("differences seed by seed; *: the 95 % interval leaves out 0", style="dim"))


def _fitting(
    console: Console,
    build: Callable[[Sequence[_Column]], Table],
    rows: Sequence[Summary] | Sequence[Difference],
) -> Table:
    """Reads. The table with as many columns as fit, of those that have any number."""
    columns = [column for column in _COLUMNS if any(column.key in row.keys for row in rows)]
    while True:
        table = build(columns)
        width = Measurement.get(console, console.options.update(width=10_000), table).maximum
        if len(columns) < 2 or width <= console.width:
            return table
        columns.remove(min(columns, key=lambda column: column.keep))


def _cells(summaries: Sequence[Summary], columns: Sequence[_Column]) -> Table:
    names = varying([summary.settings for summary in summaries])
    table = _table("policy", names, columns)
    for summary in summaries:
        rivals = [other for other in summaries if other.settings == summary.settings]
        cells = []
        for column in columns:
            interval = summary.keys.get(column.key)
            best = len(rivals) > 1 and interval is not None and interval.mean == _best(rivals, column)
            text = column.text(None if interval is None else interval.mean)
            cells.append(Text(text + _half_width(interval, column), style="bold green" if best else ""))
        table.add_row(summary.policy, *_setting_cells(summary.settings, names), *cells)
    return table


def _versus(differences: Sequence[Difference], columns: Sequence[_Column]) -> Table:
    names = varying([difference.settings for difference in differences])
    table = _table("difference", names, columns)
    for difference in differences:
        cells = []
        for column in columns:
            interval = difference.keys.get(column.key)
            text = words.DASH if interval is None else _signed(interval.mean, column)
            certain = interval is not None and _leaves_out_zero(interval)
            cells.append(Text(text + "*" * certain, style="bold" if certain else ""))
        label = f"{difference.policy} − {difference.versus}"
        table.add_row(label, *_setting_cells(difference.settings, names), *cells)
    return table


def _table(first: str, names: Sequence[str], columns: Sequence[_Column]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in names:
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for column in columns:
        table.add_column(column.header, justify="right", no_wrap=True)
    return table


def _setting_cells(settings: Settings, names: Sequence[str]) -> list[str]:
    return [str(settings.get(name, words.DASH)) for name in names]


def _best(rivals: Sequence[Summary], column: _Column) -> float | None:
    means = [rival.keys[column.key].mean for rival in rivals if column.key in rival.keys]
    return (max if column.more_is_better else min)(means, default=None)


def _half_width(interval: Interval | None, column: _Column) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return ""
    half = (interval.high - interval.low) / 2
    if column.text is words.percent:
        return f" ±{100 * half:.1f}"
    if column.text is _below:
        return f" ±{half:.1f}"
    return f" ±{100 * half / abs(interval.mean):.0f} %" if interval.mean else ""


def _signed(value: float, column: _Column) -> str:
    if column.text is words.percent:
        return words.points(100 * value)
    if column.text is _below:
        return _below(value)
    return ("+" if value > 0 else "") + column.text(value)


def _leaves_out_zero(interval: Interval) -> bool:
    return interval.low is not None and interval.high is not None and not interval.low <= 0 <= interval.high
