"""What `cache_aware` promises: its price by hand, and what each of its terms is for."""

from __future__ import annotations

import random
from math import inf

import pytest

from warmroute_policies.algorithms.cache_aware import CacheAware
from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import PromptBlocks
from warmroute_policies.config import BalancerConfig, CacheAwareConfig
from warmroute_policies.latency import PrefillPrice
from warmroute_policies.rehearsal import World
from warmroute_policies.types import Outcome, RoutingRequest, Usage, WorkerSpec

PRICE = PrefillPrice(2e-5, 8e-10)
LINEAR_S, QUADRATIC_S = PRICE.linear_s, PRICE.quadratic_s


def world_of(*names: str, config: CacheAwareConfig | None = None, **facts: float) -> World:
    world = World(CacheAware(config))
    for name in names:
        world.add(name, **facts)
    return world


def prefill_s(world: World, slot: int, missing: int, prompt: int) -> float:
    return world.fleet.prefill_seconds(slot, missing, prompt)


def test_the_price_of_every_term_by_hand() -> None:
    config = CacheAwareConfig(miss_price=3.0, rent_price=5.0, home_price=7.0, memory_s=0.8, decode_s=0.01)
    world = world_of("a", "b", config=config)
    world.fleet.fresh_share = 0.75
    world.fleet.crowding[:] = [0.75, 0.25]
    world.fleet.filled[:] = [0.5, 0.0]
    world.fleet.inflight[:] = [4, 7]
    request = world.request(1, blocks=64)
    view = world.view(request, {0: 4_096})
    a, b = world.policy.explain(request, view, world.now)
    n = view.prompt_tokens
    miss_price = 3.0 + 7.0 * (0.5 * 4_096 / n) ** 2
    assert a.shares_s == pytest.approx(
        {
            "rtt": 0.0,
            "queue": 0.0,
            "miss": miss_price * prefill_s(world, 0, n - 4_096, n),
            "rent": 5.0 * 0.5 * prefill_s(world, 0, n - 4_096, n),
            "memory": 0.8 * 0.25,
            "decode": 0.04,
        }
    )
    assert b.shares_s["rent"] == 0.0
    assert b.shares_s["miss"] == pytest.approx(miss_price * prefill_s(world, 1, n, n))


def test_what_new_material_displaces_is_priced_as_computed_on_the_slowest_worker() -> None:
    world = world_of("fast", config=CacheAwareConfig(miss_price=3.0, rent_price=5.0))
    world.add("slow", weight=0.25)
    world.fleet.crowding[:] = [0.75, 0.25]
    request = world.request(1, blocks=64)
    view = world.view(request, {0: 4_096})
    n = view.prompt_tokens
    fast, slow = world.policy.explain(request, view, world.now)
    assert fast.shares_s["miss"] == pytest.approx(3.0 * prefill_s(world, 0, n - 4_096, n))
    assert fast.shares_s["rent"] == pytest.approx(5.0 * 0.5 * prefill_s(world, 1, n - 4_096, n))
    assert slow.shares_s["rent"] == 0.0


def test_a_worker_that_may_not_be_chosen_does_not_price_what_the_others_displace() -> None:
    world = world_of("full", "roomy")
    world.fleet.crowding[:] = [0.75, 0.25]
    request = world.request(1, blocks=64)
    before = world.policy.explain(request, world.view(request), world.now)[0].shares_s["rent"]
    world.add("ten times slower", weight=0.1)
    world.mark("ten times slower", healthy=False)
    assert world.policy.explain(request, world.view(request), world.now)[0].shares_s["rent"] == before > 0
    world.mark("ten times slower", healthy=True)
    assert world.policy.explain(request, world.view(request), world.now)[0].shares_s["rent"] > 5 * before


