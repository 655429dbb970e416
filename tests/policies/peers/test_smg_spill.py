"""smg's rule on examples worked by hand: waits at 2,000 tokens per second, blocks of 128 tokens."""

from __future__ import annotations

import pytest

from warmroute_policies.blocks import BLOCK_BYTES, PromptBlocks
from warmroute_policies.parameters import Value
from warmroute_policies.peers.smg_spill import busy_limit
from warmroute_policies.policy import Choice, Dispatched
from warmroute_policies.registry import make_policy
from warmroute_policies.rehearsal import World
from warmroute_policies.types import RoutingRequest


def world_of(*names: str, rule: str = "smg-1.13", **params: Value) -> World:
    world = World(make_policy("sglang_cache_aware", {"rule": rule, **params}, 3))
    for name in names:
        world.add(name)
    return world


def asks(world: World, *ids: int) -> RoutingRequest:
    """A request of these blocks."""
    return RoutingRequest(world.request(None).request_id, "model", PromptBlocks.from_ids(ids))


def served(world: World, *ids: int) -> int:
    """Sends a prompt of these blocks and ends it; the slot."""
    request = asks(world, *ids)
    slot = world.dispatch(request)
    world.finish(request.request_id, ok=True)
    return slot


def set_loads(world: World, inflight: list[int], queued: list[int]) -> None:
    world.fleet.inflight[:] = inflight
    world.fleet.queued_tokens[:] = queued


HOT = (1, 2, 3, 4)


def test_the_limit_is_the_larger_of_a_ratio_and_a_margin_of_noise() -> None:
    assert busy_limit([1, 1, 1], 64, 1.5) == 5.0  # 1 + 4: two deviations of 1 are less than four requests
    assert busy_limit([9, 2, 1], 64, 1.5) == 8.0  # mean 4: 4 + max(4, 2·√4 = 4) is above 6
    assert busy_limit([16, 16], 64, 1.5) == 24.0  # 16 + 8, and 1.5 × 16
    assert busy_limit([20, 20], 64, 1.5) == 30.0  # 20 + ⌈8.94⌉ = 29 is below 1.5 × 20
    assert busy_limit([9, 2, 1], 2, 1.5) == 6.0  # a margin that the operator set below four


def test_a_hot_prefix_is_sent_to_a_second_worker_once_its_holder_is_too_busy() -> None:
    world = world_of("a", "b", "c")
    set_loads(world, [0, 0, 0], [0, 4000, 6000])
    assert world.decide(asks(world, *HOT)) == Choice(0, "miss")  # 0 s against 2 s and 3 s
    assert served(world, *HOT) == 0
    set_loads(world, [8, 2, 2], [9000, 4000, 6000])  # mean 4, limit 8: not above it
    assert world.decide(asks(world, *HOT)) == Choice(0, "hit"), "4.5 s of queue do not count, requests do"
    set_loads(world, [9, 2, 1], [0, 4000, 6000])
    assert world.decide(asks(world, *HOT)) == Choice(1, "spill")  # of b and c the one with the shorter wait
    assert served(world, *HOT) == 1
    set_loads(world, [2, 2, 0], [8000, 4000, 0])
    # Two holders now, 4 s and 2 s. The idle worker is not asked: it holds nothing.
    assert world.decide(asks(world, *HOT)) == Choice(1, "hit")
    set_loads(world, [2, 9, 1], [8000, 0, 0])
    assert world.decide(asks(world, *HOT)) == Choice(0, "hit"), "one busy holder is let go, not both"


def test_when_all_holders_are_busy_other_busy_workers_are_not_taken_either() -> None:
    world = world_of("a", "b", "c", "d", "e", "f")
    set_loads(world, [0] * 6, [0, 1, 1, 1, 1, 1])
    assert served(world, *HOT) == 0
    set_loads(world, [12, 12, 0, 0, 0, 0], [0, 0, 500, 400, 500, 500])  # mean 4, limit 8
    assert world.decide(asks(world, *HOT)) == Choice(3, "spill")
    assert world.decide(asks(world, 50, 51)).slot in (0, 1), "a miss does not ask who is too busy"


def test_the_wait_has_the_queue_and_the_pressure_of_the_kv_cache() -> None:
    world = world_of("a")
    world.fleet.kv_capacity_tokens[0] = 100 * 128
    running = asks(world, *range(1, 76))
    world.dispatch(running)  # 75 of 100 blocks: 0.15 · 0.75 / 0.25 = 0.45 s
    world.add("b")
    world.fleet.kv_capacity_tokens[1] = 100 * 128
    world.fleet.queued_tokens[1] = 10_000
    cold = asks(world, 500)
    assert world.decide(cold).slot == 1  # 75 · 128 / 2000 + 0.45 = 5.25 s against 5 s
    world.first_token(running.request_id)
    world.fleet.queued_tokens[1] = 800
    assert world.decide(cold).slot == 1  # 0.45 s against 0.4 s
    world.fleet.queued_tokens[1] = 1000
    assert world.decide(cold).slot == 0  # against 0.5 s
    world.fleet.queued_tokens[1] = 2
    world.finish(running.request_id, ok=True)
    assert world.decide(cold).slot == 0  # 0 s against 1 ms


