"""What counts as misled, what counts as noticed, and which bars are held."""

from __future__ import annotations

from dataclasses import replace
from math import nan
from pathlib import Path

import msgspec
import pytest

from beliefs_lib.levels import (
    CAPACITIES,
    FLUSHED,
    KNEES,
    LOSSES,
    PRICES,
    REPLICAS,
    RESTARTED,
    SIGNALS,
    START_S,
    TRUE,
    capacity,
    load_of,
    lopsided,
    price,
    replicas,
    signal_variants,
    variants,
)
from beliefs_lib.played import Played, Task, config_of, halve, in_order, played, promised, watched
from beliefs_lib.restarts import RIGHT_AGAIN, Restart, Sent, restart_of
from beliefs_lib.verdicts import by_variant, row_of, rows_of
from routing_lib.factors import Place, traces, workers_of
from routing_lib.traces import made_up
from warmroute_simulator.simulation.arrivals import ArrivalPlan
from warmroute_simulator.simulation.config import Spread
from warmroute_simulator.simulation.load import MOST_LOAD
from warmroute_simulator.simulation.run import Simulation
from warmroute_simulator.simulation.scenario import Happening, Kind
from warmroute_simulator.traces.prompts import ROOT, PromptTree
from warmroute_simulator.traces.trace import Trace

PLACE = Place("shared_prefix", "8", 250_000)
LOPSIDED = [lopsided(signals) for signals in (None, *SIGNALS)]
SOURCE = made_up("shared_prefix:groups=150,prefix_tokens=2000", 1500)


def sent(at_s: float, hit_tokens: int, lasts_s: float = 2.5) -> Sent:
    return Sent(at_s, at_s + lasts_s, 1000, hit_tokens)


def run(variant: str, seed: int = 0, hit_rate: float = 0.9, ttft_s: float = 1.0, sessions: int = 5) -> Played:
    return Played("chat", variant, seed, 900, sessions, 900, hit_rate, ttft_s, ttft_s, 0, [], 1.0)


def runs(variant: str, hit_rate: float = 0.9, ttft_s: float = 1.0, sessions: int = 5) -> list[Played]:
    return [run(variant, seed, hit_rate, ttft_s, sessions) for seed in range(3)]


def few_of_many() -> Trace:
    """A hundred prompts once, then four in turn, one at a time: what is used again was used just now."""
    tree = PromptTree()
    trace = Trace("few of many", tree, closed_loop=False)
    prefixes = [tree.add(ROOT, 2000) for _ in range(100)]
    for number in range(200):
        prefix = prefixes[number if number < 100 else number % 4]
        trace.add(tree.add(prefix, 50), 5, arrival_s=float(number))
    return trace


# --- restarts -------------------------------------------------------------------------------------


def test_promises_are_counted_until_the_belief_is_dropped() -> None:
    found = restart_of([sent(at_s, 0) for at_s in range(8)], dropped_s=4.5)
    assert found == Restart(sent=5, wrong=5, blind=3, dropped=True)


def test_a_request_is_blind_while_no_wrong_one_has_ended() -> None:
    early = [sent(0.0, 900, lasts_s=0.1), sent(1.0, 0, lasts_s=5.0), sent(2.0, 0, lasts_s=1.0)]
    assert restart_of([*early, sent(2.9, 0), sent(3.1, 0)], dropped_s=9.0).blind == 4


def test_a_request_that_never_ended_tells_nobody() -> None:
    assert restart_of([sent(0.0, 0, nan), sent(1.0, 0), sent(9.0, 0)], None).blind == 2


def test_enough_kept_promises_in_a_row_count_as_noticed() -> None:
    right = [sent(3.0 + at_s, 1000) for at_s in range(RIGHT_AGAIN)]
    found = restart_of([sent(0.0, 0), sent(1.0, 1000), sent(2.0, 0), *right, sent(99.0, 0)], None)
    assert found == Restart(sent=3, wrong=2, blind=3, dropped=False)


def test_a_wrong_promise_begins_the_row_anew() -> None:
    hits = [*[1000] * (RIGHT_AGAIN - 1), 0, *[1000] * RIGHT_AGAIN]
    found = restart_of([sent(float(at_s), hit) for at_s, hit in enumerate(hits)], None)
    assert (found.sent, found.wrong) == (RIGHT_AGAIN, 1)


def test_what_is_wrong_to_the_end_is_never_noticed() -> None:
    found = restart_of([sent(at_s, 899) for at_s in range(30)], None)
    assert (found.sent, found.wrong, found.dropped) == (30, 30, False)


def test_a_tenth_of_a_promise_may_be_missing() -> None:
    assert sent(0.0, 899).wrong
    assert not sent(0.0, 900).wrong


