"""A whole run: every request's way, and what happens to it when the fleet changes under it."""

from __future__ import annotations

import dataclasses
import gc
from math import isnan
from random import Random

import pytest

from warmroute_policies.config import BalancerConfig, ResilienceConfig
from warmroute_policies.events import PolicySpec
from warmroute_policies.latency import PRESETS
from warmroute_simulator.engine import EngineConfig
from warmroute_simulator.engine.steps import step_seconds
from warmroute_simulator.simulation.arrivals import ArrivalPlan
from warmroute_simulator.simulation.config import RunConfig, Spread
from warmroute_simulator.simulation.fleet import WorkerPlan
from warmroute_simulator.simulation.records import Outcome, Records
from warmroute_simulator.simulation.run import Simulation, simulate
from warmroute_simulator.simulation.scenario import parse_happening
from warmroute_simulator.traces.prompts import ROOT, PromptTree
from warmroute_simulator.traces.trace import Trace

PRESET = "llama-3.1-8b-h100"
PAGE = 16


def fleet(workers: int, kv_tokens: int = 100_000, **changes: float) -> tuple[WorkerPlan, ...]:
    engine = EngineConfig(kv_tokens=kv_tokens, **changes)  # type: ignore[arg-type]
    return tuple(WorkerPlan(f"w{number}", engine, PRESET) for number in range(workers))


def config(
    workers: int = 4, policy: str = "cache_aware", happenings: tuple[str, ...] = (), **changes: object
) -> RunConfig:
    scenario = tuple(found for text in happenings for found in parse_happening(text, workers))
    return dataclasses.replace(
        RunConfig(fleet(workers), PolicySpec(policy), scenario=scenario),
        **changes,  # type: ignore[arg-type]
    )


def chats(seed: int, users: int, turns: int = 4, *, per_s: float = 2.0, closed: bool = False) -> Trace:
    """Conversations under two shared system prompts; every turn goes on from the answer before it."""
    chance = Random(seed)
    tree = PromptTree()
    systems = [tree.add(ROOT, 1500), tree.add(ROOT, 700)]
    trace = Trace("chats", tree, closed_loop=closed)
    at = 0.0
    rows = []
    for user in range(users):
        node, row, start = chance.choice(systems), -1, chance.uniform(0.0, users * turns / per_s)
        for turn in range(turns):
            prompt = tree.add(node, chance.randint(10, 800))
            output = chance.randint(1, 150)
            answer = tree.add(prompt, output)
            rows.append((prompt, output, answer, start + 20.0 * turn, user))
            if closed:
                row = trace.add(
                    prompt, output, answer=answer, session=user, after=row, think_s=chance.random() * 5
                )
            node = answer
    if not closed:
        for prompt, output, answer, at, user in sorted(rows, key=lambda row: row[3]):
            trace.add(prompt, output, answer=answer, session=user, arrival_s=at)
    return trace


def lone(prompt_tokens: int, output_tokens: int) -> Trace:
    tree = PromptTree()
    trace = Trace("lone", tree)
    trace.add(tree.add(ROOT, prompt_tokens), output_tokens)
    return trace


def columns(records: Records) -> dict[str, object]:
    """Everything but the trace, comparable although times may be nan."""
    return {
        field.name: repr(getattr(records, field.name))
        for field in dataclasses.fields(records)
        if field.name != "trace"
    }


def outcomes(records: Records) -> dict[str, int]:
    return {kind.name: list(records.outcome).count(kind) for kind in Outcome if kind in list(records.outcome)}


def test_a_lone_request_takes_its_prefill_and_a_decode_step_for_each_further_token() -> None:
    records, _ = simulate(lone(6000, 3), config(1))
    latency = PRESETS[PRESET]
    prefill_s = step_seconds(latency, [(0, 6000)], 0, 0)
    assert records.first_token_s[0] == pytest.approx(prefill_s)
    decode_s = step_seconds(latency, [], 1, 6001) + step_seconds(latency, [], 1, 6002)
    assert records.finished_s[0] == pytest.approx(prefill_s + decode_s)
    assert (records.hit_tokens[0], records.evicted_tokens[0], records.elsewhere_tokens[0]) == (0, 0, 0)