def test_a_newcomer_is_not_taken_to_hold_what_everybody_held_before_one_was_drained() -> None:
    """As many workers hold the system prompt as may be chosen, and they are not the same ones."""
    world = world_of("drained", "warm", "new")
    world.mark("drained", healthy=False)
    request = world.request(1, blocks=80)
    held = {0: 9_216, 1: 9_216}
    assert world.decide(request, held).slot == 1
    world.fleet.book(1, 900, 1_000, 1_000, world.now)
    assert world.decide(request, held).slot == 1, "a short queue is no reason to compute it all again"


def test_in_an_idle_fleet_conversations_behind_one_system_prompt_go_to_each_in_turn() -> None:
    world = world_of("a", "b", "c")
    for held in ({}, {0: 2_048, 1: 2_048, 2: 2_048}):
        chosen = [world.decide(world.request(number, blocks=64), held).slot for number in range(300)]
        assert all(98 <= chosen.count(slot) <= 102 for slot in range(3))
        assert all({*chosen[at : at + 5]} == {0, 1, 2} for at in range(295)), "nobody is left out for long"


def test_who_may_not_be_chosen_does_not_send_the_next_one_a_double_share() -> None:
    """As a worker that is down, or as the workers of another model."""
    world = world_of("a", "b", "c", "d", "e", "f")
    for name in ("a", "b", "d"):
        world.mark(name, healthy=False)
    for held in ({}, dict.fromkeys(range(6), 2_048)):
        chosen = [world.decide(world.request(number, blocks=64), held).slot for number in range(300)]
        assert [round(chosen.count(slot), -1) for slot in range(6)] == [0, 0, 100, 0, 100, 100]


def test_a_worker_many_times_slower_does_not_send_prompts_away_from_idle_ones() -> None:
    world = world_of("a", "b")
    world.add("ancient", weight=0.05)
    world.fleet.crowding[:] = [1.0, 1.0, 0.0]
    request = world.request(1, blocks=640)
    shares = [row.shares_s["rent"] for row in world.policy.explain(request, world.view(request), world.now)]
    n = world.view(request).prompt_tokens
    assert shares == [pytest.approx(2.0 * 4.0 * prefill_s(world, 0, n, n))] * 2 + [0.0]
    assert world.decide(request).slot in (0, 1)


def test_the_slowest_worker_is_the_one_that_takes_longest_for_this_very_prompt() -> None:
    """Prices cross: long prompts cost most where attention does."""
    world = world_of("linear", "quadratic")
    world.fleet.replace(WorkerSpec("http://linear:8000", worker_class="linear"))
    world.fleet.replace(WorkerSpec("http://quadratic:8000", worker_class="quadratic"))
    world.fleet.set_price("linear", PrefillPrice(100e-6, 0.0))
    world.fleet.set_price("quadratic", PrefillPrice(50e-6, 10e-9))
    world.fleet.crowding[:] = [0.5, 0.0]
    for blocks, slot in ((8, 0), (240, 1)):
        request = world.request(1, blocks=blocks)
        n = world.view(request).prompt_tokens
        rent_s = world.policy.explain(request, world.view(request), world.now)[0].shares_s["rent"]
        assert rent_s == pytest.approx(2.0 * 0.5 * prefill_s(world, slot, n, n))


@pytest.mark.parametrize("alike", [True, False], ids=["equal workers", "unequal workers"])
@pytest.mark.parametrize("seed", range(40))
def test_the_decision_is_the_least_of_the_prices_that_are_explained(seed: int, alike: bool) -> None:
    chance = random.Random(seed)
    world = World(CacheAware())
    for name in "abcdef":
        world.add(name, weight=1.0 if alike else chance.choice([0.5, 1.0, 3.0]))
    if chance.random() < 0.5:
        world.mark("c", healthy=False)
    world.fleet.fresh_share = chance.choice([0.0, chance.random(), 1.0])
    for slot in range(6):
        world.fleet.crowding[slot] = chance.choice([0.0, chance.random(), 1.0])
        world.fleet.filled[slot] = chance.choice([0.0, chance.random()])
        for number in range(chance.randrange(4)):
            world.fleet.book(slot, 100 * slot + number, 9_000, chance.randrange(9_000), world.now)
    for _ in range(20):
        request = world.request(chance.randrange(5), blocks=chance.choice([4, 80, 600]))
        share = chance.choice([0.4, 1.0])  # 1.0: all hold something in common
        held = {slot: 64 * chance.randint(1, 8) for slot in range(6) if chance.random() < share}
        view = world.view(request, held)
        prices = {row.worker: row.total_s for row in world.policy.explain(request, view, world.now)}
        chosen = world.fleet.worker_id(world.decide(request, held).slot)
        assert prices[chosen] == pytest.approx(min(prices.values()), abs=1e-9)


