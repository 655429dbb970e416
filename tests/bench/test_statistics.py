"""Intervals and means of ratios: what must hold for any values, and how often an interval holds the truth."""

from __future__ import annotations

from math import inf, isclose
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_lib.statistics import Interval, geometric_mean, mean_interval, ratio_interval

SECONDS = st.floats(1e-3, 1e3)
SEEDS = st.lists(SECONDS, min_size=2, max_size=8)
PAIRS = st.lists(st.tuples(SECONDS, SECONDS), min_size=2, max_size=8)


@given(SEEDS)
def test_an_interval_holds_its_mean_and_stays_within_the_values(values: list[float]) -> None:
    interval = mean_interval(values)
    assert interval.low <= interval.value <= interval.high
    assert min(values) * (1 - 1e-12) <= interval.low
    assert interval.high <= max(values) * (1 + 1e-12)


@given(SECONDS, st.integers(2, 8))
def test_equal_values_have_an_interval_of_one_point(value: float, count: int) -> None:
    interval = mean_interval([value] * count)
    assert isclose(interval.low, value)
    assert isclose(interval.high, value)


@given(SEEDS, st.floats(0.01, 100))
def test_in_another_unit_an_interval_is_the_same(values: list[float], unit: float) -> None:
    one, other = mean_interval(values), mean_interval([unit * value for value in values])
    assert all(isclose(unit * a, b, rel_tol=1e-9) for a, b in zip(one, other, strict=True))


@given(SEEDS, st.floats(0.01, 100))
def test_what_is_so_much_larger_with_every_seed_has_a_ratio_without_doubt(
    values: list[float], factor: float
) -> None:
    interval = ratio_interval([factor * value for value in values], values)
    assert isclose(interval.low, factor, rel_tol=1e-9)
    assert isclose(interval.high, factor, rel_tol=1e-9)


@given(PAIRS)
def test_the_ratio_the_other_way_round_is_the_inverse(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = [our for our, _ in pairs], [their for _, their in pairs]
    one, other = ratio_interval(ours, theirs), ratio_interval(theirs, ours)
    assert isclose(one.value, 1 / other.value, rel_tol=1e-9)
    assert isclose(one.low, 1 / other.high, rel_tol=1e-9)
    assert isclose(one.high, 1 / other.low, rel_tol=1e-9)


@given(PAIRS)
def test_a_ratio_of_means_lies_between_the_ratios_of_the_seeds(pairs: list[tuple[float, float]]) -> None:
    ratios = [our / their for our, their in pairs]
    interval = ratio_interval([our for our, _ in pairs], [their for _, their in pairs])
    assert min(ratios) * (1 - 1e-9) <= interval.low <= interval.high <= max(ratios) * (1 + 1e-9)


def test_pairs_tell_apart_what_means_cannot() -> None:
    chance = Random(5)
    theirs = [chance.uniform(50, 150) for _ in range(5)]
    ours = [0.95 * value for value in theirs]
    assert ratio_interval(ours, theirs).high < 1
    assert mean_interval(ours).overlaps(mean_interval(theirs))


@pytest.mark.parametrize(("seeds", "least", "most"), [(3, 0.66, 0.83), (5, 0.87, 0.97)])
def test_how_often_an_interval_holds_the_true_mean_is_what_is_said(
    seeds: int, least: float, most: float
) -> None:
    chance = Random(f"coverage {seeds}")
    inside = 0
    for _ in range(400):
        interval = mean_interval([chance.gauss(10, 3) for _ in range(seeds)])
        inside += interval.low <= 10 <= interval.high
    assert least <= inside / 400 <= most


def test_one_value_has_no_interval() -> None:
    with pytest.raises(ValueError, match="1 value has no interval"):
        mean_interval([1.0])


def test_values_without_a_partner_are_an_error() -> None:
    with pytest.raises(ValueError, match="3 values cannot be paired with 2"):
        ratio_interval([1.0, 2.0, 3.0], [1.0, 2.0])


def test_intervals_that_touch_overlap_and_those_apart_are_below_each_other() -> None:
    low, middle, high = Interval(1, 0, 2), Interval(3, 2, 4), Interval(9, 5, inf)
    assert low.overlaps(middle)
    assert middle.overlaps(low)
    assert not low.below(middle)
    assert low.below(high)
    assert not high.below(low)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=9))
def test_twice_as_long_and_half_as_long_make_one_together(ratios: list[float]) -> None:
    assert isclose(geometric_mean([*ratios, *(1 / ratio for ratio in ratios)]), 1, rel_tol=1e-9)
    assert min(ratios) * (1 - 1e-9) <= geometric_mean(ratios) <= max(ratios) * (1 + 1e-9)


def test_there_is_no_mean_of_no_ratios() -> None:
    with pytest.raises(ValueError, match="no ratios"):
        geometric_mean([])