def test_the_network_is_passed_once_each_way() -> None:
    near, _ = simulate(lone(6000, 3), config(1))
    far, _ = simulate(lone(6000, 3), config(1, network_s=0.25))
    assert far.first_token_s[0] == pytest.approx(near.first_token_s[0] + 0.5)
    assert far.finished_s[0] == pytest.approx(near.finished_s[0] + 0.5)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("policy", ["random", "least_requests", "session_sticky", "cache_aware"])
def test_every_request_ends_and_every_book_is_closed(policy: str, closed: bool) -> None:
    trace = chats(1, 40, closed=closed)
    simulation = Simulation(trace, config(policy=policy), None, frozenset())
    records = simulation.run()
    assert outcomes(records) == {"OK": len(trace)}
    assert simulation.routers[0].balancer.in_flight() == 0
    assert simulation.arrivals.left == 0
    assert sorted(records.admitted) == list(range(len(trace)))
    assert sum(totals.requests for totals in records.totals) == len(trace)
    for row in range(len(trace)):
        prompt_tokens = trace.prompt_tokens(row)
        assert 0 <= records.hit_tokens[row] <= prompt_tokens - 1
        missed = prompt_tokens - records.hit_tokens[row]
        again = records.evicted_tokens[row] + records.elsewhere_tokens[row]
        assert 0 <= again + records.first_time_tokens[row] <= missed
        assert (
            records.arrived_s[row] < records.first_token_s[row] <= records.finished_s[row] <= records.ended_s
        )


@pytest.mark.parametrize("closed", [False, True])
def test_the_same_seed_gives_the_same_records_and_another_one_others(closed: bool) -> None:
    trace = chats(2, 30, closed=closed)
    trace.quantum_s = 3.0
    run, again, other = (
        columns(simulate(trace, config(policy="random", seed=seed))[0]) for seed in (7, 7, 8)
    )
    assert run == again
    assert run != other


def test_watching_a_run_does_not_change_it() -> None:
    trace = chats(3, 30)
    counted = [0]

    def progress(more: int) -> None:
        counted[0] += more

    plain, nothing = simulate(trace, config())
    watched, explained = simulate(trace, config(), progress=progress, explain=frozenset({5, 9}))
    assert columns(plain) == columns(watched)
    assert counted[0] == len(trace)
    assert not nothing
    assert sorted(explained) == [5, 9]
    for row, explanation in explained.items():
        assert explanation.worker == plain.workers[plain.worker[row]]
        cheapest = min(explanation.shares, key=lambda share: share.total_s)
        assert cheapest.worker == explanation.worker


def test_on_one_worker_that_forgets_nothing_the_router_predicts_what_the_engine_finds() -> None:
    """Within a router's block: it sees 128 tokens at a time, the engine 16. Turns come one by one."""
    trace = chats(4, 1, turns=12, closed=True)
    records, _ = simulate(trace, config(1))
    assert sum(records.hit_tokens) > 10_000
    for row in range(len(trace)):
        assert abs(records.predicted_tokens[row] - records.hit_tokens[row]) < 128 + PAGE


def test_a_cache_aware_router_finds_more_than_a_blind_one() -> None:
    trace = chats(5, 60)
    warm, blind = (
        sum(simulate(trace, config(policy=policy))[0].hit_tokens) for policy in ("cache_aware", "random")
    )
    assert warm > 1.2 * blind


def test_every_token_is_new_to_the_fleet_once() -> None:
    trace = chats(18, 40)
    records, _ = simulate(trace, config())
    reached = {node for prompt in (*trace.prompts, *trace.answers) for node in trace.tree.path(prompt)}
    answered = {
        answer for prompt, answer in zip(trace.prompts, trace.answers, strict=True) if answer != prompt
    }
    lengths = (trace.tree.ends[node] - trace.tree.start(node) for node in reached - answered)
    assert sum(records.first_time_tokens) == sum(lengths)


def test_what_another_worker_held_is_told() -> None:
    """Two workers in turn, one prompt twice: the second time its tokens are elsewhere."""
    tree = PromptTree()
    trace = Trace("twice", tree)
    prompt = tree.add(ROOT, 1000)
    for at in (0.0, 100.0):
        trace.add(prompt, 5, arrival_s=at)
    records, _ = simulate(trace, config(2, "round_robin"))
    assert list(records.hit_tokens) == [0, 0]
    assert list(records.elsewhere_tokens) == [0, 992]


