"""Which loads a sweep tries, and the knee that it finds."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from warmroute_simulator.study.knee import FIRST, HIGHEST, LOWEST, STRIDE, KneeSearch, load_at


def searched(
    share: Callable[[int], float], targets: tuple[float, ...] = (0.95,)
) -> tuple[KneeSearch, dict[int, float]]:
    search, told = KneeSearch(targets), {}
    while steps := search.next_steps():
        assert steps == sorted(set(steps))
        for step in steps:
            assert step not in told, "no load is tried twice"
            told[step] = share(step)
            search.tell(step, told[step])
        assert len(told) < 100
    return search, told


@pytest.mark.parametrize("last_good", range(LOWEST, HIGHEST))
def test_the_knee_of_a_curve_that_falls_once_is_found_to_a_step(last_good: int) -> None:
    search, told = searched(lambda step: 1.0 if step <= last_good else 0.0)
    (knee,) = search.knees()
    assert (knee.holds, knee.fails) == (load_at(last_good), load_at(last_good + 1))
    assert knee.fails is not None
    assert knee.holds is not None
    assert 1 < knee.fails / knee.holds < 1.06
    assert len(told) <= len(FIRST) + 11


def test_a_usual_knee_takes_eight_loads() -> None:
    _, told = searched(lambda step: 1.0 if step <= -5 else 0.5)
    assert sorted(told) == [-24, -16, -8, -6, -5, -4, 0]
    _, told = searched(lambda step: 1.0 if step <= 3 else 0.5)
    assert len(told) == 8


def test_a_fleet_that_never_fails_has_no_end() -> None:
    search, told = searched(lambda step: 1.0)
    assert search.knees()[0].holds == load_at(HIGHEST) == 10
    assert search.knees()[0].fails is None
    assert len(told) == len(FIRST) + HIGHEST // STRIDE


def test_limits_that_no_load_keeps_have_no_knee() -> None:
    search, told = searched(lambda step: 0.5)
    assert (search.knees()[0].holds, search.knees()[0].fails) == (None, 0.01)
    assert min(told) == LOWEST
    assert len(told) <= len(FIRST) + 6


@pytest.mark.parametrize("seed", range(60))
def test_whatever_noise_does_all_tried_loads_up_to_the_knee_hold_and_the_next_one_fails(seed: int) -> None:
    chance = Random(seed)
    centre = chance.uniform(LOWEST - 10, HIGHEST + 10)
    targets = (0.9, 0.95, 0.99)
    search, told = searched(
        lambda step: min(1.0, max(0.0, 1 - (step - centre) / 100 + chance.gauss(0, 0.05))), targets
    )
    tried = {load_at(step): share for step, share in told.items()}
    grid = [load_at(step) for step in range(LOWEST, HIGHEST + 1)]
    for knee in search.knees():
        if knee.holds is not None:
            assert all(share >= knee.target for load, share in tried.items() if load <= knee.holds), seed
        if knee.fails is not None:
            assert tried[knee.fails] < knee.target
        if knee.holds is not None and knee.fails is not None:
            assert grid.index(knee.fails) == grid.index(knee.holds) + 1
    holds = [knee.holds or 0.0 for knee in search.knees()]
    assert holds == sorted(holds, reverse=True), "a stricter target never bears more"


def test_several_targets_share_the_loads_that_they_try() -> None:
    def share(step: int) -> float:
        return 1.0 - max(0, step) / 200

    together = searched(share, (0.9, 0.95, 0.99))
    alone = [searched(share, (target,)) for target in (0.9, 0.95, 0.99)]
    assert together[0].knees() == [search.knees()[0] for search, _ in alone]
    assert len(together[1]) < sum(len(told) for _, told in alone)


def test_loads_are_written_with_three_digits() -> None:
    assert [load_at(step) for step in (-96, -24, -8, 0, 1, 8, 48)] == [
        0.01,
        0.316,
        0.681,
        1.0,
        1.05,
        1.47,
        10.0,
    ]
    assert len({load_at(step) for step in range(LOWEST, HIGHEST + 1)}) == HIGHEST - LOWEST + 1