def test_new_material_goes_to_the_slow_worker_with_room_and_not_to_the_fast_one_that_is_full() -> None:
    world = world_of("fast", "fast2")
    world.add("slow", weight=0.3)
    fresh = world.request(1, blocks=100)
    assert world.decide(fresh).slot in (0, 1)
    world.fleet.crowding[:] = [0.9, 0.9, 0.0]
    assert world.decide(fresh).slot == 2
    assert world.decide(fresh, {0: 12_000}).slot == 0, "who is warm stays where it is warm"


def test_caches_that_are_all_crowded_alike_change_no_decision() -> None:
    for crowding in (0.0, 0.5, 1.0):
        world = world_of("a", "b", "c")
        world.fleet.crowding[:] = [crowding] * 3
        world.fleet.book(0, 900, 20_000, 9_000, world.now)
        request = world.request(1, blocks=64)
        assert world.decide(request, {0: 6_000}).slot != 0, "the queue is longer than the prefill is worth"
        assert world.decide(request, {0: 8_000, 1: 7_800}).slot == 1


def test_a_crowded_worker_that_may_not_be_chosen_is_no_measure_of_the_others() -> None:
    world = world_of("a", "b", "idle")
    world.fleet.crowding[:] = [0.8, 0.8, 0.0]
    world.mark("idle", healthy=False)
    request = world.request(1, blocks=64)
    rows = world.policy.explain(request, world.view(request), world.now)
    assert [row.shares_s["rent"] for row in rows if row.eligible] == [0.0, 0.0]


def test_a_worker_fills_up_and_new_sessions_go_where_there_is_room() -> None:
    """Sessions that come back every 10 s, in a balancer with real books and a real index: once what is alive
    fills the first worker, new sessions go to the second one although it is slower."""
    balancer = Balancer(CacheAware(), BalancerConfig(default_price=PRICE))
    balancer.add_worker(WorkerSpec("fast", kv_capacity_tokens=200_000), 0.0)
    balancer.add_worker(WorkerSpec("slow", weight=0.6, kv_capacity_tokens=200_000), 0.0)
    homes: dict[int, set[str]] = {}
    request_id = 0
    for turn in range(30):
        for session in range(min(turn + 1, 20)):
            now = turn * 10.0 + session * 0.4
            request_id += 1
            blocks = PromptBlocks.from_ids(
                range(session * 1_000 + 1, session * 1_000 + 81), tokens_per_block=128.0
            )
            worker = balancer.route(RoutingRequest(request_id, "m", blocks, 10_240), now).worker
            homes.setdefault(session, set()).add(worker)
            balancer.first_token(request_id, now + 0.1)
            balancer.finish(request_id, Outcome.OK, Usage(10_240, 20, None), now + 0.3)
            balancer.tick(now + 0.35)
    assert homes[0] == {"fast"}
    assert sum("slow" in workers for workers in homes.values()) >= 6
    assert all(len(workers) == 1 for workers in homes.values()), "nobody moves"


def test_a_worker_whose_cache_requests_in_flight_fill_gets_no_more_of_them() -> None:
    world = world_of("a", "b")
    request = world.request(1, blocks=16)
    world.fleet.filled[:] = [0.2, 0.9]
    assert world.decide(request, {1: 1_024}).slot == 0, "warm, but whoever comes there waits for memory"
    world.fleet.filled[:] = [0.2, 0.21]
    assert world.decide(request, {1: 1_024}).slot == 1


