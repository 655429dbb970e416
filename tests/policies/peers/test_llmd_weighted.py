"""llm-d's weighted scores, on decisions worked out by hand."""

from __future__ import annotations

import pytest

from warmroute_policies.blocks import NO_BLOCKS, PromptBlocks
from warmroute_policies.errors import ConfigError
from warmroute_policies.peers.llmd_weighted import LlmdWeighted, LlmdWeightedConfig
from warmroute_policies.policy import Choice, Completed, Dispatched, FirstToken, FleetChanged
from warmroute_policies.rehearsal import World
from warmroute_policies.types import RoutingRequest, WorkerSpec

BLOCK = 128
CAPACITY = 2_560


def world_of(workers: int, config: LlmdWeightedConfig | None = None) -> World:
    """Workers whose engines hold 2,560 tokens, 20 blocks."""
    world = World(LlmdWeighted(config, seed=3))
    for number in range(workers):
        spec = WorkerSpec(f"http://w{number}:8000", kv_capacity_tokens=CAPACITY)
        slot = world.fleet.add(spec, world.now)
        world.policy.observe(FleetChanged(spec.worker_id, slot, True), world.now)
    return world


def prompt(request_id: int, *ids: int, tokens: int | None = None) -> RoutingRequest:
    blocks = PromptBlocks.from_ids(ids, tokens_per_block=float(BLOCK))
    return RoutingRequest(request_id, "model", blocks, BLOCK * len(ids) if tokens is None else tokens)


def sent(world: World, slot: int, request: RoutingRequest) -> None:
    world.policy.observe(Dispatched(request, slot, 0), world.now)


def answers(world: World, slot: int, request: RoutingRequest) -> None:
    world.policy.observe(FirstToken(request, slot, 0.2), world.now)


def ends(world: World, slot: int, request: RoutingRequest) -> None:
    world.policy.observe(Completed(request, slot, True, 0.2, 0, None), world.now)


def shares(world: World, request: RoutingRequest) -> list[tuple[float, float, float]]:
    """What each worker lacks of a full score: for its queue, its KV usage, and the prefix."""
    rows = world.policy.explain(request, world.view(request), world.now)
    names = ("queue_score", "kv_score", "prefix_score")
    return [tuple(row.shares_s[name] for name in names) for row in rows]  # type: ignore[misc]


def picks(world: World, *ids: int) -> set[int]:
    """Where thirty requests for one prompt would go."""
    return {world.decide(prompt(i, *ids)).slot for i in range(100, 130)}


def test_idle_workers_that_hold_nothing_are_alike() -> None:
    world = world_of(3)
    assert shares(world, prompt(1, 11)) == [(0, 0, 3)] * 3
    assert picks(world, 11) == {0, 1, 2}


def test_a_whole_prefix_outweighs_a_queue_and_half_a_cache_and_no_more() -> None:
    world = world_of(2)
    sent(world, 0, prompt(1, *range(10)))  # it waits, and occupies 1,280 of 2,560 tokens
    # 2·1 + 2·0.5 + 3·0 on the holder, 3 on the other.
    assert shares(world, prompt(9, *range(10))) == [(2, 1, 0), (0, 0, 3)]
    assert picks(world, *range(10)) == {0, 1}, "a tie is drawn"
    more = prompt(2, tokens=1)
    sent(world, 0, more)
    answers(world, 0, more)  # one token more in use, and the queue as long as before
    assert picks(world, *range(10)) == {1}
    ends(world, 0, more)
    answers(world, 0, prompt(1))  # nothing waits any more: 0 + 1 + 0
    assert world.decide(prompt(10, *range(10))) == Choice(0, "score")


