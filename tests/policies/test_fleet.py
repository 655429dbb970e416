"""The fleet's columns: booked work comes off again, prices follow the spec, and queues drain with time."""

from __future__ import annotations

import random
from math import inf, nan

import pytest

from warmroute_policies.fleet import HEAD_DONE_CAP, Fleet
from warmroute_policies.latency import PrefillPrice
from warmroute_policies.types import WorkerSpec

FAST, SLOW = PrefillPrice(1e-5, 1e-10), PrefillPrice(4e-5, 4e-10)


def fleet_of(*specs: WorkerSpec) -> Fleet:
    fleet = Fleet({"slow": SLOW}, FAST)
    for spec in specs:
        fleet.add(spec, 0.0)
    return fleet


def test_slots_are_given_in_order_and_used_again() -> None:
    fleet = fleet_of(WorkerSpec("a"), WorkerSpec("b"), WorkerSpec("c"))
    assert fleet.slot_of == {"a": 0, "b": 1, "c": 2}
    fleet.remove("b")
    fleet.remove("a")
    assert [slot for slot, _ in fleet.slots()] == [2]
    assert fleet.add(WorkerSpec("d"), 1.0) == 0
    assert fleet.add(WorkerSpec("e"), 1.0) == 1
    assert fleet.add(WorkerSpec("f"), 1.0) == 3
    assert {len(column) for column in (fleet.inflight, fleet.weight, fleet.rtt_s, fleet.crowding)} == {4}


def test_prices_follow_class_and_weight() -> None:
    fleet = fleet_of(WorkerSpec("a"), WorkerSpec("b", worker_class="slow", weight=2.0, rtt_s=0.01))
    assert (fleet.linear_s, fleet.quadratic_s) == ([1e-5, 2e-5], [1e-10, 2e-10])
    assert (fleet.weight, fleet.rtt_s) == ([1.0, 2.0], [0.0, 0.01])
    fleet.replace(WorkerSpec("b", weight=4.0))
    assert (fleet.linear_s[1], fleet.weight[1], fleet.rtt_s[1]) == (2.5e-6, 4.0, 0.0)


def test_a_prefill_of_missing_tokens_costs_the_area_that_they_attend_to() -> None:
    fleet = fleet_of(WorkerSpec("a"))
    whole, head = fleet.prefill_seconds(0, 10_000, 10_000), fleet.prefill_seconds(0, 6_000, 6_000)
    assert fleet.prefill_seconds(0, 4_000, 10_000) == pytest.approx(whole - head)
    assert fleet.prefill_seconds(0, 0, 10_000) == 0.0


def test_the_queue_drains_with_the_head_and_never_below_its_cap() -> None:
    fleet = fleet_of(WorkerSpec("a"), WorkerSpec("b"))
    fleet.book(0, 1, 20_000, 20_000, 10.0)
    fleet.book(0, 2, 20_000, 20_000, 10.1)
    one = fleet.prefill_seconds(0, 20_000, 20_000)
    assert fleet.queue_s(10.0) == [pytest.approx(2 * one), 0.0]
    assert fleet.queue_s(10.1)[0] == pytest.approx(2 * one - 0.1)
    assert fleet.queue_s(99.0)[0] == pytest.approx(2 * one - HEAD_DONE_CAP * one)
    fleet.prefill_done(0, 1, 10.3)
    assert fleet.queue_s(10.3)[0] == pytest.approx(one), "the second one begins now"
    assert fleet.queue_s(10.4)[0] == pytest.approx(one - 0.1)
    fleet.prefill_done(0, 2, 10.6)
    assert fleet.queue_s(10.6) == [0.0, 0.0]
    assert fleet.inflight == [2, 0], "they still decode"


def test_a_request_that_leaves_from_behind_the_head_takes_nothing_of_its_progress() -> None:
    fleet = fleet_of(WorkerSpec("a"))
    for request_id in (1, 2, 3):
        fleet.book(0, request_id, 20_000, 20_000, 10.0)
    one = fleet.prefill_seconds(0, 20_000, 20_000)
    fleet.prefill_done(0, 2, 10.1)
    assert fleet.queue_s(10.1)[0] == pytest.approx(2 * one - 0.1)
    fleet.prefill_done(0, 1, 10.3)
    assert fleet.queue_s(10.3)[0] == pytest.approx(one)


