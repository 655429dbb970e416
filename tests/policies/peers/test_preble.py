"""Preble's E2 on examples worked by hand: a token takes 1 ms, a block of 128 tokens 0.128 s."""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose
from random import Random

import pytest

from warmroute_policies.blocks import PromptBlocks
from warmroute_policies.errors import ConfigError
from warmroute_policies.parameters import Value
from warmroute_policies.peers.preble import Preble, PrebleConfig
from warmroute_policies.peers.preble_tree import PrebleNode
from warmroute_policies.policy import Choice, Completed, Dispatched
from warmroute_policies.registry import make_policy
from warmroute_policies.rehearsal import World
from warmroute_policies.types import RoutingRequest, Usage

# An answer before one was seen: 45 tokens of 0.15 s.
DECODE_S = 6.75


def world_of(*names: str, **params: Value) -> World:
    world = World(make_policy("preble", params))
    for name in names:
        join(world, name)
    return world


def join(world: World, name: str) -> None:
    world.add(name)
    world.fleet.linear_s[:] = [0.001] * len(world.fleet.specs)
    world.fleet.quadratic_s[:] = [0.0] * len(world.fleet.specs)


def asks(world: World, *ids: int) -> RoutingRequest:
    """A request of these blocks."""
    return RoutingRequest(world.request(None).request_id, "model", PromptBlocks.from_ids(ids))


def sent(world: World, slot: int, *ids: int, ttft_s: float = 0.2) -> None:
    """A prompt of these blocks went to the slot, and is over."""
    request = asks(world, *ids)
    world.policy.observe(Dispatched(request, slot, 0), world.now)
    world.policy.observe(Completed(request, slot, True, ttft_s, 0, None), world.now)


def shares(world: World, *ids: int) -> list[tuple[float, float]]:
    """L and M of every worker, for a prompt of these blocks."""
    request = asks(world, *ids)
    rows = world.policy.explain(request, world.view(request), world.now)
    return [(row.shares_s["load"], row.shares_s["eviction"]) for row in rows]


def loads(world: World) -> list[float]:
    return [load for load, _ in shares(world, 99)]


TEN = tuple(range(1, 11))


def test_the_holder_is_exploited_when_more_than_half_of_the_prompt_is_known() -> None:
    world = world_of("a", "b")
    assert world.decide(asks(world, *TEN)) == Choice(0, "explore"), "a tie goes to the lowest index"
    world.dispatch(asks(world, *TEN))
    assert loads(world) == pytest.approx([1.28 + DECODE_S, 0.0])  # all ten blocks missed, one request
    assert world.decide(asks(world, *range(1, 6), *range(50, 55))) == Choice(1, "explore")  # 5 known, 5 new
    assert world.decide(asks(world, *range(1, 7), *range(50, 54))) == Choice(0, "exploit")  # 6 known, 4 new
    assert world.decide(asks(world, *TEN)) == Choice(0, "exploit")
    assert world.decide(world.request(None)) == Choice(1, "explore")


def test_among_several_holders_the_least_loaded_is_taken() -> None:
    world = world_of("a", "b", "c")
    sent(world, 0, *TEN)
    sent(world, 1, *TEN)
    sent(world, 1, *range(31, 33))
    # The ten blocks: two requests, 10 of 20 blocks hit, one prefill of 1.28 s, half of it each; b's other two
    # blocks 0.256 s.
    assert loads(world) == pytest.approx([0.64, 0.896, 0.0])
    assert world.decide(asks(world, *TEN, 11)) == Choice(0, "exploit"), "c is idle, but holds nothing"
    sent(world, 0, *range(41, 44))  # 0.384 s more
    assert world.decide(asks(world, *TEN, 11)) == Choice(1, "exploit")
    world.mark("b", healthy=False)
    assert world.decide(asks(world, *TEN, 11)) == Choice(0, "exploit")
    world.mark("a", healthy=False)
    assert world.decide(asks(world, *TEN, 11)) == Choice(2, "explore")


