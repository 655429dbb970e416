"""A policy takes over while requests are in flight: books, index and sessions stay, it knows what it must."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic import Traffic
from warmroute_policies.algorithms.least_requests import LeastRequests
from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import PromptBlocks, salt_of
from warmroute_policies.errors import NoWorkers
from warmroute_policies.events import PolicySpec
from warmroute_policies.journal import RecordedBalancer
from warmroute_policies.peers.active_blocks import ActiveBlocks
from warmroute_policies.peers.books import Books
from warmroute_policies.policy import (
    Completed,
    Dispatched,
    FirstToken,
    FleetChanged,
    PolicyEvent,
)
from warmroute_policies.registry import available, make_policy
from warmroute_policies.replay import replay
from warmroute_policies.types import Outcome, RoutingRequest, WorkerSpec

SPECS = [
    *(PolicySpec(name) for name in available()),
    *(PolicySpec("session_sticky", {"inner": name}) for name in available() if name != "session_sticky"),
    PolicySpec("sglang_cache_aware", {"rule": "smg-1.13"}),
    PolicySpec("dynamo_kv", {"ttl_s": 5.0}),
]
FORGETFUL = [name for name in available() if getattr(make_policy(name), "learns", True) is False]
"""Rules that remember nothing: whatever came before they took over, they decide alike."""


class Listens(LeastRequests):
    """Checks that what it is told is a story without gaps. State: what it knows."""

    learns = True

    def __init__(self) -> None:
        super().__init__()
        self.now = -inf
        self.fleet: dict[int, str] = {}
        self.flights: dict[int, int] = {}
        self.showed: set[int] = set()

    def observe(self, event: PolicyEvent, now: float) -> None:
        assert now >= self.now, "told of the past after what came later"
        self.now = now
        match event:
            case FleetChanged():
                if event.present:
                    self.fleet[event.slot] = event.worker
                else:
                    del self.fleet[event.slot]
            case Dispatched():
                assert event.slot in self.fleet
                self.flights[event.request.request_id] = event.slot
                self.showed.discard(event.request.request_id)
            case FirstToken():
                assert self.flights[event.request.request_id] == event.slot
                assert event.request.request_id not in self.showed, "told twice"
                assert event.ttft_s >= 0
                self.showed.add(event.request.request_id)
            case Completed():
                del self.flights[event.request.request_id]


class Refuses(LeastRequests):
    """Cannot take over."""

    def observe(self, event: PolicyEvent, now: float) -> None:
        raise RuntimeError("no")


def switch(traffic: Traffic, spec: PolicySpec) -> None:
    policy = make_policy(spec.name, spec.params, spec.seed)
    traffic.balancer.set_policy(policy, spec, traffic.now)


@pytest.mark.parametrize("seed", range(4))
def test_every_policy_takes_over_from_every_other_and_no_request_is_lost(seed: int) -> None:
    """Traffic checks each decision, and the books against a naive count at the end."""
    chance = Random(seed)
    traffic = Traffic(Balancer(make_policy("cache_aware")), seed)
    order = chance.sample(SPECS, len(SPECS)) + chance.sample(SPECS, len(SPECS))
    for spec in order:
        for _ in traffic.steps(25):
            pass
        before = traffic.balancer.statistics()
        switch(traffic, spec)
        assert traffic.balancer.statistics() == before, f"seed {seed}, {spec}: something was forgotten"
    for _ in traffic.steps(100):
        pass
    traffic.end()
    fleet = traffic.balancer.fleet
    assert traffic.balancer.in_flight() == 0
    assert all(fleet.inflight[slot] == fleet.queued_tokens[slot] == 0 for slot, _ in fleet.slots())


@given(seed=st.integers(0, 2**32 - 1), switches=st.lists(st.integers(0, 60), min_size=1, max_size=5))
@settings(max_examples=60)
def test_who_takes_over_is_told_a_story_without_gaps(seed: int, switches: list[int]) -> None:
    heir = Listens()
    traffic = Traffic(Balancer(heir), seed)
    for steps in switches:
        for _ in traffic.steps(steps):
            pass
        heir = Listens()
        traffic.balancer.set_policy(heir, PolicySpec("listens"), traffic.now)
        present = {slot: spec.worker_id for slot, spec in traffic.balancer.fleet.slots()}
        assert heir.fleet == present
        on_books = {number: flight for number, flight in traffic.flights.items() if flight.worker is not None}
        assert heir.flights.keys() == on_books.keys()
        seen = {number for number, flight in on_books.items() if not flight.prefilling}
        assert heir.showed == seen
    for _ in traffic.steps(80):
        pass
    traffic.end()
    assert not heir.flights


@given(
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(FORGETFUL),
    before=st.integers(0, 120),
)
@settings(max_examples=60)
def test_who_remembers_nothing_decides_after_a_switch_as_if_it_had_always_been_in_charge(
    seed: int, name: str, before: int
) -> None:
    always = Traffic(Balancer(make_policy(name)), seed)
    switched = Traffic(Balancer(make_policy(name)), seed)
    for number, _ in enumerate(zip(always.steps(before + 60), switched.steps(before + 60), strict=True)):
        assert switched.last == always.last, f"seed {seed}, step {number}"
        if number == before:
            for spec in (PolicySpec("round_robin"), PolicySpec(name)):
                switch(switched, spec)


@pytest.mark.parametrize("seed", range(6))
def test_a_journal_with_switches_replays_every_decision(seed: int) -> None:
    lines: list[bytes] = []
    chance = Random(seed)
    first = PolicySpec("cache_aware", {"miss_price": 1.5})
    made = make_policy(first.name, first.params)
    traffic = Traffic(RecordedBalancer(made, write=lines.append, made_by=first), seed)
    for spec in chance.sample(SPECS, 12):
        for _ in traffic.steps(40):
            pass
        switch(traffic, spec)
    for _ in traffic.steps(40):
        pass
    traffic.end()
    verdicts = list(replay(lines))
    assert len(verdicts) > 100
    for number, (then, now) in enumerate(verdicts):
        assert now == then, f"seed {seed}, verdict {number}"
    without = [line for line in lines if b'{"e":"policy"' not in line]
    assert len(without) == len(lines) - 12
    assert any(then != now for then, now in replay(without)), "the switches made no difference"


def test_a_policy_that_cannot_take_over_leaves_the_former_one_in_charge() -> None:
    balancer = Balancer(make_policy("round_robin"))
    balancer.add_worker(WorkerSpec("http://a:1"), 0.0)
    former = balancer.policy
    with pytest.raises(RuntimeError):
        balancer.set_policy(Refuses(), PolicySpec("refuses"), 1.0)
    assert balancer.policy is former
    assert balancer.route(_request(1), 1.0).reason == balancer.route(_request(2), 1.0).reason
    balancer.finish(1, Outcome.OK, None, 2.0)
    balancer.finish(2, Outcome.OK, None, 2.0)


def test_the_books_of_a_rule_that_keeps_its_own_are_empty_when_all_has_ended() -> None:
    """Requests came before it, during it, and lost their worker in between."""
    for name in ("dynamo_kv", "llmd_weighted", "llmd_sticky_until_saturated", "preble"):
        balancer = Balancer(make_policy("least_requests"))
        for worker in "abc":
            balancer.add_worker(WorkerSpec(f"http://{worker}:1"), 0.0)
        for number in range(1, 7):
            balancer.route(_request(number), float(number))
        balancer.first_token(1, 7.0)
        balancer.remove_worker("http://b:1", 8.0)
        heir = make_policy(name)
        balancer.set_policy(heir, PolicySpec(name), 9.0)
        balancer.route(_request(7), 10.0)
        for number in range(1, 8):
            balancer.finish(number, Outcome.OK, None, 11.0)
        parts = [getattr(heir, part, None) for part in dir(heir)]
        books = [part for part in parts if isinstance(part, Books | ActiveBlocks)]
        assert all(len(book) == 0 for book in books), name
        assert books or name == "preble", "the search finds what it should"


def test_a_request_that_lost_its_worker_before_the_switch_is_told_of_once_it_has_another() -> None:
    balancer = Balancer(make_policy("round_robin"))
    for worker in "ab":
        balancer.add_worker(WorkerSpec(f"http://{worker}:1"), 0.0)
    lost = balancer.route(_request(1), 1.0)
    left = balancer.route(_request(2), 1.0)
    balancer.remove_worker(lost.worker, 2.0)
    heir = Listens()
    balancer.set_policy(heir, PolicySpec("listens"), 3.0)
    assert heir.flights == {2: left.slot}
    assert balancer.reroute(1, 4.0).worker == left.worker
    assert heir.flights == {1: left.slot, 2: left.slot}
    with pytest.raises(NoWorkers):
        balancer.reroute(1, 5.0)
    balancer.finish(1, Outcome.WORKER_ERROR, None, 6.0)
    assert heir.flights == {2: left.slot}


def test_the_rows_for_people_are_the_new_rules_own() -> None:
    balancer = Balancer(make_policy("round_robin"))
    for worker in "ab":
        balancer.add_worker(WorkerSpec(f"http://{worker}:1"), 0.0)
    balancer.set_policy(make_policy("cache_aware"), PolicySpec("cache_aware"), 1.0)
    _, reason, rows = balancer.explain(_request(1), 2.0)
    assert reason == "cold"
    assert all("miss" in row.shares_s for row in rows)


def test_sessions_are_known_to_a_rule_that_was_not_there_when_they_began() -> None:
    balancer = Balancer(make_policy("round_robin"))
    for worker in "abc":
        balancer.add_worker(WorkerSpec(f"http://{worker}:1"), 0.0)
    before = [balancer.route(_request(n, f"s{n}"), 1.0).worker for n in range(1, 4)]
    assert all(one != two for one, two in pairwise(before))
    balancer.set_policy(make_policy("session_sticky"), PolicySpec("session_sticky"), 2.0)
    again = [balancer.route(_request(10 + n, f"s{n}"), 3.0) for n in range(1, 4)]
    assert [decision.worker for decision in again] == before
    assert {decision.reason for decision in again} == {"sticky"}


def _request(number: int, session: str | None = None) -> RoutingRequest:
    material = b"%d " % number * 2000
    return RoutingRequest(number, "m", PromptBlocks(material, salt_of("m")), session=session)
