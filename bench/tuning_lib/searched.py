"""The search of `simulator tune`, with the runs of several workloads where it has those of one trace's half;
then what it found and the defaults on all workloads, those that it saw and those that it did not.

A trial of the search, a point with a seed, is a run of each cell of the half that is tuned on. All runs go
through the store: whoever interrupts a search and starts it again sees the same trials, and those that were
done cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from routing_lib.agenda import Agenda
from routing_lib.factors import Cell
from routing_lib.orders import Order, order_of
from tuning_lib.costs import cost
from tuning_lib.playing import Playing
from tuning_lib.workloads import TUNED_ON, UNSEEN, cells_of
from warmroute_policies.spelling import policy_text
from warmroute_simulator.study.search import Found, Search, Trial
from warmroute_simulator.study.space import Space


def searched(agenda: Agenda, playing: Playing, space: Space, budget: int) -> Found:
    """Writes. Plays the knees, then the search, then the check. Raises ValueError for a budget that is too
    small, RunFailed, KeyboardInterrupt."""
    playing.play_all(agenda)
    cells = with_knee(agenda, TUNED_ON)
    unseen = with_knee(agenda, UNSEEN)
    seeds = agenda.plan.seeds

    def evaluate(trials: Sequence[Trial]) -> list[float]:
        orders = [
            order
            for trial in trials
            for order in orders_of(agenda, cells, policy_text(space.at(trial.point)), trial.seed)
        ]
        runs = playing.play(orders)
        return [cost(runs[at : at + len(cells)]) for at in range(0, len(runs), len(cells))]

    checks = 2 * len(seeds)
    playing.expect(budget * _requests(agenda, cells) + checks * _requests(agenda, [*cells, *unseen]))
    found = Search.of(space, evaluate, budget).run()
    policies = dict.fromkeys((policy_text(space.policy), policy_text(space.at(found.best.point))))
    playing.play(
        [
            order
            for policy in policies
            for seed in seeds
            for order in orders_of(agenda, [*cells, *unseen], policy, seed)
        ]
    )
    return found


def with_knee(agenda: Agenda, traces: tuple[str, ...]) -> list[Cell]:
    """Reads. The cells of a half whose place has a knee; of others there is nothing to take shares of."""
    return [cell for cell in cells_of(agenda.plan, traces) if agenda.load(cell) is not None]


def orders_of(agenda: Agenda, cells: Sequence[Cell], policy: str, seed: int) -> list[Order]:
    """Reads. A run of each cell."""
    found = []
    for cell in cells:
        load = agenda.load(cell)
        assert load is not None, "cells with a knee are asked for"
        found.append(order_of(agenda.plan.traces[cell.place.trace], cell.place, load, policy, seed))
    return found


def _requests(agenda: Agenda, cells: Sequence[Cell]) -> int:
    return sum(order.source.requests for order in orders_of(agenda, cells, "", 0))
