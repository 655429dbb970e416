"""The page's tables of one trace: its cells with their verdicts, and every policy in each of them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from routing_lib.markdown import cell_name, code, percent, ratio, ratio_interval, seconds_interval, table
from routing_lib.plan import OURS
from routing_lib.results import CellFound, Quality, TraceFound
from routing_lib.verdicts import Metric, Verdict, Word, answering, leader, ratio_to_best, verdict
from warmroute_simulator.report import words


def trace_section(quality: Quality, trace: TraceFound) -> str:
    """Reads. What the trace is, then its tables."""
    cells = [cell for cell in quality.cells if cell.trace == trace.name]
    limits = f"TTFT ≤ {words.seconds(trace.ttft_limit_s)}, TPOT ≤ {words.seconds(trace.tpot_limit_s)}"
    about = f"{trace.about[0].upper()}{trace.about[1:]}."
    parts = [f"### {trace.name}\n", f"{about} Limits of goodput: {limits}; {trace.why}.\n"]
    if cells:
        headers = ("cell", "TTFT", "", code(OURS), "ratio", "best other", "its TTFT")
        rows = [row for cell in cells for row in _rows(cell)]
        parts += [
            table(headers, rows, texts=3),
            "Mean TTFT over the least of the cell, and hit rate:\n",
            _matrix(quality.policies, cells),
        ]
    return "\n".join(parts)


def _rows(cell: CellFound) -> list[tuple[str, ...]]:
    found = [verdict(cell, metric, OURS) for metric in Metric]
    names = (cell_name(cell), "")
    return [_row(name, one) for name, one in zip(names, found, strict=True)]


def _row(name: str, one: Verdict) -> tuple[str, ...]:
    return (
        name,
        "mean" if one.metric is Metric.MEAN else "p99",
        f"**{one.word}**" if one.word is Word.LOST else one.word,
        seconds_interval(one.ours),
        ratio_interval(one.ratio),
        code(one.best_other),
        seconds_interval(one.theirs),
    )


def _matrix(policies: Sequence[str], cells: Sequence[CellFound]) -> str:
    """Every policy in every cell; the least behind on the whole first."""
    best = [leader(cell, Metric.MEAN) for cell in cells]
    answered = [answering(cell) for cell in cells]

    def shown(policy: str) -> tuple[str, ...]:
        marks = []
        for cell, first, full in zip(cells, best, answered, strict=True):
            number = ratio(ratio_to_best(cell, Metric.MEAN, policy))
            text = f"**{number}**" if policy == first else number if policy in full else f"{number}†"
            marks.append(f"{text}, {percent(fmean(cell.results[policy].hit_rate))}")
        return code(policy), *marks

    ordered = sorted(
        policies, key=lambda policy: sum(ratio_to_best(cell, Metric.MEAN, policy) for cell in cells)
    )
    return table(("policy", *map(cell_name, cells)), [shown(policy) for policy in ordered])
