"""One report on a terminal: how good the hits were, how long requests took, where the tokens went.

Needs rich at once, so a command imports it when it has something to show. Colour only underlines: without
it (NO_COLOR, a pipe) nothing is lost.
"""

from __future__ import annotations

import os
import sys
from typing import Final, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from warmroute_simulator.report import words
from warmroute_simulator.report.model import PromptTokens, Report

_PIPE_WIDTH: Final = 160
"""Columns where nobody knows how many there are: enough for every table without wrapping."""
_BAR: Final = 32
"""Cells of a bar that stands for the whole."""
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_WORKERS_SHOWN: Final = 16
"""More than these are in `--json`; here only the extremes help."""
_NEAR_POINTS: Final = 1.0
_FAR_POINTS: Final = 5.0
"""Below a bound by less than a point is as good as reached; by more than five, worth a look."""


def console_for(file: TextIO | None = None) -> Console:
    """As wide as the terminal (or COLUMNS says); into a file or a pipe as wide as it takes."""
    file = file or sys.stdout
    width = None if file.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(file=file, width=width, highlight=False)


def show(report: Report, console: Console) -> None:
    """Writes the report to the console."""
    console.print(Text(headline(report), style="bold"))
    if report.partial:
        console.print(Text("partial: the run was interrupted", style="bold yellow"))
    console.print(Text(_came(report)))
    for section in (
        _hits(report),
        _latencies(report),
        _tokens(report.prompt_tokens),
        _others(report),
        _workers(report),
    ):
        console.print()
        console.print(section)
    for note in report.notes:
        console.print(Text(f"note: {note}", style="dim"))


def headline(report: Report) -> str:
    """Reads. "trace · policy · 8 workers · seed 0"."""
    workers = f"{report.workers} worker{'s' * (report.workers != 1)}"
    return f"{report.trace} · {report.policy} · {workers} · seed {report.seed}"


def _came(report: Report) -> str:
    outcomes = ", ".join(
        f"{words.count(number)} {name.replace('_', ' ')}"
        for name, number in report.outcomes.items()
        if number
    )
    text = (
        f"{words.count(report.requests)} requests over {words.seconds(report.span_s)}: {outcomes or 'none'}"
    )
    if report.warm_up.requests:
        left_out = f"{words.seconds(report.warm_up.skip_s)} ({words.count(report.warm_up.requests)} requests)"
        text += f"; latencies leave out the first {left_out}"
    return text


