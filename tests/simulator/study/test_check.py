"""When what a search found is taken to be better than what was given."""

from __future__ import annotations

from random import Random

import pytest

from warmroute_simulator.study.check import FOUND, GIVEN, check_of, verdict_of
from warmroute_simulator.study.objective import Costs


def noisy(chance: Random, seeds: int, mean: float, noise: float = 0.1, of_time: float = 0.0) -> list[Costs]:
    """For each seed a cost that differs by chance, in tenths that differ by the same for all seeds."""
    by_time = [chance.gauss(0, of_time) for _ in range(10)]
    found = []
    for _ in range(seeds):
        whole = mean + chance.gauss(0, noise)
        found.append(Costs(whole + sum(by_time) / 10, [whole + part for part in by_time]))
    return found


def winner(given: list[Costs], found: list[Costs]) -> tuple[str, str]:
    seeds = list(range(len(given)))
    return verdict_of(check_of([*given, *found], seeds, 0))


@pytest.mark.parametrize("seed", range(20))
def test_a_clear_improvement_wins(seed: int) -> None:
    chance = Random(seed)
    assert winner(noisy(chance, 5, 2.0), noisy(chance, 5, 1.0))[0] == FOUND


@pytest.mark.parametrize("seed", range(20))
def test_a_clear_loss_does_not(seed: int) -> None:
    chance = Random(seed)
    assert winner(noisy(chance, 5, 1.0), noisy(chance, 5, 2.0)) == (GIVEN, "on the second half it is worse")


@pytest.mark.parametrize(
    ("noise", "of_time", "at_most"), [(0.1, 0.0, 0.06), (0.0, 0.1, 0.05), (0.1, 0.1, 0.10)]
)
def test_what_differs_by_chance_hardly_ever_wins(noise: float, of_time: float, at_most: float) -> None:
    """Seed by seed, or from one tenth to the next, or both; each interval sees one of them."""
    wins = 0
    for seed in range(100):
        chance = Random(seed)
        given, found = (noisy(chance, 5, 1.0, noise, of_time) for _ in range(2))
        wins += winner(given, found)[0] == FOUND
    assert wins <= 100 * at_most


def test_seeds_that_change_nothing_prove_nothing() -> None:
    """A recorded trace: five equal runs are one. It is better in five tenths and worse in the others."""
    given = [Costs(1.0, [1.0] * 10)] * 5
    found = [Costs(0.99, [0.5, 1.48] * 5)] * 5
    check = check_of([*given, *found], [0, 1, 2, 3, 4], 0)
    assert check.over_seeds is None
    assert verdict_of(check)[0] == GIVEN
    assert "over tenths of it includes 0" in verdict_of(check)[1]
    assert winner(given, [Costs(0.9, [0.9, 0.85, 0.95, 0.9, 0.9] * 2)] * 5)[0] == FOUND


def test_one_seed_is_enough_where_the_tenths_agree_and_one_tenth_never_is() -> None:
    assert winner([Costs(1.0, [1.0] * 10)], [Costs(0.9, [0.9, 0.85, 0.95, 0.9, 0.9] * 2)])[0] == FOUND
    assert "too short to tell" in winner([Costs(1.0, [1.0])], [Costs(0.5, [0.5])])[1]


def test_without_a_check_what_was_given_stays() -> None:
    assert verdict_of(None) == (GIVEN, "the search found nothing better")