def test_requests_are_counted_at_the_nearest_heavy_node_and_priced_by_its_misses() -> None:
    world = world_of("a")
    sent(world, 0, *TEN)
    sent(world, 0, *TEN, 11, 12)  # its end is light: 2 blocks after 10
    # Two requests at the ten blocks, 10 of 22 blocks hit: 2 · 12/22 prefills of 1.28 s.
    assert loads(world) == pytest.approx([2 * 12 / 22 * 1.28])
    sent(world, 0, *TEN, *range(21, 32))  # its end is heavy: 11 after 10
    # One request at the eleven blocks, 10 of 21 hit: 11/21 prefills of 1.408 s.
    assert loads(world) == pytest.approx([2 * 12 / 22 * 1.28 + 11 / 21 * 1.408])


def test_a_split_leaves_the_counts_with_the_part_that_is_heavy() -> None:
    world = world_of("a")
    sent(world, 0, *TEN)
    sent(world, 0, *TEN)
    assert loads(world) == pytest.approx([1.28])  # 10 of 20 blocks hit
    sent(world, 0, *range(1, 7), *range(50, 60))
    # Split after 6: the lower 4 blocks are light, so the two requests are counted at the upper 6. The new
    # end of 10 blocks is heavy; 6 of its prompt's 16 blocks were hit.
    assert loads(world) == pytest.approx([2 * 0.5 * 0.768 + 10 / 16 * 1.28])
    world = world_of("a")
    sent(world, 0, *TEN)
    sent(world, 0, *TEN)
    sent(world, 0, 1, 2, *range(50, 60))
    # Split after 2: the lower 8 blocks are still heavy and keep the counts. The first 2 have none.
    assert loads(world) == pytest.approx([2 * 0.5 * 1.024 + 10 / 12 * 1.28])


def test_the_decode_part_of_the_load_is_requests_in_flight_times_what_answers_take() -> None:
    world = world_of("a", "b")
    first = asks(world, *TEN)
    world.dispatch(first)
    assert loads(world)[0] == pytest.approx(1.28 + DECODE_S)
    world.now += 1.2
    world.finish(first.request_id, ok=True, usage=Usage(1280, 11, 0))  # 0.2 s to the first token
    assert loads(world)[0] == pytest.approx(1.28)
    world.fleet.inflight[:] = [0, 0]
    again = asks(world, *TEN)
    world.dispatch(again)
    # 11 tokens; the median of 0.15 s and (1.2 − 0.2) / 10 = 0.1 s on a; half the blocks hit.
    assert loads(world)[0] == pytest.approx(1.28 + 11 * 0.125)
    world.policy.observe(Dispatched(again, 1, 0), world.now)  # it failed, and was sent again
    # Three requests, 20 of 30 blocks hit, two holders; b goes by a pace of its own.
    assert loads(world) == pytest.approx([0.64, 0.64 + 11 * 0.15])
    third = asks(world, *TEN)
    world.policy.observe(Dispatched(third, 0, 0), world.now)
    world.now += 8.2
    world.policy.observe(Completed(third, 0, True, 0.2, 0, Usage(1280, 21, 0)), world.now)  # 0.4 s per token
    world.policy.observe(Dispatched(third, 0, 0), world.now)
    # Answers of 11 and 21 tokens; on a the median of 0.15, 0.1 and 0.4 s. Five requests, 40 of 50 blocks hit.
    assert loads(world) == pytest.approx([0.64 + 16 * 0.15, 0.64 + 16 * 0.15])


