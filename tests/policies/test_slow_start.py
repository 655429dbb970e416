"""A worker that is new or back gets its part of the load little by little."""

from __future__ import annotations

from random import Random

import pytest

from traffic import Traffic
from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import PromptBlocks, salt_of
from warmroute_policies.config import BalancerConfig
from warmroute_policies.events import PolicySpec
from warmroute_policies.journal import RecordedBalancer
from warmroute_policies.registry import available, make_policy
from warmroute_policies.replay import replay
from warmroute_policies.slow_start import SlowStart
from warmroute_policies.types import RoutingRequest, WorkerSpec

START_S = 10.0


def request(number: int) -> RoutingRequest:
    return RoutingRequest(number, "m", PromptBlocks(f"{number} ".encode() * 2000, salt_of("m")))


def fleet(policy: str, slow_start_s: float, established: int = 4) -> Balancer:
    balancer = Balancer(make_policy(policy, {}, 1), BalancerConfig(slow_start_s=slow_start_s))
    for number in range(established):
        balancer.add_worker(WorkerSpec(f"w{number}"), 0.0)
    for second in range(1, 31):
        balancer.tick(float(second))
    return balancer


def burst(balancer: Balancer, now: float, count: int, first: int = 1) -> list[str]:
    return [balancer.route(request(first + number), now).worker for number in range(count)]


@pytest.mark.parametrize("seed", range(50))
def test_who_is_held_back_is_who_has_more_than_a_share_of_the_others(seed: int) -> None:
    chance, slow = Random(seed), SlowStart(START_S)
    begun: dict[int, float] = {}
    now = 0.0
    for _ in range(200):
        now += chance.uniform(0.0, 1.0)
        slot = chance.randrange(6)
        match chance.randrange(3):
            case 0:
                slow.begin(slot, now)
                begun[slot] = now
            case 1:
                slow.end(slot)
                begun.pop(slot, None)
        slow.tick(now)
        begun = {slot: since for slot, since in begun.items() if now - since < START_S}
        inflight = [chance.randrange(12) for _ in range(6)]
        eligible = sorted(chance.sample(range(6), chance.randrange(1, 7)))
        others = [slot for slot in eligible if slot not in begun]
        load = sum(inflight[slot] for slot in others) / len(others) if others else 0.0
        expected = [
            slot
            for slot in eligible
            if others and slot in begun and inflight[slot] >= 1 + (now - begun[slot]) / START_S * load
        ]
        assert slow.held_back(eligible, inflight) == expected, f"seed {seed}"


@pytest.mark.parametrize("policy", ["cache_aware", "least_requests", "power_of_two", "round_robin"])
def test_a_new_worker_gets_one_request_of_a_burst_and_later_its_share(policy: str) -> None:
    balancer = fleet(policy, START_S)
    busy = burst(balancer, 30.0, 40)
    assert set(busy) == {"w0", "w1", "w2", "w3"}
    balancer.add_worker(WorkerSpec("new"), 30.0)
    assert burst(balancer, 30.0, 16, 100).count("new") <= 1
    balancer.tick(35.0)
    half = burst(balancer, 35.0, 40, 200).count("new")
    mean = sum(balancer.fleet.inflight[:4]) / 4
    assert half <= 1 + mean / 2
    balancer.tick(40.0)
    assert balancer.slow_start.shares == {}
    assert "new" in burst(balancer, 40.0, 20, 300)


def test_without_it_the_books_keep_a_new_worker_of_cache_aware_from_being_flooded() -> None:
    balancer = fleet("cache_aware", 0.0)
    balancer.add_worker(WorkerSpec("new"), 30.0)
    taken = burst(balancer, 30.0, 100)
    assert taken.count("new") <= 25, "a fifth would be its share of 100 cold prompts on five idle workers"


def test_all_new_workers_together_are_not_held_back_nor_is_a_new_one_alone() -> None:
    balancer = Balancer(make_policy("round_robin"), BalancerConfig(slow_start_s=START_S))
    for name in ("a", "b"):
        balancer.add_worker(WorkerSpec(name), 0.0)
    assert sorted(burst(balancer, 0.0, 10)) == ["a"] * 5 + ["b"] * 5
    established = fleet("round_robin", START_S, established=1)
    established.add_worker(WorkerSpec("new"), 30.0)
    established.set_health("w0", False, 30.0)
    assert burst(established, 30.0, 5) == ["new"] * 5


@pytest.mark.parametrize("how", ["health", "drain", "restart"])
def test_a_worker_that_comes_back_begins_anew(how: str) -> None:
    balancer = fleet("least_requests", START_S)
    if how == "health":
        balancer.set_health("w0", False, 30.0)
        balancer.set_health("w0", True, 31.0)
    elif how == "drain":
        balancer.drain_worker("w0", True, 30.0)
        balancer.drain_worker("w0", False, 31.0)
    else:
        balancer.forget_cache("w0", 31.0)
    assert burst(balancer, 31.0, 40).count("w0") == 1


@pytest.mark.parametrize("policy", available())
def test_every_policy_picks_among_those_that_are_not_held_back_and_a_journal_replays(policy: str) -> None:
    lines: list[bytes] = []
    spec = PolicySpec(policy, {}, 3)
    config = BalancerConfig(slow_start_s=5.0)
    balancer = RecordedBalancer(make_policy(policy, {}, 3), config, write=lines.append, made_by=spec)
    traffic, warming = Traffic(balancer, 3), 0
    for _ in traffic.steps(600):
        warming += bool(balancer.slow_start.shares)
    traffic.end()
    assert warming
    assert all(then == now for then, now in replay(lines))