def test_a_worker_that_nobody_is_sent_to_misleads_nobody() -> None:
    assert restart_of([], None) == Restart(0, 0, 0, False)


# --- levels ---------------------------------------------------------------------------------------


def test_every_level_is_played_and_quick_keeps_the_ends() -> None:
    whole, quick = variants(quick=False), variants(quick=True)
    assert len(whole) == 1 + len(CAPACITIES) + len(PRICES) + 2 + 2 * len(REPLICAS) * (1 + len(SIGNALS))
    assert len({one.name for one in whole}) == len(whole)
    assert set(quick) < set(whole)
    assert whole[0] == quick[0] == TRUE
    assert {RESTARTED, FLUSHED} <= set(quick)
    assert {one.capacity_error for one in quick} == {1.0, min(CAPACITIES), max(CAPACITIES)}


def test_what_signals_are_worth_is_told_of_routers_that_hear_none_too() -> None:
    whole, quick = signal_variants(quick=False), signal_variants(quick=True)
    assert whole[0] == quick[0] == TRUE
    assert set(whole[1:]) == {*(one for one in variants(quick=False) if one.routers > 1), *LOPSIDED}
    assert {*LOPSIDED} < set(quick) < set(whole)
    assert len({one.name for one in whole}) == len(whole)


@pytest.mark.parametrize("place", KNEES)
def test_every_place_has_a_trace_a_fleet_and_a_load(place: Place) -> None:
    assert place.trace in traces(Path("nowhere"))
    assert all(worker < workers_of(place.fleet) for _, worker in LOSSES)
    assert 0 < load_of(place) <= MOST_LOAD


# --- runs -----------------------------------------------------------------------------------------


def test_emptied_caches_break_promises_that_are_kept_otherwise() -> None:
    trace = SOURCE.read(0)
    emptied = config_of(Task(PLACE, SOURCE, None, FLUSHED, 0), trace)
    steady = config_of(Task(PLACE, SOURCE, None, TRUE, 0), trace)
    assert [happening.worker for happening in emptied.scenario] == [worker for _, worker in LOSSES]
    wrong = []
    for config in (emptied, steady):
        records, _, _ = watched(trace, config)
        rows = in_order(records)
        found = [promised(records, rows, one.worker, one.at_s) for one in emptied.scenario]
        wrong.append(sum(one.wrong for worker in found for one in worker))
    assert wrong[0] > 10 * wrong[1]


def test_a_worker_that_dies_is_back_at_once_and_an_emptied_cache_is_all_that_a_flush_does() -> None:
    trace = SOURCE.read(0)
    restarted, flushed = (
        config_of(Task(PLACE, SOURCE, None, one, 0), trace).scenario for one in (RESTARTED, FLUSHED)
    )
    moments = [(happening.worker, happening.at_s) for happening in flushed]
    assert {happening.kind for happening in flushed} == {Kind.FLUSH}
    assert [(one.worker, one.at_s) for one in restarted if one.kind is Kind.DIE] == moments
    assert [(one.worker, one.at_s) for one in restarted if one.kind is Kind.START] == [
        (worker, at_s + START_S) for worker, at_s in moments
    ]
    assert len(restarted) == 2 * len(LOSSES)


def test_a_run_tells_of_each_lost_cache_once_and_only_a_restart_loses_requests() -> None:
    restarted, flushed = (played(Task(PLACE, SOURCE, None, one, 0)) for one in (RESTARTED, FLUSHED))
    assert len(restarted.restarts) == len(flushed.restarts) == len(LOSSES)
    assert restarted.answered < restarted.requests
    assert flushed.answered == flushed.requests


@pytest.mark.parametrize(
    "scenario",
    [(Happening(Kind.FLUSH, 0, 140.5),), (Happening(Kind.DIE, 0, 139.5), Happening(Kind.START, 0, 140.5))],
    ids=["flush", "restart"],
)
def test_a_router_that_notices_is_seen_to_notice_and_of_which_worker(
    scenario: tuple[Happening, ...],
) -> None:
    steady = config_of(Task(PLACE, SOURCE, None, TRUE, 0), SOURCE.read(0))
    config = replace(steady, fleet=steady.fleet[:1], arrivals=ArrivalPlan(), scenario=scenario)
    _, dropped, noticed = watched(few_of_many(), config)
    (dropped_s,) = dropped[0]
    assert 140.5 < dropped_s < 140.5 + config.resilience.health_interval_s, "before a check can tell"
    assert (list(dropped), noticed) == ([0], 1)


