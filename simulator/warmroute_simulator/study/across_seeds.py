"""Reports of the same cell with several seeds → one summary each, and policies against one another.

The same resamples are drawn for every key and every cell (chance starts anew for each), so that what is
computed beside it, or in which process, changes no digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import TypeAlias

from warmroute_simulator.report.comparison import Difference, Interval, Summary, numbers
from warmroute_simulator.report.model import Report
from warmroute_simulator.study.intervals import bootstrap, paired_difference

Cell: TypeAlias = tuple[str, str, int, tuple[tuple[str, str | int | float], ...]]


def summaries(reports: Iterable[Report], seed: int = 0) -> list[Summary]:
    """Reads. One per cell (trace, policy, workers, settings), in the order in which cells first come."""
    found = []
    for cell in _cells(reports).values():
        values = [numbers(report) for report in cell]
        # A key that one seed lacks has no mean over them.
        keys = [key for key in values[0] if all(key in others for others in values)]
        intervals = {key: bootstrap([value[key] for value in values], Random(seed)) for key in keys}
        first = cell[0]
        found.append(Summary(first.policy, first.settings, [report.seed for report in cell], intervals))
    return found


def differences(reports: Sequence[Report], versus: str, seed: int = 0) -> list[Difference]:
    """Reads. Every other policy minus the policy `versus`, by cell, over the seeds that both ran with."""
    cells = _cells(reports)
    found = []
    for (trace, policy, workers, settings), cell in cells.items():
        other = cells.get((trace, versus, workers, settings))
        if policy == versus or other is None:
            continue
        theirs = {report.seed: numbers(report) for report in other}
        pairs = [(numbers(report), theirs[report.seed]) for report in cell if report.seed in theirs]
        if not pairs:
            continue
        keys: dict[str, Interval] = {}
        for key in pairs[0][0]:
            if all(key in our and key in their for our, their in pairs):
                ours, others = [our[key] for our, _ in pairs], [their[key] for _, their in pairs]
                keys[key] = paired_difference(ours, others, Random(seed))
        seeds = [report.seed for report in cell if report.seed in theirs]
        found.append(Difference(policy, versus, cell[0].settings, seeds, keys))
    return found


def _cells(reports: Iterable[Report]) -> dict[Cell, list[Report]]:
    cells: dict[Cell, list[Report]] = {}
    for report in reports:
        settings = tuple(sorted(report.settings.items()))
        cells.setdefault((report.trace, report.policy, report.workers, settings), []).append(report)
    return cells