def test_new_blocks_are_priced_by_what_their_eviction_makes_others_miss() -> None:
    world = world_of("a", "b")
    sent(world, 0, *TEN)
    sent(world, 0, *range(21, 23))
    sent(world, 1, *range(31, 43))
    # Four new blocks evict the ten that a used longest ago, 1.28 s, and b's twelve, 1.536 s.
    assert shares(world, 51, 52, 53, 54) == [
        pytest.approx((1.28 + 0.256, 1.28)),
        pytest.approx((1.536, 1.536)),
    ]
    assert world.decide(asks(world, 51, 52, 53, 54)) == Choice(0, "explore")  # 2.816 s against 3.072 s
    # Eleven evict the next two as well, and loads are equal: 3.072 s each.
    assert shares(world, *range(51, 62))[0] == pytest.approx((1.536, 1.536))
    sent(world, 0, *TEN)  # used now: the two blocks are the oldest; 10 of 20 hit, so its load is the same
    assert shares(world, 51, 52)[0] == pytest.approx((1.536, 0.256))
    in_use = asks(world, *range(21, 23))
    world.policy.observe(Dispatched(in_use, 0, 0), world.now)
    sent(world, 0, *TEN)
    assert shares(world, 51, 52)[0][1] == pytest.approx(1.28), "the older two blocks are in use"


def test_a_tie_of_load_and_evictions_goes_to_the_lowest_index() -> None:
    world = world_of("a", "b")
    world.fleet.linear_s[:] = [2**-10] * 2  # a block in 0.125 s: no rounding
    sent(world, 0, *range(1, 9))
    sent(world, 0, *range(11, 19))
    sent(world, 1, *range(21, 33))
    assert shares(world, 51) == [(2.0, 1.0), (1.5, 1.5)]
    assert world.decide(asks(world, 51)) == Choice(0, "explore")


def test_what_nobody_asked_for_within_three_minutes_costs_nothing_and_has_no_holder() -> None:
    world = world_of("a", "b")
    sent(world, 0, *TEN)
    sent(world, 0, *TEN, 11)  # a light end
    world.now += 180.0
    sent(world, 1, 70)
    assert world.decide(asks(world, *TEN)) == Choice(0, "exploit")
    assert shares(world, 51, 52)[0][1] == pytest.approx(2 * 11 / 21 * 1.28)
    world.now += 0.1
    sent(world, 1, 80)
    assert shares(world, *range(51, 61))[0] == (0.0, 0.0)
    sent(world, 0, *range(91, 95))
    # The eleven idle blocks go first, and for nothing; then the four that are wanted.
    assert shares(world, *range(51, 62))[0] == pytest.approx((0.512, 0.0))
    assert shares(world, *range(51, 63))[0] == pytest.approx((0.512, 0.512))
    sent(world, 1, *range(81, 90))
    assert world.decide(asks(world, *TEN)) == Choice(0, "explore"), "the worker with less load"
    assert world.decide(asks(world, *TEN, 11, 12)) == Choice(0, "exploit"), "a light node keeps its holders"
    sent(world, 0, *range(100, 140))
    assert world.decide(asks(world, *TEN)) == Choice(1, "explore")
    assert world.decide(asks(world, *TEN, 11, 12)) == Choice(0, "exploit")


def test_what_a_full_virtual_cache_evicted_is_held_no_longer() -> None:
    world = world_of("a")
    world.fleet.kv_capacity_tokens[0] = 20 * 128
    world.decide(asks(world, 1))
    sent(world, 0, *TEN)
    sent(world, 0, *range(21, 31))  # twenty blocks: full
    join(world, "b")
    sent(world, 1, *range(61, 91))
    assert world.decide(asks(world, *TEN)) == Choice(0, "exploit")
    sent(world, 0, 41)
    assert world.decide(asks(world, *TEN)).reason == "explore"
    assert world.decide(asks(world, *range(21, 31))) == Choice(0, "exploit")