def test_a_hot_prefix_gets_a_second_home_when_waiting_costs_more_than_computing() -> None:
    world = world_of("a", "b")
    request = world.request(1, blocks=64)
    hit = {0: 8_000}
    n = world.view(request, hit).prompt_tokens
    theta = CacheAwareConfig().miss_price
    worth_s = theta * (prefill_s(world, 1, n, n) - prefill_s(world, 0, n - 8_000, n))
    missing = 0
    while prefill_s(world, 0, missing + 100, missing + 100) < worth_s - 0.02:  # less two requests in flight
        missing += 100
    world.fleet.book(0, 900, missing, missing, world.now)
    assert world.decide(request, hit).slot == 0
    world.fleet.book(0, 901, 2_000, 2_000, world.now)
    assert world.decide(request, hit).slot == 1


# --- while everybody is behind --------------------------------------------------------------------

# A token costs 100 µs. A prompt of 10,240 tokens of which 9,216 are held costs 0.1024 s there, and elsewhere
# 1.024 s: 0.9216 s of extra work, which θ = 2 prices at 1.84 s and θ + ω·min q = 4 at 3.69 s.
PER_TOKEN = PrefillPrice(1e-4, 0.0)
BLOCKS, HELD = 80, {0: 9_216}
EXTRA_S = 0.9216


def behind(*queues_s: float, config: CacheAwareConfig | None = None) -> World:
    """Workers with that much prefill waiting on each; none has begun."""
    world = world_of(*"abc"[: len(queues_s)], config=config)
    world.fleet.set_price("default", PER_TOKEN)
    for slot, queue_s in enumerate(queues_s):
        if queue_s:
            world.fleet.book(slot, 900 + slot, round(queue_s * 1e4), round(queue_s * 1e4), world.now)
    return world


@pytest.mark.parametrize(
    ("queues_s", "slot"),
    [
        ((3.25, 0.25), 0),  # 3 s longer, and all are behind: computing again would cost 3.69 s
        ((3.0, 0.0), 1),  # 3 s longer, and one is idle: computing again costs 1.84 s there
        ((3.25, 0.25, 0.0), 2),
        ((4.25, 0.25), 1),  # 4 s longer is too long
        ((1.5, 0.0), 0),
    ],
)
def test_a_prompt_stays_for_longer_where_it_is_warm_while_everybody_is_behind(
    queues_s: tuple[float, ...], slot: int
) -> None:
    world = behind(*queues_s)
    assert world.decide(world.request(1, BLOCKS), HELD).slot == slot


def test_without_a_price_of_the_backlog_a_fleet_behind_spills_as_an_idle_one() -> None:
    world = behind(3.25, 0.25, config=CacheAwareConfig(backlog_price=0.0))
    assert world.decide(world.request(1, BLOCKS), HELD).slot == 1


def test_an_idle_worker_that_may_not_be_chosen_helps_nobody() -> None:
    world = behind(3.25, 0.25, 0.0)
    world.mark("c", healthy=False)
    assert world.decide(world.request(1, BLOCKS), HELD).slot == 0


@pytest.mark.parametrize("least_s", [2.0, 100.0])
def test_however_far_behind_a_fleet_is_a_miss_costs_at_most_16_seconds_more_a_second(least_s: float) -> None:
    most_s = (2.0 + 16.0) * EXTRA_S
    for longer_s, slot in ((most_s - 0.1, 0), (most_s + 0.1, 1)):
        world = behind(least_s + longer_s, least_s)
        assert world.decide(world.request(1, BLOCKS), HELD).slot == slot


