"""What a search found, on a terminal: the verdict first, then what it rests on."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from warmroute_simulator.report import words
from warmroute_simulator.report.comparison import Interval
from warmroute_simulator.study.check import FOUND, Check
from warmroute_simulator.study.fleet_size import FleetSize
from warmroute_simulator.study.tune import Tuning


def show_tuning(tuning: Tuning, console: Console) -> None:
    """Writes."""
    if tuning.partial:
        console.print(Text("partial: interrupted", style="bold yellow"))
    if tuning.fleet is not None:
        console.print(_fleet(tuning.fleet))
        console.print(_fewest(tuning, tuning.fleet))
        console.print()
    console.print(Text(verdict(tuning), style="bold"))
    if tuning.tried:
        given = min(tuning.tried[0].costs.items())
        console.print(
            f"searched {', '.join(tuning.ranges)} with {tuning.runs} runs of the first half; "
            f"as given {tuning.objective.label} {tuning.objective.text(given[1])}"
        )
    if tuning.check is not None:
        console.print()
        for which, policy in (("given", tuning.policy), ("found", tuning.found)):
            console.print(f"as {which}: {policy}", soft_wrap=True)  # never broken: it is to be copied
        console.print(_check(tuning, tuning.check))


def verdict(tuning: Tuning) -> str:
    """Reads. One sentence: what to use, and why."""
    if tuning.winner == FOUND:
        return f"use {tuning.recommended}: {tuning.why}"
    return f"stay with {tuning.policy}: {tuning.why}"


def told(tuning: Tuning, check: Check) -> str:
    """Reads. The check in a line of prose."""
    text = tuning.objective.text
    over = [f"over tenths of it {_interval(tuning, check.over_tenths)}"]
    if check.over_seeds is not None:
        over.insert(0, f"over {len(check.seeds)} seeds {_interval(tuning, check.over_seeds)}")
    return (
        f"{tuning.objective.label} on the second half: {text(check.given)} as given, {text(check.found)} as "
        f"found; 95 % intervals of the difference: {'; '.join(over)}"
    )


def _fleet(fleet: FleetSize) -> Table:
    table = _table("workers", "within the limits")
    for tried in fleet.tried:
        smallest = tried.workers == fleet.workers
        style = "bold green" if smallest else ""
        table.add_row(
            Text(str(tried.workers), style=style), Text(words.percent(tried.attainment), style=style)
        )
    return table


def _fewest(tuning: Tuning, fleet: FleetSize) -> str:
    who = "none keeps" if fleet.workers is None else f"{fleet.workers} are the fewest that keep"
    limits = f"TTFT ≤ {words.seconds(tuning.ttft_slo_s)} and TPOT ≤ {words.seconds(tuning.tpot_slo_s)}"
    return f"{who} {limits} for {100 * fleet.target:g} % of the requests"


def _check(tuning: Tuning, check: Check) -> Table:
    text = tuning.objective.text
    table = _table("second half", tuning.objective.label)
    table.add_row("as given", text(check.given))
    table.add_row("as found", text(check.found))
    if check.over_seeds is not None:
        table.add_row(f"difference, 95 % over {len(check.seeds)} seeds", _interval(tuning, check.over_seeds))
    table.add_row("difference, 95 % over tenths of it", _interval(tuning, check.over_tenths))
    return table


def _interval(tuning: Tuning, interval: Interval) -> str:
    text = tuning.objective.text
    if interval.low is None or interval.high is None:
        return f"{text(interval.mean)}, of unknown width"
    return f"{text(interval.mean)} ({text(interval.low)} to {text(interval.high)})"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column(first, overflow="fold")  # parameters are long; numbers must stay whole
    for header in others:
        table.add_column(header, justify="right", no_wrap=True)
    return table
