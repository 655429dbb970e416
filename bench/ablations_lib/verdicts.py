"""Does it pay? `cache_aware` without one thing over `cache_aware` whole, paired by seed.

    pays             all of the ratio's interval is above 1, and the ratio is 1.01 at least
    hurts            all of it is below 1, and the ratio is 0.99 at most: without it all is better
    no difference    anything else

Latencies are of answered requests. Who leaves more than one of a hundred unanswered beyond what the other
leaves is the worse one, whatever the ratio says; the sign † marks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ablations_lib.results import ALL, Ablations
from ablations_lib.taken import Taken
from routing_lib.markdown import full_name
from routing_lib.plan import OURS
from routing_lib.statistics import Interval, geometric_mean, ratio_interval
from routing_lib.verdicts import UNANSWERED, Metric

LEAST: Final = 0.01
"""Less is nobody's loss, however sure it is."""


class Word(StrEnum):
    """A verdict."""

    PAYS = "pays"
    HURTS = "hurts"
    SAME = "no difference"


@dataclass(frozen=True, slots=True)
class Values:
    """One side of a comparison."""

    seconds: Sequence[float]
    """By seed."""
    unanswered: float = 0.0

    @property
    def mean_s(self) -> float:
        """Reads."""
        return sum(self.seconds) / len(self.seconds)


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one thing in one cell, by one metric."""

    taken: Taken
    metric: Metric
    where: str
    without: Values
    whole: Values
    ratio: Interval
    """Without it over whole."""
    word: Word
    by_answers: bool
    """It was decided by who answers."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One thing in all cells, by one metric."""

    taken: Taken
    counts: dict[Word, int]
    gain: Verdict | None
    """The largest ratio above 1, sure or not."""
    harm: Verdict | None
    """The least ratio below 1, sure or not."""
    mean_ratio: float


def verdict(taken: Taken, metric: Metric, where: str, without: Values, whole: Values) -> Verdict:
    """Reads. Raises ValueError unless there are two seeds at least, and the same ones on both sides."""
    ratio = ratio_interval(without.seconds, whole.seconds)
    more = without.unanswered - whole.unanswered
    if abs(more) > UNANSWERED:
        word = Word.PAYS if more > 0 else Word.HURTS
    else:
        word = word_of(ratio)
    return Verdict(taken, metric, where, without, whole, ratio, word, abs(more) > UNANSWERED)


def word_of(ratio: Interval) -> Word:
    """Reads. By latency alone."""
    if ratio.low > 1 and ratio.value >= 1 + LEAST:
        return Word.PAYS
    return Word.HURTS if ratio.high < 1 and ratio.value <= 1 - LEAST else Word.SAME


def of_terms(found: Ablations, metric: Metric) -> list[Verdict]:
    """Reads. By term, then by cell."""
    return [
        verdict(
            term,
            metric,
            full_name(cell),
            Values(metric.values(cell.results[term.text]), cell.results[term.text].unanswered),
            Values(metric.values(cell.results[OURS]), cell.results[OURS].unanswered),
        )
        for term in found.terms
        for cell in found.cells
    ]


def of_learned(found: Ablations) -> list[Verdict]:
    """Reads. By what is learned, then by place and belief; of the mean."""
    return [
        verdict(
            learned,
            Metric.MEAN,
            f"{belief.trace}, {belief.belief}",
            Values(belief.results[learned.text].ttft_mean_s, belief.results[learned.text].unanswered),
            Values(belief.results[ALL].ttft_mean_s, belief.results[ALL].unanswered),
        )
        for learned in found.learned
        for belief in found.beliefs
    ]


def standings(verdicts: Iterable[Verdict]) -> list[Standing]:
    """Reads. Of verdicts by one metric, in their order."""
    by_taken: dict[str, list[Verdict]] = {}
    for one in verdicts:
        by_taken.setdefault(one.taken.text, []).append(one)
    return [_standing(of_one) for of_one in by_taken.values()]


def _standing(verdicts: Sequence[Verdict]) -> Standing:
    words = [one.word for one in verdicts]
    most = max(verdicts, key=lambda one: one.ratio.value)
    least = min(verdicts, key=lambda one: one.ratio.value)
    return Standing(
        verdicts[0].taken,
        {word: words.count(word) for word in Word},
        most if most.ratio.value > 1 else None,
        least if least.ratio.value < 1 else None,
        geometric_mean(one.ratio.value for one in verdicts),
    )