def test_cheap_prefixes_move_off_a_worker_that_has_half_as_much_again_as_another() -> None:
    world = world_of("a", "b", rebalance_after=3, rebalance_interval_s=0)
    world.decide(asks(world, 1))
    small, middle, large = range(1, 5), range(11, 17), range(21, 41)
    for prompt in (small, small, middle, middle, large):
        sent(world, 0, *prompt)
    assert world.decide(asks(world, *small)) == Choice(0, "exploit"), "not before 3 requests for each worker"
    sent(world, 0, *large)
    # Each was asked for twice, half of its blocks were hit: 0.512 s, 0.768 s, 2.56 s, and the request in
    # flight. The first two move; with the third b would be the busier one.
    for prompt, slot in ((small, 1), (middle, 1), (large, 0)):
        assert world.decide(asks(world, *prompt)) == Choice(slot, "exploit")
    assert loads(world) == pytest.approx([2.56, 1.28])


def test_a_worker_gives_no_more_than_leaves_it_the_busier_one() -> None:
    world = world_of("a", "b", rebalance_after=3, rebalance_interval_s=0, tpot_s=1e-9)
    world.decide(asks(world, 1))
    prompts = [range(1, 11), range(21, 31), range(41, 52)]
    for prompt in prompts:
        sent(world, 0, *prompt)
        sent(world, 0, *prompt)
    # 1.28 s, 1.28 s and 1.408 s. With one gone it is 2.688 s against 1.28 s; with two 1.408 s against 2.56 s.
    slots = [world.decide(asks(world, *prompt)).slot for prompt in prompts]
    assert slots == [1, 0, 0]


def test_prefixes_move_no_more_often_than_the_interval_says() -> None:
    world = world_of("a", "b", rebalance_after=2, rebalance_interval_s=10)
    world.decide(asks(world, 1))
    first, second, third, fourth = range(1, 5), range(11, 17), range(31, 36), range(41, 61)
    for prompt in (first, first, second, second):
        sent(world, 0, *prompt)
    assert world.decide(asks(world, *first)) == Choice(1, "exploit")  # 0.512 s against 0.768 s and its answer
    for prompt in (third, third, fourth, fourth):
        sent(world, 0, *prompt)
    world.now += 9.9
    sent(world, 0, 98)
    assert world.decide(asks(world, *third)) == Choice(0, "exploit")
    world.now += 0.1
    sent(world, 0, 99)
    assert world.decide(asks(world, *third)) == Choice(1, "exploit")


@pytest.mark.parametrize(("ttft_s", "holders"), [(0.39, {0}), (0.4, {0, 1})])
def test_a_single_heavy_prefix_gets_a_second_holder_when_its_ttft_doubled(
    ttft_s: float, holders: set[int]
) -> None:
    world = world_of("a", "b", rebalance_after=0, rebalance_interval_s=0)
    world.decide(asks(world, 1))
    sent(world, 0, *TEN, ttft_s=0.2)
    world.now += 100.0  # more than half of the window
    sent(world, 0, *TEN, ttft_s=ttft_s)
    assert isinstance(world.policy, Preble)
    (node,) = world.policy._tree.nodes()
    assert node.holders == {0}
    sent(world, 0, *TEN)
    assert node.holders == holders
    # Three requests, 20 of 30 blocks hit.
    assert loads(world) == pytest.approx([0.64, 0.64] if len(holders) == 2 else [1.28, 0.0])


def test_a_worker_that_leaves_takes_its_load_its_cache_and_its_requests_along() -> None:
    world = world_of("a", "b")
    running = asks(world, *TEN)
    world.dispatch(running)
    sent(world, 1, *TEN, 11)
    world.remove("a")
    join(world, "new")
    assert shares(world, 99)[0] == (0.0, 0.0)
    assert world.decide(asks(world, *TEN)) == Choice(1, "exploit")
    world.finish(running.request_id, ok=True)
    assert isinstance(world.policy, Preble)
    assert world.policy._flights == {}
    assert shares(world, 99)[0] == (0.0, 0.0)


# --- the books ------------------------------------------------------------------------------------