def _grid(*headers: str) -> Table:
    """A table without lines; the first column is text, the others are numbers."""
    table = Table(
        box=None, padding=(0, 2, 0, 0), header_style="dim", show_header=any(headers), pad_edge=False
    )
    table.add_column(headers[0], no_wrap=True)
    for header in headers[1:]:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def bar(share: float, cells: int = _BAR) -> str:
    """Reads. 0 to 1 as a bar in eighths of a cell."""
    eighths = round(min(max(share, 0.0), 1.0) * cells * 8)
    text = "█" * (eighths // 8)
    return text + _EIGHTHS[eighths % 8] if eighths % 8 else text


def _hits(report: Report) -> Table:
    table = _grid("hit rate", "", "points", "")
    table.columns[3].justify = "left"
    rate, bounds, below = report.hit_rate or 0.0, report.bounds, report.below_bounds_points
    whole = max(rate, *(bound or 0.0 for bound in (bounds.pooled_lru, bounds.single_infinite))) or 1.0
    written = Text(words.percent(report.hit_rate), style="bold")
    table.add_row("this run", written, "", Text(bar(rate / whole), style="bold"))
    for name, bound, distance in (
        ("mark: one pooled LRU cache", bounds.pooled_lru, below.pooled_lru),
        ("bound: pooled, Belady", bounds.pooled_belady, below.pooled_belady),
        ("bound: one infinite cache", bounds.single_infinite, below.single_infinite),
    ):
        if bound is not None and distance is not None:
            drawn = Text(bar(bound / whole), style="dim")
            table.add_row(name, words.percent(bound), _distance(-distance), drawn)
    error = report.prediction_error
    if error is not None:
        wrong = f"wrong by {words.count(round(error.mean_abs_tokens))} tokens a request"
        bias = round(error.bias_tokens)
        wrong += f", {words.count(abs(bias))} too {'many' if bias > 0 else 'few'} on average" if bias else ""
        table.add_row("predicted", words.percent(report.predicted_hit_rate), "", Text(wrong, style="dim"))
    return table


def _distance(above_points: float) -> Text:
    """Reads. Points above (+) or below (−) a bound; coloured by how far below."""
    if above_points > -_NEAR_POINTS:
        style = "green"
    elif above_points > -_FAR_POINTS:
        style = "yellow"
    else:
        style = "red"
    return Text(words.points(above_points), style=style)


def _latencies(report: Report) -> Table:
    table = _grid("latency", "mean", "p50", "p90", "p99")
    for name, spread in (
        ("TTFT  time to first token", report.ttft_s),
        ("TPOT  time per output token", report.tpot_s),
        ("E2E   whole request", report.e2e_s),
        ("session", report.session_s),
    ):
        if spread is not None:
            values = (spread.mean, spread.p50, spread.p90, spread.p99)
            table.add_row(name, *(words.seconds(value) for value in values))
    return table


def _tokens(tokens: PromptTokens) -> Table:
    table = _grid("prompt tokens", "", "", "")
    table.columns[3].justify = "left"
    for name, part in (
        ("reused", tokens.reused),
        ("computed for the first time", tokens.first_time),
        ("computed again, evicted here", tokens.after_eviction),
        ("computed again, held by another worker", tokens.elsewhere),
        ("computed again, lost elsewhere or part of a page", tokens.forgotten),
    ):
        share = part / tokens.total if tokens.total else 0.0
        table.add_row(name, words.count(part), words.percent(share), Text(bar(share), style="cyan"))
    return table


def _others(report: Report) -> Table:
    goodput = report.goodput
    table = _grid("", "")
    table.columns[1].justify = "left"
    table.columns[1].no_wrap = False
    limits = f"TTFT ≤ {words.seconds(goodput.ttft_slo_s)} and TPOT ≤ {words.seconds(goodput.tpot_slo_s)}"
    within = f"{words.percent(goodput.share)} of requests with {limits}"
    table.add_row("goodput", f"{words.three_digits(goodput.requests_per_s)} requests/s: {within}")
    table.add_row("output", f"{words.three_digits(report.output_tokens_per_s)} tokens/s")
    table.add_row("imbalance", f"{words.ratio(report.imbalance)} (computed tokens, busiest worker ÷ mean)")
    decided = sum(report.reasons.values())
    reasons = (f"{name} {words.percent(number / decided)}" for name, number in report.reasons.items())
    table.add_row("decisions", " · ".join(reasons) or words.DASH)
    table.add_row("evicted", f"{words.count(report.evicted_tokens)} tokens")
    for name, number in (("preemptions", report.preemptions), ("sent more than once", report.retried)):
        if number:
            table.add_row(name, words.count(number))
    table.add_row("simulated in", f"{words.seconds(report.wall_s)}, {words.seconds(report.cpu_s)} of CPU")
    return table


def _workers(report: Report) -> Table:
    table = _grid("worker", "requests", "hit rate", "computed", "busy", "")
    table.columns[5].justify = "left"
    shown = report.per_worker
    if len(shown) > _WORKERS_SHOWN:
        ordered = sorted(shown, key=lambda worker: -(worker.computed_share or 0))
        half = _WORKERS_SHOWN // 2
        shown = ordered[:half] + ordered[-half:]
        table.columns[0].header = f"worker ({half} with most and {half} with least computed)"
    largest = max((worker.computed_share or 0 for worker in shown), default=0) or 1
    for worker in shown:
        computed = worker.computed_share or 0
        table.add_row(
            worker.worker,
            words.count(worker.requests),
            words.percent(worker.hit_rate),
            words.percent(worker.computed_share),
            words.percent(worker.busy_share),
            Text(bar(computed / largest, _BAR // 2), style="cyan"),
        )
    return table
