"""An engine is asked as often as it helps and no more than it bears; what it does not tell is found out."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmroute.load.pace import Mood, Pace
from warmroute.load.sources import SOURCES, Asked, Sources
from warmroute_policies.types import LoadReport


def wait(pace: Pace) -> float:
    """Without the jitter."""
    return max(pace.wait_s(Random(seed)) for seed in range(200)) / 1.1


def test_others_work_is_looked_at_often_own_work_less_and_idleness_seldom() -> None:
    pace = Pace(0.5, 10.0, 1.0)
    limits = {}
    for mood in (Mood.IDLE, Mood.BUSY, Mood.DISAGREES):
        for _ in range(20):
            pace.answered(0.001, mood)
        limits[mood] = pace.interval_s
    assert limits == {Mood.IDLE: 10.0, Mood.BUSY: 2.0, Mood.DISAGREES: 0.5}
    pace.answered(0.001, Mood.IDLE)
    assert pace.interval_s == 0.75, "it grows little by little and shrinks at once"


@pytest.mark.parametrize(("took_s", "expected_s"), [(0.001, 0.5), (0.04, 4.0), (3.0, 300.0)])
def test_answers_take_no_more_than_their_share_of_an_engines_time(took_s: float, expected_s: float) -> None:
    pace = Pace(0.5, 10.0, 0.01)
    pace.answered(took_s, Mood.DISAGREES)
    assert wait(pace) == pytest.approx(expected_s, rel=0.02)


def test_an_engine_that_does_not_answer_is_left_alone_for_longer_and_longer() -> None:
    pace = Pace(0.5, 5.0, 1.0)
    waits = []
    for _ in range(12):
        pace.failed(0.01)
        waits.append(pace.interval_s)
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == 60.0
    pace.answered(0.01, Mood.DISAGREES)
    assert pace.interval_s == 0.5


@given(
    st.lists(st.tuples(st.floats(0, 100), st.sampled_from([*Mood, None])), max_size=60),
    st.floats(0.01, 10),
    st.floats(0.01, 100),
    st.floats(0.001, 1),
)
def test_whatever_happens_the_share_is_kept(
    answers: list[tuple[float, Mood | None]], least_s: float, most_s: float, share: float
) -> None:
    pace, chance = Pace(least_s, most_s, share), Random(7)
    asking_s = all_s = 0.0
    for took_s, mood in answers:
        pace.failed(took_s) if mood is None else pace.answered(took_s, mood)
        wait_s = pace.wait_s(chance)
        assert wait_s >= 0.9 * least_s
        asking_s, all_s = asking_s + took_s, all_s + took_s + wait_s
    assert asking_s <= share * 1.12 * all_s


# --- sources ----------------------------------------------------------------------------------------


def sources() -> Sources:
    return Sources(lambda: Pace(1.0, 1.0, 1.0), 0.0)


def named(path: str, among: Sources) -> Asked:
    return next(one for one in among.asked if one.source.path.startswith(path))


def asked_at(found: Sources, now: float) -> list[str]:
    """All that are due, as if each of them were asked and nothing came of it."""
    paths = []
    while (one := found.due(now)) is not None:
        paths.append(one.source.path.partition("?")[0])
        one.next_at(now, 1.0)
    return paths


def test_every_source_is_tried_and_those_that_are_missing_are_left_alone_for_minutes() -> None:
    found = sources()
    assert asked_at(found, 0.0) == ["/v1/loads", "/get_load", "/load", "/metrics"]
    for path in ("/v1/loads", "/get_load", "/load"):
        named(path, found).failed(404, odd=False)
    for one in found.asked:
        one.next_at(0.0, 1.0)
    assert asked_at(found, 1.5) == ["/metrics"]
    silent = [found.silent]
    named("/metrics", found).failed(404, odd=False)
    silent.append(found.silent)
    assert silent == [False, True]
    assert sorted(asked_at(found, 700.0)) == ["/get_load", "/load", "/metrics", "/v1/loads"]


def test_an_engine_that_tells_all_in_one_place_is_asked_nowhere_else() -> None:
    found = sources()
    body = b'{"loads": [{"num_running_reqs": 1, "num_waiting_reqs": 0}]}'
    assert named("/v1/loads", found).take(body, busy=False) == LoadReport(1, 0)
    assert asked_at(found, 0.0) == ["/v1/loads"]
    gone = named("/v1/loads", found)
    gone.failed(404, odd=False)
    gone.next_at(0.0, 1.0)
    assert asked_at(found, 1.0) == ["/get_load", "/load", "/metrics"]


def test_one_question_at_a_time() -> None:
    found = sources()
    found.under_way = True
    assert found.due(9.0) is None


def test_three_answers_in_a_row_that_cannot_be_read_are_no_source() -> None:
    one = named("/metrics", sources())
    page = b"vllm:num_requests_waiting 1\n"
    for _ in range(2):
        one.failed(None, odd=True)
    one.take(page, busy=False)
    for _ in range(2):
        one.failed(None, odd=True)
    one.failed(503, odd=False)
    assert not one.absent
    for _ in range(3):
        one.failed(None, odd=True)
    assert one.absent


def test_zeros_are_no_count_before_there_was_another_number() -> None:
    one = named("/load", sources())
    zero, six = b'{"server_load": 0}', b'{"server_load": 6}'
    for _ in range(9):
        assert one.take(zero, busy=False) is None, "nobody is there, or nobody counts"
    for busy in (True, True, False, True, True):
        assert one.take(zero, busy=busy) is None
    assert not one.absent
    assert one.take(six, busy=True) == LoadReport(6)
    for _ in range(9):
        assert one.take(zero, busy=True) == LoadReport(0), "it has counted before"


def test_zeros_while_requests_are_there_show_that_nobody_counts() -> None:
    one = named("/load", sources())
    for _ in range(3):
        assert one.take(b'{"server_load": 0}', busy=True) is None
    assert one.absent
    one.next_at(0.0, 1.0)
    assert one.due_at == 600.0


def test_gauges_are_older_than_counts() -> None:
    lags = {source.path.partition("?")[0]: source.lag_s for source in SOURCES}
    assert lags["/metrics"] >= 0.6 > lags["/load"]
