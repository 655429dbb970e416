"""Workers that may have so many requests in flight: what the balancer does when some or all are full."""

from __future__ import annotations

import pytest

from traffic import MODELS, Traffic
from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import NO_BLOCKS
from warmroute_policies.errors import NoWorkers, Saturated, UnknownModel
from warmroute_policies.events import PolicySpec, Refusal
from warmroute_policies.journal import RecordedBalancer
from warmroute_policies.registry import available, make_policy
from warmroute_policies.replay import replay
from warmroute_policies.types import Outcome, RoutingRequest, WorkerSpec

LIMITS = (1, 2, 3, None)


def balancer_of(**limits: int | None) -> Balancer:
    balancer = Balancer(make_policy("cache_aware", {}, 1))
    for name, limit in limits.items():
        balancer.add_worker(WorkerSpec(name, models=("m",), max_inflight=limit), 0.0)
    return balancer


def request(number: int, model: str = "m") -> RoutingRequest:
    return RoutingRequest(number, model, NO_BLOCKS)


@pytest.mark.parametrize("policy", available())
def test_whatever_happens_no_worker_gets_more_than_it_may_have(policy: str) -> None:
    saturated = 0
    for seed in range(4):
        traffic = Traffic(Balancer(make_policy(policy, {}, seed)), seed, limits=LIMITS)
        for _ in traffic.steps(600):
            fleet = traffic.balancer.fleet
            full = {worker for worker in traffic.workers if not traffic.has_room(worker)}
            assert {fleet.ids[slot] for slot in fleet.full} == full, f"seed {seed}"
            for model in MODELS:
                able = traffic.eligible(model, set())
                try:
                    room = traffic.balancer.has_room(model)
                except (NoWorkers, UnknownModel):
                    assert not able
                else:
                    assert room == any(traffic.has_room(worker) for worker in able)
        saturated += traffic.saturated
        traffic.end()
        assert not traffic.balancer.fleet.full
    assert saturated > 20


@pytest.mark.parametrize("seed", range(5))
def test_a_replay_with_limits_decides_what_was_decided_live(seed: int) -> None:
    lines: list[bytes] = []
    spec = PolicySpec("cache_aware", {}, seed)
    balancer = RecordedBalancer(make_policy("cache_aware", {}, seed), write=lines.append, made_by=spec)
    traffic = Traffic(balancer, seed, limits=LIMITS)
    for _ in traffic.steps(800):
        pass
    verdicts = list(replay(lines))
    assert [now for _, now in verdicts] == [then for then, _ in verdicts], f"seed {seed}"
    assert Refusal("Saturated") in [then for then, _ in verdicts]


def test_a_full_worker_is_passed_by_and_has_room_when_a_request_ends() -> None:
    balancer = balancer_of(a=1, b=2)
    workers = [balancer.route(request(number), 0.0).worker for number in (1, 2, 3)]
    assert sorted(workers) == ["a", "b", "b"]
    assert not balancer.has_room("m")
    with pytest.raises(Saturated, match="all 2 workers that can serve `m`"):
        balancer.route(request(4), 0.0)
    assert balancer.in_flight() == 3, "nothing was booked"
    balancer.finish(workers.index("a") + 1, Outcome.OK, None, 1.0)
    assert balancer.has_room("m")
    assert balancer.route(request(5), 1.0).worker == "a"


def test_a_retry_that_finds_the_others_full_may_ask_again_when_there_is_room() -> None:
    balancer = balancer_of(a=1, b=1)
    first, second = (balancer.route(request(number), 0.0).worker for number in (1, 2))
    with pytest.raises(Saturated):
        balancer.reroute(1, 1.0)
    assert not balancer.has_room("m", 1), "the worker that failed has room, and must not be asked again"
    assert balancer.has_room("m")
    balancer.finish(2, Outcome.OK, None, 2.0)
    assert balancer.has_room("m", 1)
    assert balancer.reroute(1, 2.0).worker == second != first
    balancer.finish(1, Outcome.OK, None, 3.0)
    assert not balancer.fleet.full


def test_a_retry_that_waits_may_be_given_up() -> None:
    balancer = balancer_of(a=1, b=1)
    for number in (1, 2):
        balancer.route(request(number), 0.0)
    with pytest.raises(Saturated):
        balancer.reroute(1, 1.0)
    balancer.finish(1, Outcome.CLIENT_GONE, None, 1.0)
    balancer.finish(2, Outcome.OK, None, 1.0)
    assert balancer.in_flight() == 0


def test_sick_workers_are_no_full_ones() -> None:
    balancer = balancer_of(a=1, b=1)
    balancer.route(request(1), 0.0)
    balancer.set_health("a", False, 0.0)
    balancer.set_health("b", False, 0.0)
    with pytest.raises(NoWorkers):
        balancer.route(request(2), 0.0)
    with pytest.raises(NoWorkers):
        balancer.has_room("m")
    with pytest.raises(UnknownModel):
        balancer.has_room("another")


def test_a_limit_may_change_while_requests_are_in_flight() -> None:
    balancer = balancer_of(a=None)
    for number in range(3):
        balancer.route(request(number), 0.0)
    balancer.update_worker(WorkerSpec("a", models=("m",), max_inflight=2), 0.0)
    assert not balancer.has_room("m")
    balancer.finish(0, Outcome.OK, None, 0.0)
    assert not balancer.has_room("m")
    balancer.update_worker(WorkerSpec("a", models=("m",), max_inflight=3), 0.0)
    assert balancer.has_room("m")


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_inflight of a must be at least 1"):
        balancer_of(a=0)


def test_models_that_nobody_declares_stand_in_one_line() -> None:
    balancer = balancer_of(a=1)
    balancer.add_worker(WorkerSpec("any"), 0.0)
    assert balancer.line("m") == "m"
    assert balancer.line("made up") == balancer.line("made up too") != "m"
