"""Whether the defaults stand beside the best point that the search found.

    behind      defaults' TTFT over that of what was found, less 1: geometric mean over the cells of a half
    stand       at most 2 % behind on the half that was tuned on, and on the other, which the search has not
                seen, not behind by more than chance explains
    better      on the other half what was found is better by more than chance explains
    elsewhere   what was found is better where it was tuned, and not on the other half

What leaves more requests unanswered than the defaults is not better, however fast the others are answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean
from typing import Final

from routing_lib.statistics import Interval
from routing_lib.verdicts import UNANSWERED, Metric
from tuning_lib.costs import ratio_over_cells
from tuning_lib.results import CellChecked, PointTried, Tuning

WITHIN: Final = 0.02
"""A seventh of what somebody notices who does not measure; the best of many points is ahead by as much
through chance alone."""


class Word(StrEnum):
    """A verdict."""

    STAND = "the defaults stand"
    BETTER = "what was found is better"
    ELSEWHERE = "what was found does not carry over"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found over the defaults."""

    tuned_on: Interval
    """Ratio of the mean TTFT on the half that was tuned on."""
    unseen: Interval
    word: Word


def verdict(tuning: Tuning) -> Verdict:
    """Reads. By mean TTFT, which is what was searched for."""
    tuned_on, unseen = (ratio(cells, Metric.MEAN) for cells in (tuning.tuned_on, tuning.unseen))
    return Verdict(tuned_on, unseen, word_of(tuned_on, unseen, unanswered(tuning)))


def word_of(tuned_on: Interval, unseen: Interval, unanswered: Sequence[CellChecked] = ()) -> Word:
    """Reads. Of the ratios of both halves, and of cells where what was found leaves requests unanswered."""
    if unanswered or (behind(tuned_on.value) <= WITHIN and unseen.high >= 1):
        return Word.STAND
    return Word.BETTER if unseen.high < 1 else Word.ELSEWHERE


def ratio(cells: Sequence[CellChecked], metric: Metric) -> Interval:
    """Reads. What was found over the defaults, over the cells of a half."""
    return ratio_over_cells(
        [metric.values(cell.found) for cell in cells], [metric.values(cell.defaults) for cell in cells]
    )


def behind(ratio: float) -> float:
    """Reads. How much longer the defaults take, where what was found takes `ratio` of their time."""
    return 1 / ratio - 1


def unanswered(tuning: Tuning) -> list[CellChecked]:
    """Reads. Cells in which what was found leaves more requests unanswered than the defaults do."""
    return [
        cell
        for cell in (*tuning.tuned_on, *tuning.unseen)
        if cell.found.unanswered > cell.defaults.unanswered + UNANSWERED
    ]


def gain(point: PointTried) -> float:
    """Reads. Mean over the seeds that it was played with."""
    return fmean(point.gains.values())


def ranked(tuning: Tuning) -> list[PointTried]:
    """Reads. The best first; of equals the one that was tried first."""
    return sorted(tuning.tried, key=gain)


def with_all_seeds(tuning: Tuning) -> list[PointTried]:
    """Reads. Points that were played with as many seeds as the defaults, of which the best is picked."""
    return [point for point in tuning.tried if len(point.gains) == len(tuning.tried[0].gains)]


def rank_of_defaults(tuning: Tuning) -> int:
    """Reads. 1 where no point that was tried is better."""
    return 1 + sum(gain(point) < 0 for point in tuning.tried)