def naive_load(policy: Preble, world: World, slot: int, nodes: list[PrebleNode]) -> float:
    """L by its definition."""
    total_s = 0.0
    for node in nodes:
        if node.counts is not None and slot in node.holders:
            tokens = node.size * 128
            prefill_s = world.fleet.prefill_seconds(slot, tokens, node.end * 128)
            total_s += node.counts.missed_requests() * prefill_s / len(node.holders)
            total_s += node.active.get(slot, 0) * policy._pace.decode_s(slot)
    return total_s


def course(world: World, chance: Random, steps: int) -> Iterator[None]:
    """Conversations and questions about documents; ends, failures, workers that come and go."""
    stems: list[tuple[int, ...]] = [()]
    fresh = iter(range(1, 10**9))
    running: list[RoutingRequest] = []
    names = 3
    for _ in range(steps):
        act = chance.random()
        if act < 0.55:
            stem = chance.choice(stems[-30:])
            stem = stem[: chance.randint(0, len(stem))]
            prompt = (*stem, *(next(fresh) for _ in range(chance.randint(0, 9))))
            stems.append(prompt)
            request = asks(world, *prompt)
            running.append(request)
            world.dispatch(request)
        elif act < 0.95 and running:
            request = running.pop(chance.randrange(len(running)))
            usage = Usage(10, chance.randint(1, 50), 0) if chance.random() < 0.8 else None
            world.finish(request.request_id, ok=chance.random() < 0.9, usage=usage)
        elif act < 0.98:
            world.add(f"w{names}")
            names += 1
        elif len(world.names()) > 1:
            world.remove(chance.choice(world.names()))
        world.now += chance.random() * 3
        yield
    for request in running:
        world.finish(request.request_id, ok=True)


@pytest.mark.parametrize("seed", range(4))
def test_the_books_equal_their_definitions_at_every_step_and_are_empty_at_the_end(seed: int) -> None:
    policy = Preble(PrebleConfig(window_s=60.0, kv_tokens=60 * 128, rebalance_after=5))
    world = World(policy)
    for name in ("w0", "w1", "w2"):
        world.add(name)
    for step, _ in enumerate(course(world, Random(seed), 500)):
        nodes = list(policy._tree.nodes())
        where = f"seed {seed}, step {step}"
        for slot, _ in world.fleet.slots():
            found = policy._load.load_s(world.fleet, slot)
            assert isclose(found, naive_load(policy, world, slot, nodes), abs_tol=1e-9), where
            cache = policy._caches._caches.get(slot)
            cached = [node for node in nodes if slot in node.cached]
            if cache is not None:
                assert cache.blocks == sum(node.size for node in cached), where
                assert cache.idle_blocks == sum(node.size for node in cached if node.cached[slot]), where
                assert {*cache.idle, *cache.recent} == set(cached), where
                held = cache.blocks - sum(node.size for node in cached if slot in node.active)
                assert held <= 60, f"{where}: only what is in use may be beyond the capacity"
        assert not any(node.is_forgotten() for node in nodes), where
        assert all(node.is_heavy() or node.counts is None or node.counts.requests for node in nodes), where
    world.now += 61.0
    world.add("last")
    assert policy._flights == {}
    assert not policy._load._requests
    assert policy._load.counted == {}
    assert all(not node.active and node.counts is None for node in policy._tree.nodes())
    for name in world.names():
        world.remove(name)
    assert list(policy._tree.nodes()) == []


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"window_s": 0}, "window_s must be above 0"),
        ({"kv_tokens": 0}, "kv_tokens must be at least 1"),
        ({"rebalance_factor": 0.5}, "rebalance_factor must be at least 1"),
        ({"rebalance_interval_s": -1}, "rebalance_interval_s must not be negative"),
    ],
)
def test_parameters_out_of_range_are_refused(params: dict[str, Value], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_policy("preble", params)