def test_workers_of_one_kind_have_one_price_whatever_prices_become() -> None:
    fleet = fleet_of(
        WorkerSpec("a"), WorkerSpec("b", weight=0.5), WorkerSpec("c"), WorkerSpec("d", worker_class="l40s"),
        WorkerSpec("e", rtt_s=0.01), WorkerSpec("f", weight=0.5),
    )  # fmt: skip
    assert fleet.kinds(range(6)) == (0, 1, 3, 4)
    assert fleet.kinds((2, 5)) == (2, 5)
    assert fleet.kinds((5, 1)) == (5,)
    fleet.set_price("l40s", PrefillPrice(9e-4, 0.0))
    assert (
        fleet.linear_s[1] == fleet.linear_s[5] != fleet.linear_s[0] == fleet.linear_s[2] == fleet.linear_s[4]
    )
    assert fleet.linear_s[3] == 9e-4


def test_queue_seconds_are_the_callers_to_change() -> None:
    fleet = fleet_of(WorkerSpec("a"))
    fleet.queue_s(0.0)[0] = 99.0
    assert fleet.queue_s(0.0) == [0.0]


def test_the_capacity_that_a_spec_declares_is_the_first_belief() -> None:
    fleet = fleet_of(WorkerSpec("a", kv_capacity_tokens=10_000), WorkerSpec("b"))
    assert fleet.kv_capacity_tokens == [10_000.0, inf]


def test_what_requests_in_flight_hold_fills_the_cache_until_they_end() -> None:
    fleet = fleet_of(WorkerSpec("a", kv_capacity_tokens=10_000), WorkerSpec("b"))
    for request_id, slot, own_tokens in ((1, 0, 3_000), (2, 0, 1_000), (3, 1, 4_000)):
        fleet.book(slot, request_id, 5_000, 4_000, 0.0)
        fleet.hold(slot, request_id, own_tokens)
    assert (fleet.active_tokens, fleet.filled) == ([4_000, 4_000], [0.4, 0.0])
    fleet.prefill_done(0, 1, 1.0)
    assert fleet.filled[0] == 0.4, "decoding holds memory too"
    fleet.release(0, 1, 2.0)
    fleet.release(1, 3, 2.0)
    assert (fleet.active_tokens, fleet.filled) == ([1_000, 0], [0.1, 0.0])


def test_more_than_a_cache_holds_fills_it_once() -> None:
    fleet = fleet_of(WorkerSpec("a", kv_capacity_tokens=10_000))
    for request_id in (1, 2, 3):
        fleet.book(0, request_id, 6_000, 6_000, 0.0)
        fleet.hold(0, request_id, 6_000)
    assert (fleet.active_tokens, fleet.filled) == ([18_000], [1.0])
    fleet.release(0, 1, 1.0)
    assert fleet.filled == [1.0], "the other two are too much as well"
    fleet.release(0, 2, 1.0)
    assert fleet.filled == [0.6]


def test_workers_of_one_class_that_declare_the_same_are_priced_by_the_median_of_their_beliefs() -> None:
    alike = [WorkerSpec(name, kv_capacity_tokens=10_000) for name in "abc"]
    fleet = fleet_of(
        *alike,
        WorkerSpec("larger", kv_capacity_tokens=20_000),
        WorkerSpec("slow1", kv_capacity_tokens=10_000, worker_class="slow"),
        WorkerSpec("slow2", kv_capacity_tokens=10_000, worker_class="slow"),
    )
    assert fleet.alike_capacity_tokens == fleet.kv_capacity_tokens
    fleet.kv_capacity_tokens[:] = [4_000.0, 12_000.0, 9_000.0, 18_000.0, 5_000.0, 6_000.0]
    fleet.compare_capacities()
    assert fleet.alike_capacity_tokens == [9_000.0] * 3 + [18_000.0] + [6_000.0] * 2
    assert fleet.kv_capacity_tokens[:3] == [4_000.0, 12_000.0, 9_000.0], "what is believed of each stays"
    fleet.remove("b")
    fleet.compare_capacities()
    assert fleet.alike_capacity_tokens[0] == fleet.alike_capacity_tokens[2] == 9_000.0
    fleet.kv_capacity_tokens[2] = 3_000.0
    fleet.compare_capacities()
    assert fleet.alike_capacity_tokens[0] == 4_000.0, "of an even number the upper one"