def test_a_prompt_that_no_cache_can_hold_is_refused_and_the_others_go_on() -> None:
    trace = chats(6, 10)
    huge = trace.add(trace.tree.add(ROOT, 200_000), 5, arrival_s=1.0)
    records, _ = simulate(trace, config())
    assert outcomes(records) == {"OK": len(trace) - 1, "REFUSED": 1}
    assert records.outcome[huge] == Outcome.REFUSED


def test_a_prompt_that_only_the_chosen_worker_cannot_hold_is_refused_by_it() -> None:
    small, large = fleet(1, 2_000)[0], dataclasses.replace(fleet(1)[0], worker_id="large")
    simulation = Simulation(lone(6000, 5), config(1, "round_robin", fleet=(small, large)), None, frozenset())
    assert outcomes(simulation.run()) == {"REFUSED": 1}
    assert simulation.routers[0].balancer.in_flight() == 0


# --- the fleet changes ------------------------------------------------------------------------


def test_requests_of_a_worker_that_dies_go_to_others_unless_their_answer_had_begun() -> None:
    trace = chats(7, 120, per_s=300.0)
    plain, _ = simulate(trace, config())
    waited = [row for row in range(len(trace)) if plain.worker[row] == 1 and plain.arrived_s[row] > 20]
    slowest = max(waited, key=lambda row: plain.first_token_s[row] - plain.arrived_s[row])
    dies_at = (plain.arrived_s[slowest] + plain.first_token_s[slowest]) / 2
    simulation = Simulation(trace, config(happenings=(f"{dies_at}:die:1",)), None, frozenset())
    records = simulation.run()
    moved = failed = 0
    for row in range(len(trace)):
        if plain.worker[row] != 1 or not plain.arrived_s[row] < dies_at < plain.finished_s[row]:
            continue
        if plain.first_token_s[row] < dies_at:
            failed += 1
            assert records.outcome[row] == Outcome.FAILED
            assert isnan(records.finished_s[row])
        else:
            moved += 1
            assert records.outcome[row] == Outcome.OK
            assert records.attempts[row] == 2
            assert records.worker[row] != 1
    assert min(moved, failed) > 0
    assert outcomes(records) == {"OK": len(trace) - failed, "FAILED": failed}
    assert simulation.routers[0].balancer.in_flight() == 0
    assert all(records.worker[row] != 1 for row in range(len(trace)) if records.arrived_s[row] > dies_at)


def test_a_worker_that_comes_back_is_empty_and_gets_work_again() -> None:
    trace = chats(8, 80, turns=6)
    span = max(trace.arrivals_s)
    records, _ = simulate(trace, config(policy="least_requests", happenings=("30%:die:1", "40%:start:1")))
    back = 0.4 * span
    later = [row for row in range(len(trace)) if records.arrived_s[row] > back and records.worker[row] == 1]
    assert records.hit_tokens[later[0]] == 0
    assert set(outcomes(records)) <= {"OK", "FAILED"}


def test_a_worker_whose_first_happening_is_a_start_is_absent_until_then() -> None:
    trace = chats(9, 300, per_s=40.0)
    records, _ = simulate(trace, config(happenings=("50%:start:-1",)))
    half = 0.5 * max(trace.arrivals_s)
    took = [records.arrived_s[row] for row in range(len(trace)) if records.worker[row] == 3]
    assert took
    assert min(took) >= half
    assert outcomes(records) == {"OK": len(trace)}


def test_when_every_worker_is_dead_requests_fail_and_none_is_lost() -> None:
    trace = chats(10, 40)
    simulation = Simulation(trace, config(2, happenings=("0:die:*",)), None, frozenset())
    assert outcomes(simulation.run()) == {"FAILED": len(trace)}
    assert simulation.routers[0].balancer.in_flight() == 0


def test_a_flushed_cache_is_computed_again_and_told_so() -> None:
    trace = chats(11, 1, turns=10, closed=True)
    plain, _ = simulate(trace, config(1))
    flushed, _ = simulate(trace, config(1, happenings=("25:flush:0",)))
    assert sum(plain.evicted_tokens) == 0
    assert sum(flushed.evicted_tokens) > 1000
    assert sum(flushed.hit_tokens) < sum(plain.hit_tokens)


def test_a_slow_worker_takes_as_many_times_as_long_as_it_is_slow() -> None:
    plain, _ = simulate(lone(6000, 50), config(1))
    slow, _ = simulate(lone(6000, 50), config(1, happenings=("0:slow:0:3",)))
    assert slow.finished_s[0] == pytest.approx(3 * plain.finished_s[0])


