"""What may happen to a fleet, as text."""

from __future__ import annotations

import re

import pytest

from warmroute_simulator.simulation.scenario import SCENARIOS, Happening, Kind, parse_happening, scenario


def test_a_happening_is_a_time_a_kind_and_a_worker() -> None:
    assert parse_happening("600:die:2", 4) == [Happening(Kind.DIE, 2, at_s=600.0)]
    assert parse_happening("0.5:slow:0:2.5", 4) == [Happening(Kind.SLOW, 0, at_s=0.5, factor=2.5)]
    assert parse_happening("10:drain:-1", 4) == [Happening(Kind.DRAIN, 3, at_s=10.0)]


def test_a_star_is_every_worker() -> None:
    assert [happening.worker for happening in parse_happening("1:flush:*", 3)] == [0, 1, 2]


def test_per_cent_are_of_the_length_of_the_trace() -> None:
    (happening,) = parse_happening("25%:flush:1", 2)
    assert happening.moment(200.0) == 50.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("die:2", "expected TIME:KIND:WORKER"),
        ("1:dye:2", "did you mean `die`"),
        ("soon:die:2", "expected a number, not 'soon'"),
        ("1:die:two", "must be a number from 0 on"),
        ("1:die:4", "there is no worker 4; the fleet has 4"),
        ("1:slow:2", "`slow` needs a number"),
        ("1:die:2:3", "nothing else takes one"),
        ("1:slow:2:0", "must be above 0"),
        ("-1:die:2", "must not be negative"),
        ("nan:die:2", "expected a number"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        parse_happening(text, 4)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_ready_made_scenario_can_be_played_by_a_fleet_of_one(name: str) -> None:
    assert all(happening.worker == 0 for happening in scenario(name, 1))


def test_an_unknown_scenario_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean `scale-up`"):
        scenario("scaleup", 4)