def test_of_workers_that_declare_nothing_a_median_is_known_once_most_of_them_are() -> None:
    fleet = fleet_of(WorkerSpec("a"), WorkerSpec("b"), WorkerSpec("c"), WorkerSpec("d", kv_capacity_tokens=9))
    fleet.kv_capacity_tokens[0] = 30_000.0
    fleet.compare_capacities()
    assert fleet.alike_capacity_tokens == [inf, inf, inf, 9.0]
    fleet.hold(0, 1, 15_000)
    assert fleet.filled[0] == 0.0
    fleet.kv_capacity_tokens[1] = 20_000.0
    fleet.compare_capacities()
    assert fleet.alike_capacity_tokens == [30_000.0] * 3 + [9.0]
    fleet.hold(2, 2, 15_000)
    assert fleet.filled[2] == 0.5, "what is known of the others holds for the one that never told"


@pytest.mark.parametrize("seed", range(20))
def test_the_shortest_queue_is_the_least_of_the_queues_of_those_who_may_be_chosen(seed: int) -> None:
    chance, now = random.Random(seed), 0.0
    fleet = fleet_of(*(WorkerSpec(name, weight=chance.choice([0.5, 1.0, 2.0])) for name in "abcde"))
    booked: list[tuple[int, int]] = []
    lengths = set()
    for request_id in range(300):
        now += chance.expovariate(1.0)
        if booked and chance.random() < 0.45:
            fleet.release(*booked.pop(chance.randrange(len(booked))), now)
        else:
            slot, tokens = chance.randrange(5), chance.randint(1, 40_000)
            fleet.book(slot, request_id, tokens, tokens, now, seen=chance.random() < 0.7)
            booked.append((slot, request_id))
        if chance.random() < 0.2:
            fleet.tick(now)
        eligible = sorted(chance.sample(range(5), chance.randint(1, 5)))
        queues = fleet.queue_s(now)
        shortest = fleet.shortest_queue_s(eligible, now)
        assert shortest == pytest.approx(min(queues[slot] for slot in eligible), abs=1e-12)
        lengths.add(shortest > 0.0)
    assert lengths == {True, False}


@pytest.mark.parametrize(
    "spec",
    [
        WorkerSpec("b", weight=0.0),
        WorkerSpec("b", weight=-1.0),
        WorkerSpec("b", weight=nan),
        WorkerSpec("b", weight=inf),
        WorkerSpec("b", rtt_s=-0.1),
        WorkerSpec("b", rtt_s=nan),
        WorkerSpec("b", engine_block_tokens=0),
        WorkerSpec("b", kv_capacity_tokens=0),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused_and_nothing_is_written(spec: WorkerSpec) -> None:
    fleet = fleet_of(WorkerSpec("a"))
    with pytest.raises(ValueError, match=" of b must "):
        fleet.add(spec, 1.0)
    assert (fleet.slot_of, len(fleet.specs), len(fleet.inflight)) == ({"a": 0}, 1, 1)
    fleet.add(WorkerSpec("b", weight=3.0), 1.0)
    with pytest.raises(ValueError, match=" of b must "):
        fleet.replace(spec)
    assert fleet.spec(1).weight == 3.0


def test_a_worker_cannot_be_added_twice() -> None:
    fleet = fleet_of(WorkerSpec("a"))
    with pytest.raises(ValueError, match="worker a is already present"):
        fleet.add(WorkerSpec("a"), 1.0)


def test_a_prefill_that_nobody_sees_makes_way_when_its_time_is_over() -> None:
    fleet = fleet_of(WorkerSpec("http://a:1"))
    fleet.book(0, 1, 10_000, 10_000, 0.0, seen=False)
    first_s = fleet.queued_prefill_s[0]
    fleet.book(0, 2, 10_000, 10_000, 0.0, seen=True)
    assert fleet.queue_s(first_s * 1.5)[0] == pytest.approx(first_s / 2)
    fleet.tick(first_s * 1.5)
    assert fleet.queued_prefill_s[0] == pytest.approx(first_s)
    assert fleet.queue_s(first_s * 1.5)[0] == pytest.approx(first_s / 2)
    fleet.release(0, 1, first_s * 2)
    assert fleet.inflight[0] == 1
    assert fleet.queued_tokens[0] == 10_000