def test_a_queue_counts_by_its_place_between_the_shortest_and_the_longest() -> None:
    world = world_of(3)
    for i in range(4):
        sent(world, 2, prompt(i, tokens=0))
    sent(world, 1, prompt(9, tokens=0))
    assert [queue for queue, _, _ in shares(world, prompt(10, 11))] == [0, 0.5, 2]
    for i in range(20, 1_000):
        sent(world, 2, prompt(i, tokens=0))
    assert [queue for queue, _, _ in shares(world, prompt(10, 11))] == [0, pytest.approx(2 / 984), 2]
    sent(world, 0, prompt(2_000, tokens=0))  # now 1, 1 and 984
    assert [queue for queue, _, _ in shares(world, prompt(10, 11))] == [0, 0, 2]


def test_only_workers_that_may_take_the_request_stretch_the_scale() -> None:
    world = world_of(3)
    sent(world, 1, prompt(1, tokens=0))
    for i in range(10, 50):
        sent(world, 2, prompt(i, tokens=0))
    world.mark("w2", healthy=False)
    found = world.policy.explain(prompt(9, 11), world.view(prompt(9, 11)), world.now)
    assert [row.shares_s.get("queue_score") for row in found] == [0, 2, None]


def test_a_part_of_the_prefix_weighs_as_much_as_it_is() -> None:
    world = world_of(2)
    first = prompt(1, *range(10))
    sent(world, 1, first)
    ends(world, 1, first)
    # Four of eight blocks are known: 3·(1 − 0.5).
    assert shares(world, prompt(2, 0, 1, 2, 3, 50, 51, 52, 53)) == [(0, 0, 3), (0, 0, 1.5)]


def test_blocks_are_in_use_once_and_until_the_end_not_the_first_token() -> None:
    world = world_of(1)
    first, second = prompt(1, *range(10)), prompt(2, *range(10), 77, tokens=11 * BLOCK + 32)
    sent(world, 0, first)
    sent(world, 0, second)
    ((_, kv, _),) = shares(world, prompt(9))
    assert kv == 2 * (11 * BLOCK + 32) / CAPACITY
    answers(world, 0, first)
    answers(world, 0, second)
    assert shares(world, prompt(9)) == [(0, kv, 3)]
    ends(world, 0, first)
    assert shares(world, prompt(9)) == [(0, kv, 3)], "the second holds all that the first held"
    ends(world, 0, second)
    assert shares(world, prompt(9)) == [(0, 0, 3)]


def test_a_cache_is_never_more_than_full_and_one_of_unknown_size_is_of_500k_tokens() -> None:
    world = world_of(1)
    world.add("unknown")
    for slot in (0, 1):
        sent(world, slot, prompt(slot, tokens=25_000))
    assert [kv for _, kv, _ in shares(world, prompt(9))] == [2, 2 * 25_000 / 500_000]


def test_a_worker_that_is_gone_leaves_nothing_to_the_next_one_in_its_slot() -> None:
    world = world_of(2)
    request = prompt(1, *range(10))
    sent(world, 0, request)
    world.remove("w0")
    world.add("new")
    assert shares(world, prompt(9, *range(10))) == [(0, 0, 3), (0, 0, 3)]
    ends(world, 0, request)
    assert shares(world, prompt(9, *range(10))) == [(0, 0, 3), (0, 0, 3)]


def test_a_request_without_a_prompt_goes_where_the_queue_is_short() -> None:
    world = world_of(2)
    sent(world, 0, prompt(1, tokens=0))
    assert world.decide(RoutingRequest(2, "model", NO_BLOCKS)) == Choice(1, "score")


def test_weights_are_parameters_and_may_not_be_negative() -> None:
    world = world_of(2, LlmdWeightedConfig(queue_weight=1.0, kv_weight=0.0, prefix_weight=5.0))
    sent(world, 0, prompt(1, *range(10)))
    assert shares(world, prompt(9, *range(10))) == [(1, 0, 0), (0, 0, 5)]
    with pytest.raises(ConfigError, match="must not be negative"):
        LlmdWeightedConfig(kv_weight=-1.0)
    with pytest.raises(ConfigError, match="lru_blocks must be at least 1"):
        LlmdWeightedConfig(lru_blocks=0)
