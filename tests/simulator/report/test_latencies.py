"""Means and quantiles: by hand, and against their definition."""

from __future__ import annotations

from math import isnan, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmroute_simulator.report.latencies import Spread, e2e_s, quantile, spread, tpot_s, ttft_s
from warmroute_simulator.simulation.records import Records


def test_latencies_of_requests_by_hand(records: Records) -> None:
    assert list(ttft_s(records))[:4] == pytest.approx([1.0, 0.5, 3.0, 0.2])
    assert isnan(ttft_s(records)[4])
    assert list(e2e_s(records))[:3] == pytest.approx([2.0, 0.5, 5.0])
    assert [isnan(value) for value in e2e_s(records)] == [False, False, False, True, True]


def test_a_single_output_token_has_no_tpot(records: Records) -> None:
    assert tpot_s(records)[0] == pytest.approx(1.0 / 10)
    assert isnan(tpot_s(records)[1])
    assert tpot_s(records)[2] == pytest.approx(2.0 / 20)


def test_a_quantile_is_a_value_that_occurred() -> None:
    ordered = [float(value) for value in range(1, 101)]
    assert [quantile(ordered, share) for share in (0.0, 0.07, 0.5, 0.9, 0.99, 1.0)] == [1, 7, 50, 90, 99, 100]
    assert quantile([3.0], 0.5) == 3.0
    assert quantile([1.0, 2.0], 0.5) == 1.0


def test_the_spread_of_nothing_is_none() -> None:
    assert spread([]) is None
    assert spread([nan, nan]) is None


def test_what_was_not_measured_does_not_count() -> None:
    assert spread([nan, 2.0, nan, 4.0]) == Spread(3.0, 2.0, 4.0, 4.0)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_the_smallest_value_that_enough_values_do_not_exceed(
    values: list[float], share: float
) -> None:
    ordered = sorted(values)
    found = quantile(ordered, share)
    assert sum(value <= found for value in ordered) >= share * len(ordered) - 1e-6
    assert sum(value < found for value in ordered) < share * len(ordered)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.randoms(use_true_random=False))
def test_the_order_of_requests_does_not_change_a_digit(values: list[float], chance: object) -> None:
    shuffled = list(values)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert spread(shuffled) == spread(values)