def test_a_run_and_the_same_run_again_have_equal_figures() -> None:
    task = Task(PLACE, SOURCE, None, capacity(1 / 4), 1)
    once, twice = (msgspec.structs.replace(played(task), cpu_s=0.0) for _ in range(2))
    assert once == twice
    assert once.answered == once.requests


def test_what_is_wrong_reaches_the_run() -> None:
    trace = SOURCE.read(0)
    wrong = [price(3.0), capacity(2.0), replicas(4, Spread.SESSION)]
    prices, capacities, routers = (config_of(Task(PLACE, SOURCE, None, one, 0), trace) for one in wrong)
    assert (prices.price_error, prices.capacity_error, prices.routers) == (3.0, 1.0, 1)
    assert (capacities.price_error, capacities.capacity_error) == (1.0, 2.0)
    assert (routers.routers, routers.spread) == (4, Spread.SESSION)


def test_half_of_the_workers_are_the_first_routers_alone() -> None:
    trace = SOURCE.read(0)
    config = config_of(Task(PLACE, SOURCE, None, lopsided(), 0), trace)
    simulation = Simulation(trace, config, None, frozenset())
    halve(simulation)
    simulation.run()
    assert [len(router.balancer.eligible()) for router in simulation.routers] == [8, 4]
    alike, apart = (
        played(Task(PLACE, SOURCE, None, one, 0)) for one in (replicas(2, Spread.RANDOM), lopsided())
    )
    assert apart.ttft_mean_s > 1.05 * alike.ttft_mean_s, (
        "three quarters of the work are for half of the workers"
    )


# --- verdicts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hit_rate", "held"), [(0.95, True), (0.885, True), (0.87, False)])
def test_a_wrong_capacity_may_cost_two_points(hit_rate: float, held: bool) -> None:
    row = row_of("chat", capacity(2.0), runs("capacity ×2", hit_rate), runs(TRUE.name))
    assert row is not None
    assert row.value.value == pytest.approx(100 * (hit_rate - 0.9))
    assert row.held is held


@pytest.mark.parametrize(("ttft_s", "held"), [(0.5, True), (1.09, True), (1.11, False)])
def test_a_wrong_price_may_cost_a_tenth_of_what_comes_later(ttft_s: float, held: bool) -> None:
    row = row_of("chat", price(3.0), runs("price ×3", ttft_s=ttft_s), runs(TRUE.name))
    assert row is not None
    assert row.held is held


def test_replicas_have_a_bar_where_sessions_choose_and_none_at_random() -> None:
    slow, true = runs("replicas", ttft_s=1.2), runs(TRUE.name)
    by_session = row_of("chat", replicas(2, Spread.SESSION), slow, true)
    at_random = row_of("chat", replicas(2, Spread.RANDOM), slow, true)
    assert by_session is not None
    assert at_random is not None
    assert (by_session.held, at_random.held) == (False, None)


def test_without_sessions_there_is_no_row_of_them() -> None:
    none = runs("replicas", sessions=0)
    assert row_of("chat", replicas(2, Spread.SESSION), none, runs(TRUE.name)) is None


def test_a_restart_is_judged_by_the_mean_and_the_worst_is_told() -> None:
    restarts = [Restart(2, 1, 1, True), Restart(30, 9, 5, False)]
    emptied = [msgspec.structs.replace(one, restarts=restarts) for one in runs(RESTARTED.name)]
    row = row_of("chat", RESTARTED, emptied, runs(TRUE.name))
    assert row is not None
    assert (row.value.value, row.held) == (16.0, False)
    assert "at worst 30" in row.text
    assert "dropped 3 of 6" in row.text


@pytest.mark.parametrize("sent", [2, 100])
def test_a_flush_tells_the_figures_of_a_restart_and_has_no_bar(sent: int) -> None:
    emptied = [
        msgspec.structs.replace(one, restarts=[Restart(sent, 1, 1, True)]) for one in runs(FLUSHED.name)
    ]
    flush, restart = (row_of("chat", one, emptied, runs(TRUE.name)) for one in (FLUSHED, RESTARTED))
    assert flush is not None
    assert restart is not None
    assert (flush.value, flush.text) == (restart.value, restart.text)
    assert (flush.bar, flush.held) == ("", None)
    assert restart.held is (sent == 2)


def test_seeds_are_paired_whichever_run_was_done_first() -> None:
    levels = (0.5, 0.7, 0.9)
    true = [run(TRUE.name, seed, level) for seed, level in enumerate(levels)]
    wrong = [run("capacity ×2", seed, level - 0.01) for seed, level in enumerate(levels)]
    found = by_variant([*reversed(wrong), *true])
    _, row = rows_of(found, ["chat"], [TRUE, capacity(2.0)])
    assert tuple(row.value) == pytest.approx((-1.0, -1.0, -1.0))