def test_a_pace_that_changes_in_the_middle_of_a_decode_counts_from_then_on() -> None:
    """To the step: the one that runs keeps its length."""
    plain, _ = simulate(lone(1000, 1000), config(1))
    middle = plain.finished_s[0] / 2
    slow, _ = simulate(lone(1000, 1000), config(1, happenings=(f"{middle}:slow:0:3",)))
    assert slow.finished_s[0] == pytest.approx(middle + 3 * middle, rel=0.02)


def test_a_drained_worker_gets_nothing_new() -> None:
    trace = chats(12, 60)
    records, _ = simulate(trace, config(happenings=("5:drain:0", "40%:undrain:0")))
    until = 0.4 * max(trace.arrivals_s)
    assert not [
        row for row in range(len(trace)) if records.worker[row] == 0 and 5 < records.arrived_s[row] < until
    ]
    assert [row for row in range(len(trace)) if records.worker[row] == 0 and records.arrived_s[row] >= until]


def test_a_request_is_given_to_two_further_workers_and_then_fails() -> None:
    """Three of four are dead, and the router finds out one by one."""
    tree = PromptTree()
    trace = Trace("one by one", tree)
    for number in range(40):
        trace.add(tree.add(ROOT, 100), 5, arrival_s=1.0 + number)
    dead = ("0:die:0", "0:die:1", "0:die:2")
    records, _ = simulate(trace, config(policy="round_robin", happenings=dead))
    assert records.outcome[0] == Outcome.FAILED
    assert records.attempts[0] == 3
    assert list(records.outcome[-20:]) == [Outcome.OK] * 20, "after five failures in a row it knows"
    assert max(records.attempts) == 3


def test_retries_are_a_share_of_the_traffic_so_a_death_under_load_is_not_made_good_whole() -> None:
    tree = PromptTree()
    trace = Trace("all at once", tree)
    for _ in range(400):
        trace.add(tree.add(ROOT, 8000), 5)
    budget = ResilienceConfig(retry_budget_ratio=0.1, retry_budget_min_per_s=1.0)
    simulation = Simulation(
        trace, config(2, "round_robin", ("1:die:0",), resilience=budget), None, frozenset()
    )
    records = simulation.run()
    retried = sum(attempts > 1 for attempts in records.attempts)
    assert 0 < retried <= 10 + 40
    assert outcomes(records)["FAILED"] > 100
    assert simulation.routers[0].balancer.in_flight() == 0


def test_what_waits_too_long_is_given_up_and_taken_out_of_the_engine() -> None:
    tree = PromptTree()
    trace = Trace("too much", tree)
    for _ in range(300):
        trace.add(tree.add(ROOT, 8000), 400)
    limits = ResilienceConfig(first_byte_timeout_s=5.0, total_timeout_s=8.0)
    simulation = Simulation(trace, config(1, resilience=limits), None, frozenset())
    records = simulation.run()
    found = outcomes(records)
    assert found.keys() == {"OK", "TIMED_OUT"}
    assert min(found.values()) > 10
    for row in range(len(trace)):
        if records.outcome[row] == Outcome.OK:
            assert records.first_token_s[row] <= 5.0 + 1.0, "looked at once a second"
            assert records.finished_s[row] <= 8.0 + 1.0
    assert records.ended_s < 10.0
    assert simulation.workers[0].cache.in_use == 0
    assert simulation.routers[0].balancer.in_flight() == 0


def test_a_worker_that_comes_back_is_found_by_a_request_that_probes() -> None:
    """Ejected at once by a hundred broken connections, asked again ten seconds later."""
    trace = chats(19, 120, turns=6, per_s=300.0)
    records, _ = simulate(trace, config(policy="least_requests", happenings=("20.2:die:1", "21:start:1")))
    again = [at for row, at in enumerate(records.arrived_s) if records.worker[row] == 1 and at > 21]
    assert again
    assert min(again) > 30.0


def test_what_happened_is_told_with_its_time_and_whether_it_was_too_late() -> None:
    records, _ = simulate(lone(100, 5), config(1, happenings=("0:slow:0:2", "500:flush:0")))
    assert records.happened == [
        (0.0, "slow w0 ×2"),
        (500.0, "flush w0, after the last request had ended"),
    ]


