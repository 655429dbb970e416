"""Axes: values in their order, ticks that are round and within."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmroute_simulator.report.axes import (
    Axis,
    clock,
    clock_text,
    linear,
    logarithmic,
    normal,
    percent,
    plain,
    short_seconds,
)

AMOUNTS = st.floats(1e-4, 1e9)


def labels(axis: Axis) -> list[str]:
    return [label for _, label in axis.ticks]


def faults(axis: Axis, low: float, high: float) -> list[str]:
    """What is wrong with an axis: ticks ascend and are within, and what is larger stands further along."""
    places = [axis.place(value) for value, _ in axis.ticks]
    ends = [-1e-6, axis.place(low), axis.place((low + high) / 2), axis.place(high), 1 + 1e-6]
    claims = {
        "1 to 12 ticks": 1 <= len(places) <= 12,
        "ticks are within": all(-1e-6 <= place <= 1 + 1e-6 for place in places),
        "ticks ascend": all(one < other for one, other in pairwise(places)),
        "values ascend and are within": ends == sorted(ends),
    }
    return [f"not true: {claim}" for claim, holds in claims.items() if not holds]


def test_an_axis_that_runs_backwards_or_out_of_its_ends_is_not_sound() -> None:
    assert faults(Axis(lambda value: 1 - value, [(0.0, ""), (1.0, "")]), 0, 1) != []
    assert faults(Axis(lambda value: value, [(0.0, ""), (2.0, "")]), 0, 1) == ["not true: ticks are within"]
    assert faults(Axis(lambda value: value, []), 0, 1) == ["not true: 1 to 12 ticks"]


def test_a_linear_axis_ends_at_round_numbers() -> None:
    assert labels(linear(0, 0.374, percent)) == ["0 %", "10 %", "20 %", "30 %", "40 %"]
    assert labels(linear(0, 46, plain)) == ["0", "10", "20", "30", "40", "50"]
    assert labels(linear(1, 8, plain)) == ["0", "2", "4", "6", "8"]


def test_a_clock_counts_in_what_people_count_in() -> None:
    assert labels(clock(3537)) == ["0", "10 min", "20 min", "30 min", "40 min", "50 min"]
    assert labels(clock(50)) == ["0", "10 s", "20 s", "30 s", "40 s", "50 s"]
    assert labels(clock(6.9 * 3600)) == ["0", "2 h", "4 h", "6 h"]
    assert labels(clock(20 * 86_400)) == ["0", "4 d", "8 d", "12 d", "16 d", "20 d"]
    assert (clock_text(90), clock_text(5400)) == ("1.5 min", "1.5 h")


def test_a_logarithmic_axis_has_ticks_at_powers_of_ten() -> None:
    assert labels(logarithmic(0.02, 300, short_seconds)) == ["100 ms", "1 s", "10 s", "100 s"]
    assert labels(logarithmic(0.015, 0.12, short_seconds)) == ["20 ms", "50 ms", "100 ms"]


def test_a_logarithmic_axis_of_one_value_has_it_in_the_middle() -> None:
    assert logarithmic(1.0, 1.0, short_seconds).place(1.0) == pytest.approx(0.5)


def test_a_normal_axis_gives_the_last_percent_as_much_room_as_the_first() -> None:
    axis = normal(0.01, 0.99, ())
    assert (axis.place(0.01), axis.place(0.5), axis.place(0.99)) == pytest.approx((0, 0.5, 1))
    assert axis.place(0.99) - axis.place(0.9) > axis.place(0.6) - axis.place(0.51)


@given(AMOUNTS, st.floats(1.0, 1e6))
def test_logarithmic_axes_are_sound(low: float, factor: float) -> None:
    assert faults(logarithmic(low, low * factor, plain), low, low * factor) == []


@given(st.floats(-1e6, 1e6), AMOUNTS)
def test_linear_axes_are_sound(low: float, width: float) -> None:
    assert faults(linear(low, low + width, plain), low, low + width) == []


@given(AMOUNTS)
def test_clocks_are_sound(high: float) -> None:
    assert faults(clock(high), 0, high) == []
