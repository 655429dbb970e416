"""A sweep on a terminal: how much load each policy bears, and what happens on the way there."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from warmroute_simulator.report import words
from warmroute_simulator.study.knee import LOWEST, load_at
from warmroute_simulator.study.sweep import FoundKnee, PolicySweep, Sweep


def show_sweep(found: Sweep, console: Console) -> None:
    """Writes the knees, then the curves."""
    if found.partial:
        console.print(Text("partial: interrupted; knees are as far as they are known", style="bold yellow"))
    limits = f"TTFT ≤ {words.seconds(found.ttft_slo_s)} and TPOT ≤ {words.seconds(found.tpot_slo_s)}"
    console.print(Text(f"the largest load that keeps {limits}", style="bold"))
    console.print(_knees(found))
    for one in found.policies:
        if one.curve:
            console.print()
            console.print(_curve(one))
    for note in found.notes:
        console.print(Text(f"note: {note}", style="dim"))


def in_a_sentence(found: Sweep) -> str:
    """Reads. How much each policy bears, the best one first."""
    limits = f"TTFT ≤ {words.seconds(found.ttft_slo_s)} and TPOT ≤ {words.seconds(found.tpot_slo_s)}"
    knees = [(one.policy, one.knees[0]) for one in found.policies if one.knees]
    if not knees:
        return f"No knee is known for {limits}."
    knees.sort(key=lambda knee: -(knee[1].offered_per_s or 0.0))
    borne = [
        f"{policy} up to {_rate(knee.offered_per_s)} requests/s"
        if knee.load
        else f"{policy} at no load tried"
        for policy, knee in knees
    ]
    return f"Keeping {limits} for {100 * knees[0][1].target:g} % of requests: {', '.join(borne)}."


def _knees(found: Sweep) -> Table:
    table = _table("policy", "of requests", "load", "fails at", "offered/s", "goodput/s")
    best = {
        target: max(knee.load or 0.0 for one in found.policies for knee in one.knees if knee.target == target)
        for target in {knee.target for one in found.policies for knee in one.knees}
    }
    for one in found.policies:
        for knee in one.knees:
            wins = len(found.policies) > 1 and knee.load is not None and knee.load == best[knee.target]
            table.add_row(
                one.policy,
                f"{100 * knee.target:g} %",
                Text(_load(knee), style="bold green" if wins else ""),
                words.DASH if knee.fails_at is None else f"{knee.fails_at:g}",
                _rate(knee.offered_per_s),
                _rate(knee.goodput_per_s),
            )
    return table


def _load(knee: FoundKnee) -> str:
    if knee.load is None:
        return "none" if knee.fails_at == load_at(LOWEST) else words.DASH
    return f"{knee.load:g}" if knee.fails_at is not None else f"≥ {knee.load:g}"


def _curve(one: PolicySweep) -> Table:
    table = _table(
        one.policy, "load", "offered/s", "within", "goodput/s", "TTFT p50", "p99", "TPOT p99", "hits"
    )
    for point in one.curve:
        table.add_row(
            "",
            f"{point.load:g}",
            _rate(point.offered_per_s),
            words.percent(point.attainment),
            _rate(point.goodput_per_s),
            words.seconds(point.ttft_p50_s),
            words.seconds(point.ttft_p99_s),
            words.seconds(point.tpot_p99_s),
            words.percent(point.hit_rate),
        )
    return table


def _rate(per_s: float | None) -> str:
    return words.DASH if per_s is None else words.three_digits(per_s)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column(first, no_wrap=True)
    for header in others:
        table.add_column(header, justify="right", no_wrap=True)
    return table