@pytest.mark.parametrize(
    ("least_s", "price"), [(0.0, 2.0), (0.25, 4.0), (1.0, 10.0), (2.0, 18.0), (60.0, 18.0)]
)
def test_the_backlogs_part_is_explained_as_part_of_the_miss(least_s: float, price: float) -> None:
    world = behind(least_s + 1.0, least_s)
    request = world.request(1, BLOCKS)
    rows = world.policy.explain(request, world.view(request, HELD), world.now)
    assert [row.shares_s["miss"] for row in rows] == pytest.approx([price * 0.1024, price * 1.024])
    assert [row.shares_s["queue"] for row in rows] == pytest.approx([least_s + 1.0, least_s])


# --- leaving home -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fresh_share", "held", "longer_s", "slot"),
    [
        (0.0, 9_216, 1.9, 1),  # nothing is fresh: computing again costs 1.84 s
        (0.5, 9_216, 1.9, 1),  # as much has a home as is fresh
        (0.9, 9_216, 1.9, 0),  # 16 · (0.8 · 0.9)² · 0.9216 s more: 9.49 s
        (0.9, 9_216, 9.4, 0),
        (0.9, 9_216, 9.6, 1),
        (0.9, 1_024, 0.3, 1),  # a tenth of the prompt is no home: 0.22 s
    ],
)
def test_where_most_work_is_fresh_it_does_the_balancing_and_who_has_a_home_waits_there(
    fresh_share: float, held: int, longer_s: float, slot: int
) -> None:
    world = behind(longer_s, 0.0)
    world.fleet.fresh_share = fresh_share
    assert world.decide(world.request(1, BLOCKS), {0: held}).slot == slot


def test_without_a_price_of_leaving_home_a_prompt_leaves_it_as_early_whatever_is_asked_for() -> None:
    world = behind(1.9, 0.0, config=CacheAwareConfig(home_price=0.0))
    world.fleet.fresh_share = 1.0
    assert world.decide(world.request(1, BLOCKS), HELD).slot == 1


@pytest.mark.parametrize("home_allowed", [True, False])
def test_a_home_that_may_not_be_chosen_makes_nobody_wait(home_allowed: bool) -> None:
    """What is left holds a tenth of the prompt: no home."""
    world = behind(0.0, 0.5, 0.0)
    world.fleet.fresh_share = 1.0
    world.mark("a", healthy=home_allowed)
    assert world.decide(world.request(1, BLOCKS), {0: 9_216, 1: 1_024}).slot == (0 if home_allowed else 2)


def test_of_two_homes_the_faster_one_is_chosen() -> None:
    world = world_of("fast")
    world.add("slow", weight=1 / 3)
    for fresh_share in (0.0, 0.75, 1.0):
        world.fleet.fresh_share = fresh_share
        assert world.decide(world.request(1, BLOCKS), {0: 9_216, 1: 9_216}).slot == 0


def test_a_balancer_learns_how_much_is_fresh_from_what_is_asked_for() -> None:
    """At first nobody holds anything, and that says nothing; then three prompts in four are new."""
    balancer = Balancer(CacheAware())
    for name in ("a", "b"):
        balancer.add_worker(WorkerSpec(name), 0.0)
    shares = []
    for number in range(1, 2_001):
        known = number % 4 == 0
        ids = range(1, 81) if known else range(number * 1_000, number * 1_000 + 80)
        blocks = PromptBlocks.from_ids(ids, tokens_per_block=128.0)
        balancer.route(RoutingRequest(number, "m", blocks, 10_240), number / 100)
        balancer.finish(number, Outcome.OK, Usage(10_240, 20, None), number / 100)
        if number % 100 == 0:
            balancer.tick(number / 100)
            shares.append(balancer.fleet.fresh_share)
    assert shares[0] < shares[-1] == pytest.approx(0.75, abs=0.01)


def test_parameters_out_of_range_are_refused() -> None:
    for wrong in (
        {"miss_price": -1.0},
        {"backlog_price": -1.0},
        {"rent_price": -0.1},
        {"home_price": -0.1},
        {"memory_s": -1.0},
        {"decode_s": 0.0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            CacheAwareConfig(**wrong)
    assert CacheAwareConfig(miss_price=0.0, rent_price=0.0).decode_s < inf