def test_a_head_in_common_fills_the_kv_cache_once() -> None:
    world = world_of("a")
    world.fleet.kv_capacity_tokens[0] = 100 * 128
    for tail in (101, 102, 103):
        request = asks(world, *range(1, 75), tail)
        world.dispatch(request)
        world.first_token(request.request_id)
    world.add("b")
    world.fleet.queued_tokens[1] = 10**6
    assert world.decide(asks(world, 500)).slot == 0  # 77 of 100 blocks, and not 225
    request = asks(world, *range(1, 75), 104, 105, 106)
    world.policy.observe(Dispatched(request, 0, 0), world.now)
    assert world.decide(asks(world, 500)).slot == 1, "80 of 100: the veto, whatever the queue of b"
    world.fleet.kv_capacity_tokens[1] = 1.0
    world.policy.observe(Dispatched(asks(world, 600), 1, 0), world.now)
    assert world.decide(asks(world, 500)).slot == 0, "a veto on all is none"


def test_eight_requests_that_wait_in_the_engine_are_a_veto_until_their_turn_comes() -> None:
    world = world_of("a")
    step = asks(world, *range(1, 65))  # 64 blocks, 8,192 tokens: one step of the engine
    world.dispatch(step)
    for i in range(7):
        world.dispatch(asks(world, 1000 + i))
    world.add("b")
    world.fleet.queued_tokens[1] = 10**7
    assert world.decide(asks(world, 500)).slot == 0  # seven wait behind the first
    world.policy.observe(Dispatched(asks(world, 1007), 0, 0), world.now)
    assert world.decide(asks(world, 500)).slot == 1
    world.first_token(step.request_id)
    assert world.decide(asks(world, 500)).slot == 0  # the eight fit into the next step


def test_a_request_that_shows_no_first_token_is_never_seen_to_wait() -> None:
    world = world_of("a")
    world.dispatch(asks(world, *range(1, 65)))
    for i in range(20):
        quiet = RoutingRequest(9000 + i, "model", PromptBlocks.from_ids([1000 + i]), stream=False)
        world.policy.observe(Dispatched(quiet, 0, 0), world.now)
    world.add("b")
    world.fleet.queued_tokens[1] = 10**7
    assert world.decide(asks(world, 500)).slot == 0


def test_equal_waits_are_drawn() -> None:
    world = world_of("a", "b", "c", "d")
    assert {world.decide(asks(world, 100 + i)).slot for i in range(60)} == {0, 1, 2, 3}
    world.fleet.queued_tokens[2] = 1
    assert {world.decide(asks(world, 100 + i)).slot for i in range(60)} == {0, 1, 3}


def test_only_the_first_eight_tenants_of_a_match_are_offered() -> None:
    world = world_of(*"abcdefghij")
    for slot in (9, 8, 7, 6, 5, 4, 3, 2, 1, 0):
        world.policy.observe(Dispatched(asks(world, *HOT), slot, 0), world.now)
    set_loads(world, [0] * 10, [0, 0, 600, 500, 600, 600, 600, 600, 600, 600])
    assert world.decide(asks(world, *HOT)) == Choice(3, "hit")


def test_holders_that_are_away_make_a_miss() -> None:
    world = world_of("a", "b")
    set_loads(world, [0, 0], [0, 1])
    assert served(world, *HOT) == 0
    world.mark("a", healthy=False)
    assert world.decide(asks(world, *HOT)) == Choice(1, "miss")
    world.mark("a")
    assert world.decide(asks(world, *HOT)) == Choice(0, "hit"), "nothing was forgotten"


@pytest.mark.parametrize(("rule", "known"), [("smg-1.13", False), ("0.3.2", True)])
def test_the_bound_is_on_all_workers_together_where_it_was_on_each(rule: str, known: bool) -> None:
    world = world_of("a", "b", rule=rule, max_tree_chars=10 * BLOCK_BYTES)
    older, newer = asks(world, *range(1, 7)), asks(world, *range(11, 17))
    world.policy.observe(Dispatched(older, 0, 0), world.now)
    world.policy.observe(Dispatched(newer, 1, 0), world.now)  # six blocks each, twelve in all
    world.now += 60.0
    world.policy.observe(Dispatched(asks(world, 90), 1, 0), world.now)
    assert (world.decide(asks(world, *range(1, 7))).reason == "hit") is known
    assert world.decide(asks(world, *range(11, 17))).reason == "hit"
