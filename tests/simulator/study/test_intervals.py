"""Intervals cover what they say, on distributions whose mean is known."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from warmroute_simulator.study.intervals import bootstrap, paired_difference

Draw = Callable[[Random], float]


def coverage(draw: Draw, truth: float, runs: int, trials: int = 400) -> float:
    chance = Random(f"coverage {runs}")
    inside = 0
    for _ in range(trials):
        interval = bootstrap([draw(chance) for _ in range(runs)], chance, resamples=400)
        assert interval.low is not None
        assert interval.high is not None
        inside += interval.low <= truth <= interval.high
    return inside / trials


def normal(chance: Random) -> float:
    return chance.gauss(10, 3)


def exponential(chance: Random) -> float:
    return chance.expovariate(1.0)


@pytest.mark.parametrize(
    ("draw", "truth", "runs", "least", "most"),
    [
        (normal, 10, 3, 0.68, 0.82),  # the range of three values: 3 of 4
        (normal, 10, 5, 0.89, 0.97),
        (normal, 10, 10, 0.92, 0.99),
        (normal, 10, 20, 0.92, 0.99),
        (exponential, 1, 20, 0.87, 0.97),
    ],
)
def test_a_95_percent_interval_covers_about_that(
    draw: Draw, truth: float, runs: int, least: float, most: float
) -> None:
    assert least <= coverage(draw, truth, runs) <= most


def test_less_confidence_is_a_narrower_interval() -> None:
    values = [normal(Random(seed)) for seed in range(12)]
    wide, narrow = (bootstrap(values, Random(0), confidence=confidence) for confidence in (0.99, 0.5))
    assert wide.low is not None
    assert wide.high is not None
    assert narrow.low is not None
    assert narrow.high is not None
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_one_value_has_a_mean_and_no_interval() -> None:
    interval = bootstrap([3.0], Random(0))
    assert (interval.mean, interval.low, interval.high) == (3.0, None, None)


def test_equal_values_have_an_interval_of_one_point() -> None:
    interval = bootstrap([2.5] * 6, Random(0))
    assert (interval.mean, interval.low, interval.high) == (2.5, 2.5, 2.5)


def test_an_interval_stays_within_the_values() -> None:
    values = [1.0, 5.0]
    interval = bootstrap(values, Random(1))
    assert (interval.low, interval.mean, interval.high) == (1.0, 3.0, 5.0)


def test_the_same_chance_gives_the_same_interval() -> None:
    values = [normal(Random(seed)) for seed in range(5)]
    assert bootstrap(values, Random(4)) == bootstrap(values, Random(4))


def test_no_values_have_no_interval() -> None:
    with pytest.raises(ValueError, match="no values"):
        bootstrap([], Random(0))


def test_pairs_tell_apart_what_means_cannot() -> None:
    chance = Random(5)
    luck = [chance.gauss(0, 10) for _ in range(10)]
    ours = [100 + shared + chance.gauss(0, 0.1) for shared in luck]
    theirs = [101 + shared + chance.gauss(0, 0.1) for shared in luck]
    difference = paired_difference(ours, theirs, chance)
    assert difference.high is not None
    assert difference.high < 0
    assert difference.mean == pytest.approx(-1, abs=0.2)
    alone, other = bootstrap(ours, chance), bootstrap(theirs, chance)
    assert alone.high is not None
    assert other.low is not None
    assert alone.high > other.low


def test_runs_that_have_no_partner_are_an_error() -> None:
    with pytest.raises(ValueError, match="2 runs cannot be paired with 1"):
        paired_difference([1.0, 2.0], [1.0], Random(0))
