"""The search for the best point, on costs that are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import dist
from random import Random

import pytest

from warmroute_policies.events import PolicySpec
from warmroute_simulator.study.search import LEAST_BUDGET, SEEDS, Search, Trial
from warmroute_simulator.study.space import Choice, Point, Range, Space

ORIGIN = (0.5, 0.5, 0.5)


class Costs:
    """Counts the runs, and answers with a function of point and seed."""

    def __init__(self, cost: Callable[[Point, int], float]) -> None:
        self.cost = cost
        self.runs: list[Trial] = []

    def __call__(self, trials: Sequence[Trial]) -> list[float]:
        self.runs += trials
        return [self.cost(trial.point, trial.seed) for trial in trials]


def a_search(costs: Costs, budget: int, seed: int = 0, origin: Point = ORIGIN) -> Search:
    return Search(origin, lambda point: True, lambda point: point, costs, budget, seed)


@pytest.mark.parametrize("seed", range(10))
def test_it_comes_near_the_best_of_a_smooth_bowl(seed: int) -> None:
    chance = Random(seed)
    bottom = tuple(chance.random() for _ in ORIGIN)
    costs = Costs(lambda point, _: dist(point, bottom))
    found = a_search(costs, 60, seed).run()
    assert dist(found.best.point, bottom) < 0.2 < dist(ORIGIN, bottom) + 0.2, f"seed {seed}"
    assert dist(found.best.point, bottom) <= dist(ORIGIN, bottom)


@pytest.mark.parametrize("seed", range(10))
def test_seeds_that_are_harder_for_all_do_not_mislead_it(seed: int) -> None:
    chance = Random(seed)
    bottom = tuple(chance.random() for _ in ORIGIN)
    costs = Costs(lambda point, run: 10 * run + dist(point, bottom))
    found = a_search(costs, 60, seed).run()
    assert dist(found.best.point, bottom) < 0.3, f"seed {seed}"
    assert len(found.best.costs) == SEEDS


@pytest.mark.parametrize("seed", range(20))
def test_a_lucky_run_does_not_win(seed: int) -> None:
    """With the first seed the edge looks best; with all others the middle is."""

    def cost(point: Point, run: int) -> float:
        return -point[0] if run == 0 else 5 * abs(point[0] - 0.5)

    found = a_search(Costs(cost), 40, seed).run()
    assert abs(found.best.point[0] - 0.5) < 0.25, f"seed {seed}"


@pytest.mark.parametrize("budget", range(LEAST_BUDGET, 60))
def test_it_never_runs_more_than_its_budget_and_nothing_twice(budget: int) -> None:
    costs = Costs(lambda point, run: run + dist(point, (0.2, 0.9, 0.4)))
    search = a_search(costs, budget)
    found = search.run()
    assert len(costs.runs) == search.runs <= budget
    assert search.runs > budget - SEEDS
    assert len(set(costs.runs)) == len(costs.runs)
    assert found.tried[0].point == ORIGIN
    assert set(found.tried[0].costs) == {0, 1, 2}


def test_where_seeds_change_nothing_every_point_runs_once() -> None:
    costs = Costs(lambda point, _: dist(point, (0.2, 0.9, 0.4)))
    a_search(costs, 40).run()
    assert sum(trial.seed > 0 for trial in costs.runs) == SEEDS - 1, "the origin alone"


def test_the_same_seed_tries_the_same_and_another_one_does_not() -> None:
    runs = []
    for seed in (1, 1, 2):
        costs = Costs(lambda point, run: run + dist(point, (0.2, 0.9, 0.4)))
        a_search(costs, 30, seed).run()
        runs.append(costs.runs)
    assert runs[0] == runs[1] != runs[2]


def test_points_that_are_refused_are_never_run() -> None:
    costs = Costs(lambda point, _: dist(point, ORIGIN))
    Search(ORIGIN, lambda point: point[0] > 0.4, lambda point: point, costs, 40).run()
    assert all(trial.point[0] > 0.4 for trial in costs.runs)


def test_a_space_of_few_points_is_searched_once_and_then_it_ends() -> None:
    costs = Costs(lambda point, _: point[0])
    found = Search((0.5,), lambda point: True, lambda point: int(4 * point[0]), costs, 40).run()
    assert len(found.tried) == 4
    assert found.best.point[0] < 0.25


def test_the_origin_is_best_where_nothing_is_better() -> None:
    costs = Costs(lambda point, run: run + dist(point, ORIGIN))
    found = a_search(costs, 40).run()
    assert found.best is found.tried[0]


def test_too_small_a_budget_is_refused() -> None:
    with pytest.raises(ValueError, match=f"at least {LEAST_BUDGET} runs, not 7"):
        a_search(Costs(lambda point, run: 0.0), LEAST_BUDGET - 1)


def test_a_search_of_a_space_starts_at_the_policy_as_given_and_runs_no_values_twice() -> None:
    space = Space(
        PolicySpec("prefix_hash", {"prefix_tokens": 17}), (Range("prefix_tokens", 16, 19, whole=True),)
    )
    costs = Costs(lambda point, run: run + float(space.values(point)["prefix_tokens"]))
    found = Search.of(space, costs, 20).run()
    assert found.tried[0].point == space.origin
    tried = [space.values(one.point)["prefix_tokens"] for one in found.tried]
    assert sorted(tried) == [16, 17, 18, 19]


def test_a_search_of_a_space_runs_no_values_that_the_policy_refuses() -> None:
    space = Space(PolicySpec("prefix_hash"), (Choice("prefix_tokens", (256, 0, 64)),))
    costs = Costs(lambda point, run: run + float(space.values(point)["prefix_tokens"]))
    found = Search.of(space, costs, 20).run()
    assert [space.values(one.point)["prefix_tokens"] for one in found.tried] == [256, 64]
