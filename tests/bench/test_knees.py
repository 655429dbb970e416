"""Searches that are read from what is known: the same knee however often they are interrupted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from routing_lib.knees import TARGET, followed, place_knee
from warmroute_simulator.study.knee import HIGHEST, LOWEST, Knee, load_at

KNEES = range(LOWEST, HIGHEST, 5)


def played(
    share: Callable[[float], float], near: float | None = None
) -> tuple[Knee, dict[float, float], int]:
    """The knee, what was asked for, and in how many rounds."""
    known: dict[float, float] = {}
    rounds = 0
    while (search := followed(known.get, near)).missing:
        assert set(search.missing).isdisjoint(known), "no load is asked for twice"
        known |= {load: share(load) for load in search.missing}
        rounds += 1
        assert rounds < 40
    assert sorted(search.tried) == sorted(known)
    return search.knee, known, rounds


@pytest.mark.parametrize("last_good", KNEES)
def test_the_knee_is_the_last_load_that_holds_with_and_without_an_idea_of_it(last_good: int) -> None:
    def share(load: float) -> float:
        return 1.0 if load <= load_at(last_good) else 0.0

    for near in (None, load_at(last_good), load_at(0), 0.01, 10.0):
        knee, _, _ = played(share, near)
        assert (knee.holds, knee.fails) == (load_at(last_good), load_at(last_good + 1)), near


def test_a_good_idea_of_the_knee_saves_runs() -> None:
    def share(load: float) -> float:
        return 1.0 if load <= load_at(-3) else 0.0

    assert len(played(share, load_at(-2))[1]) <= 5
    assert len(played(share)[1]) >= 7


def test_a_search_waits_for_all_loads_that_it_asked_for_together() -> None:
    first = followed(lambda load: None)
    one = first.missing[0]
    second = followed({one: 1.0}.get)
    assert second.missing == first.missing[1:]
    assert second.tried == ()


def test_a_fleet_that_no_load_fails_has_no_knee_above() -> None:
    knee, _, _ = played(lambda load: TARGET)
    assert (knee.holds, knee.fails) == (10.0, None)


def test_a_places_knee_is_that_of_the_policy_that_bears_most() -> None:
    knees = [Knee(TARGET, 0.5, 0.52), Knee(TARGET, None, 0.01), Knee(TARGET, 0.9, 0.95)]
    assert place_knee(knees).holds == 0.9
