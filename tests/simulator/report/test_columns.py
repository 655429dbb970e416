"""Which number of a column is marked as the best."""

from __future__ import annotations

import pytest

from warmroute_simulator.report.columns import COLUMNS, Column
from warmroute_simulator.report.comparison import Interval

HITS = next(column for column in COLUMNS if column.key == "hit_rate")
TTFT = next(column for column in COLUMNS if column.key == "ttft_s.mean")


def around(mean: float, half: float = 0.1) -> Interval:
    return Interval(mean, mean - half, mean + half)


@pytest.mark.parametrize(("column", "sign"), [(HITS, 1), (TTFT, -1)], ids=["more", "less"])
def test_the_best_leads_where_its_interval_is_apart_from_all_others(column: Column, sign: int) -> None:
    best, near, far = (around(sign * mean) for mean in (0.9, 0.75, 0.5))
    assert column.leads(best, [far])
    assert not column.leads(best, [near, far]), "0.9 and 0.75 may be the same"
    assert not column.leads(near, [best, far])
    assert not column.leads(far, [best])


def test_of_single_runs_the_better_number_leads_and_of_equal_ones_none() -> None:
    one, other = Interval(0.5, None, None), Interval(0.4, None, None)
    assert HITS.leads(one, [other])
    assert not HITS.leads(other, [one])
    assert not HITS.leads(one, [one])
