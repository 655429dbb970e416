"""Who is better, level or lost, and how policies stand."""

from __future__ import annotations

import pytest

from judged import cell, result
from routing_lib.plan import OURS
from routing_lib.verdicts import Metric, Word, answering, leader, standings, verdict

FAST, SLOW, AROUND = [1.00, 1.02, 1.01], [2.00, 2.10, 2.05], [0.95, 1.10, 1.04]


def word(ours: list[float], **others: list[float]) -> Word:
    return verdict(cell({OURS: ours, **others}), Metric.MEAN, OURS).word


def test_an_interval_below_the_best_others_is_better() -> None:
    assert word(FAST, one=SLOW, two=[3.0, 3.1, 3.2]) is Word.BETTER


def test_an_interval_above_the_best_others_is_lost_however_many_are_worse() -> None:
    assert word(SLOW, one=FAST, two=[9.0, 9.1, 9.2], three=[8.0, 8.0, 8.0]) is Word.LOST


def test_intervals_that_overlap_are_level_whoever_has_the_lower_mean() -> None:
    assert word(FAST, one=AROUND) is Word.LEVEL
    assert word(AROUND, one=FAST) is Word.LEVEL


def test_the_best_other_has_the_least_mean_and_is_never_oneself() -> None:
    found = verdict(cell({OURS: FAST, "one": SLOW, "two": AROUND}), Metric.MEAN, OURS)
    assert found.best_other == "two"
    assert found.ratio.value == pytest.approx(3.03 / 3.09)


def test_each_metric_has_a_verdict_of_its_own() -> None:
    found = cell({OURS: result(FAST, SLOW), "one": result(SLOW, FAST)})
    assert verdict(found, Metric.MEAN, OURS).word is Word.BETTER
    assert verdict(found, Metric.P99, OURS).word is Word.LOST


@pytest.mark.parametrize(
    ("ours", "clearly"), [([0.85, 0.85], True), ([0.86, 0.86], False), ([0.5, 0.9], True)]
)
def test_clearly_better_is_by_15_percent_and_beyond_chance(ours: list[float], clearly: bool) -> None:
    assert verdict(cell({OURS: ours, "one": [1.0, 1.0]}), Metric.MEAN, OURS).clearly is clearly


def test_what_may_be_chance_is_not_clearly_better() -> None:
    found = verdict(cell({OURS: [0.2, 1.2], "one": [1.0, 1.0]}), Metric.MEAN, OURS)
    assert found.ours.value <= 0.85 * found.theirs.value
    assert not found.clearly


def test_who_leaves_requests_unanswered_is_behind_who_does_not() -> None:
    found = cell({OURS: SLOW, "hasty": result(FAST, unanswered=0.02), "slower": [5.0, 5.1, 5.2]})
    one = verdict(found, Metric.MEAN, OURS)
    assert (one.best_other, one.word) == ("slower", Word.BETTER)
    assert answering(found) == [OURS, "slower"]
    assert leader(found, Metric.MEAN) == OURS


def test_who_leaves_requests_unanswered_itself_has_lost() -> None:
    found = cell({OURS: result(FAST, unanswered=0.02), "one": SLOW})
    assert verdict(found, Metric.MEAN, OURS).word is Word.LOST


def test_a_request_that_all_leave_unanswered_is_nobodys_fault() -> None:
    found = cell({OURS: result(FAST, unanswered=0.021), "one": result(SLOW, unanswered=0.02)})
    assert verdict(found, Metric.MEAN, OURS).word is Word.BETTER


def test_a_policy_alone_has_nobody_to_be_compared_with() -> None:
    with pytest.raises(ValueError, match="nobody to be compared with"):
        verdict(cell({OURS: FAST}), Metric.MEAN, OURS)


def test_standings_count_firsts_and_who_is_near_and_tell_the_worst_cell() -> None:
    cells = [
        cell({OURS: FAST, "near": AROUND, "far": SLOW}, trace="azure"),
        cell({OURS: SLOW, "near": [1.5, 1.5, 1.5], "far": [1.0, 1.0, 1.0]}, trace="rag"),
    ]
    found = {one.policy: one for one in standings(cells, Metric.MEAN, [OURS, "near", "far"])}
    assert {name: one.wins for name, one in found.items()} == {OURS: 1, "near": 0, "far": 1}
    assert {name: one.near for name, one in found.items()} == {OURS: 1, "near": 1, "far": 1}
    assert found["far"].worst_ratio == pytest.approx(6.15 / 3.03)
    assert found["far"].worst_cell.trace == "azure"
    assert found["far"].mean_ratio == pytest.approx((6.15 / 3.03) ** 0.5)
    assert list(found) == sorted(found, key=lambda name: found[name].mean_ratio)