def test_a_run_leaves_nothing_to_the_garbage_collector() -> None:
    """Collections are rare while traces are played: what a study's runs left behind would add up."""
    trace = chats(19, 120, turns=6, per_s=300.0)
    gc.collect()
    gc.disable()
    try:
        simulate(trace, config(happenings=("0.5:die:1", "1:start:1", "2:flush:0")))
        assert gc.collect() == 0
    finally:
        gc.enable()


# --- several routers, late news ------------------------------------------------------------------


def test_a_router_knows_what_it_carried_itself_and_nothing_of_its_neighbours() -> None:
    simulation = Simulation(chats(13, 60), config(routers=3), None, frozenset())
    records = simulation.run()
    carried = [router.balancer.statistics().sessions for router in simulation.routers]
    assert all(carried)
    assert outcomes(records) == {"OK": len(records.trace)}
    assert all(router.balancer.in_flight() == 0 for router in simulation.routers)


def test_sessions_that_stay_with_one_router_find_more_than_those_that_are_scattered() -> None:
    trace = chats(14, 80, turns=6)
    scattered, kept = (
        sum(simulate(trace, config(routers=4, spread=spread))[0].hit_tokens)
        for spread in (Spread.RANDOM, Spread.SESSION)
    )
    assert kept > 1.1 * scattered


def test_late_news_reach_the_books_and_close_them() -> None:
    simulation = Simulation(chats(15, 60), config(feedback_s=3.0), None, frozenset())
    assert outcomes(simulation.run()) == {"OK": 240}
    assert simulation.routers[0].balancer.in_flight() == 0


def test_samples_are_bounded_and_cover_the_run() -> None:
    trace = chats(16, 30)
    trace.arrivals_s[len(trace) - 1] = 4000.0
    records, _ = simulate(trace, config())
    assert 200 < len(records.samples) <= 481
    assert records.samples[-1].at_s > 3900
    assert all(len(sample.waiting) == 4 for sample in records.samples)


def test_lanes_of_a_closed_loop_are_played_by_the_plan() -> None:
    trace = chats(17, 30, closed=True)
    one, _ = simulate(trace, config(arrivals=ArrivalPlan(lanes=1)))
    many, _ = simulate(trace, config(arrivals=ArrivalPlan(lanes=30)))
    assert one.ended_s > 3 * many.ended_s


def test_routers_believe_prices_of_the_truth_times_the_error_and_workers_keep_their_speed() -> None:
    wrong = config(2, price_error=3.0, balancer=BalancerConfig(learn_prices=False))
    simulation = Simulation(lone(3000, 5), wrong, None, frozenset())
    records = simulation.run()
    beliefs = simulation.routers[0].balancer.fleet
    true = PRESETS[PRESET].price
    assert beliefs.linear_s == pytest.approx([3 * true.linear_s] * 2)
    assert beliefs.quadratic_s == pytest.approx([3 * true.quadratic_s] * 2)
    assert columns(records) == columns(simulate(lone(3000, 5), config(2))[0])


def test_workers_declare_their_capacity_times_the_error_and_keep_their_room() -> None:
    simulation = Simulation(lone(3000, 5), config(2, capacity_error=0.25), None, frozenset())
    simulation.run()
    assert simulation.routers[0].balancer.fleet.kv_capacity_tokens == [25_000.0] * 2
    assert [worker.capacity_tokens for worker in simulation.workers] == [100_000] * 2


@pytest.mark.parametrize("routers", [1, 4])
def test_each_of_several_routers_believes_in_its_share_of_caches_that_stay_whole(routers: int) -> None:
    simulation = Simulation(lone(3000, 5), config(2, routers=routers), None, frozenset())
    simulation.run()
    believed = [router.balancer.fleet.kv_capacity_tokens for router in simulation.routers]
    assert believed == [[100_000 / routers] * 2] * routers
    assert [worker.capacity_tokens for worker in simulation.workers] == [100_000] * 2


@pytest.mark.parametrize(("name", "error"), [("price_error", 0.0), ("capacity_error", -1.0)])
def test_errors_that_are_no_factors_are_refused(name: str, error: float) -> None:
    with pytest.raises(ValueError, match="factors above 0"):
        dataclasses.replace(config(2), **{name: error})  # type: ignore[arg-type]
