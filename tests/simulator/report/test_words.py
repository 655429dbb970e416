"""Numbers as people read them."""

from __future__ import annotations

from math import inf, nan

import pytest

from warmroute_simulator.report import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 s"),
        (0.000012, "0.012 ms"),
        (0.0123, "12.3 ms"),
        (0.0999, "99.9 ms"),
        (0.1, "0.10 s"),
        (0.924, "0.92 s"),
        (1.005, "1.00 s"),
        (9.996, "10.0 s"),
        (99.96, "100 s"),
        (300, "5.00 min"),
        (7200, "2.00 h"),
        (-0.25, "−0.25 s"),
        (None, "–"),
        (nan, "–"),
        (inf, "–"),
    ],
)
def test_seconds(value: float | None, text: str) -> None:
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7"), (0.25, "0.25"), (99.5, "99.5"), (12031, "12,031"), (999_999, "999,999"),
     (3_456_789, "3.46M"), (1.2e10, "12.0G"), (-1500, "−1,500"), (None, "–")],
)  # fmt: skip
def test_counts(value: float | None, text: str) -> None:
    assert words.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(3.21, "+3.2"), (-3.21, "−3.2"), (0.01, "0.0"), (-0.01, "0.0"), (None, "–")]
)
def test_points_always_show_their_sign(value: float | None, text: str) -> None:
    assert words.points(value) == text


def test_percentages_and_ratios() -> None:
    assert (words.percent(0.3412), words.percent(None), words.percent(nan)) == ("34.1 %", "–", "–")
    assert (words.ratio(1.0934), words.ratio(None)) == ("1.09", "–")
