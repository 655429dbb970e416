"""Distributions of lengths and times: their textual form, their bounds, their means."""

from __future__ import annotations

from random import Random
from statistics import fmean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmroute_policies.errors import ConfigError
from warmroute_simulator.generators.lengths import Durations, Lengths

whole = st.integers(1, 5_000)


@st.composite
def lengths(draw: st.DrawFn) -> Lengths:
    low, middle, high = sorted(draw(st.tuples(whole, whole, whole)))
    sigma = draw(st.sampled_from([0.0, 0.1, 0.8, 3.0]))
    return Lengths(low, high, middle if sigma else 0, sigma)


@given(lengths())
def test_what_is_written_is_read_as_the_same(value: Lengths) -> None:
    assert Lengths.parse(str(value)) == value


@given(lengths(), st.integers(0, 1_000))
def test_a_length_is_a_whole_number_within_its_bounds(value: Lengths, seed: int) -> None:
    chance = Random(seed)
    for _ in range(50):
        drawn = value.draw(chance)
        assert type(drawn) is int
        assert value.low <= drawn <= value.high


@pytest.mark.parametrize(
    "text", ["700", "200-8000", "lognormal(2000,0.8,200,8000)", "lognormal(10,2,1,20)", "1-2"]
)
def test_the_mean_of_many_draws_is_the_mean(text: str) -> None:
    value, chance = Lengths.parse(text), Random(7)
    drawn = [value.draw(chance) for _ in range(40_000)]
    assert fmean(drawn) == pytest.approx(value.mean, rel=0.02)


def test_a_lognormal_length_has_its_median_and_spread() -> None:
    value, chance = Lengths.parse("lognormal(2000,0.8,1,1000000)"), Random(1)
    drawn = sorted(value.draw(chance) for _ in range(20_000))
    assert median(drawn) == pytest.approx(2000, rel=0.03)
    assert drawn[int(0.9 * len(drawn))] == pytest.approx(2000 * 2.718281828 ** (1.2816 * 0.8), rel=0.05)


def test_every_value_between_is_drawn_alike() -> None:
    value, chance = Lengths.parse("3-6"), Random(3)
    drawn = [value.draw(chance) for _ in range(8_000)]
    assert {drawn.count(number) // 200 for number in (3, 4, 5, 6)} <= {9, 10}


def test_durations_may_be_zero_and_broken() -> None:
    assert Durations.parse(0).draw(Random(0)) == 0.0
    assert Durations.parse(1.5).draw(Random(0)) == 1.5
    value, chance = Durations.parse("lognormal(10,2.17,0,120)"), Random(0)
    drawn = [value.draw(chance) for _ in range(40_000)]
    assert max(drawn) == 120
    assert fmean(drawn) == pytest.approx(value.mean, rel=0.02)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "expected 6000, 200-8000 or lognormal"),
        ("many", "not 'many'"),
        ("-5", "expected"),
        ("lognormal(5,1)", "expected"),
        ("lognormal(5,1,6,9)", "median outside"),
        ("lognormal(5,0,1,9)", "sigma of 0"),
        ("9-3", "largest value below its smallest"),
        ("0", "from 1 on"),
        ("1.5", "whole numbers"),
        ("99999999999", "exceeds"),
        (True, "expected"),
        ([3], "expected"),
        (float("nan"), "expected"),
    ],
)
def test_what_is_no_length_is_refused(given: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Lengths.parse(given)
