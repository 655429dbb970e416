"""Several cells of a comparison side by side on a terminal: a row for each, with intervals over seeds.

Of policies that met the same settings the best of each column is bold where its interval is apart from all
others'. Where the terminal is too narrow, the columns that say least go first, and a line names them. Needs
rich at once, as `table` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from warmroute_simulator.report import words
from warmroute_simulator.report.columns import COLUMNS, DIFFERENCES, INTERVALS, VERSUS_LRU, Column, measured
from warmroute_simulator.report.comparison import Difference, Settings, Summary, varying


def show_comparison(
    summaries: Sequence[Summary], console: Console, differences: Sequence[Difference] = ()
) -> None:
    """Writes both tables to the console."""
    means = measured(summary.keys for summary in summaries)
    pairs = measured(difference.keys for difference in differences)
    shown: set[Column] = set()
    notes = []
    if summaries:
        shown |= _print_fitting(console, means, lambda fitting: _cells(summaries, fitting))
        if any(column.header == "vs LRU" for column in means):
            notes.append(VERSUS_LRU)
        if max(len(summary.seeds) for summary in summaries) > 1:
            notes.append(INTERVALS)
    if differences:
        if summaries:
            console.print()
        shown |= _print_fitting(console, pairs, lambda fitting: _versus(differences, fitting))
        notes.append(DIFFERENCES)
    hidden = ", ".join(column.header for column in COLUMNS if column in {*means, *pairs} - shown)
    if hidden:
        notes.append(f"No room here for {hidden}: a wider terminal, --html and --json have them")
    for note in notes:
        console.print(Text(note, style="dim"))


def _print_fitting(
    console: Console, columns: Sequence[Column], build: Callable[[Sequence[Column]], Table]
) -> set[Column]:
    """Writes the table with as many columns as fit; these."""
    fitting = list(columns)
    while True:
        table = build(fitting)
        width = Measurement.get(console, console.options.update(width=10_000), table).maximum
        if len(fitting) < 2 or width <= console.width:
            console.print(table)
            return set(fitting)
        fitting.remove(min(fitting, key=lambda column: column.keep))


def _cells(summaries: Sequence[Summary], columns: Sequence[Column]) -> Table:
    names = varying([summary.settings for summary in summaries])
    table = _table("policy", names, columns)
    for summary in summaries:
        rivals = [other for other in summaries if other.settings == summary.settings and other is not summary]
        cells = []
        for column in columns:
            interval = summary.keys.get(column.key)
            if interval is None:
                cells.append(Text(words.DASH))
            else:
                text = column.text(interval.mean)
                others = [other.keys[column.key] for other in rivals if column.key in other.keys]
                style = "bold green" if others and column.leads(interval, others) else ""
                cells.append(Text(f"{text} {column.half_width(interval)}".rstrip(), style=style))
        table.add_row(summary.policy, *_setting_cells(summary.settings, names), *cells)
    return table


def _versus(differences: Sequence[Difference], columns: Sequence[Column]) -> Table:
    names = varying([difference.settings for difference in differences])
    table = _table("difference", names, columns)
    for difference in differences:
        cells = []
        for column in columns:
            interval = difference.keys.get(column.key)
            text = words.DASH if interval is None else column.difference(interval)
            cells.append(Text(text, style="bold" if text.endswith("*") else ""))
        label = f"{difference.policy} − {difference.versus}"
        table.add_row(label, *_setting_cells(difference.settings, names), *cells)
    return table


def _table(first: str, names: Sequence[str], columns: Sequence[Column]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in (*(name.replace("_", " ") for name in names), *(column.header for column in columns)):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _setting_cells(settings: Settings, names: Sequence[str]) -> list[str]:
    return [str(settings.get(name, words.DASH)) for name in names]
