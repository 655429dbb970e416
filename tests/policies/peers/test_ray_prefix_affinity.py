"""Ray Serve's prefix affinity on examples worked by hand: blocks of 512 characters, lengths in blocks."""

from __future__ import annotations

from math import inf

import pytest

from warmroute_policies.blocks import BLOCK_BYTES, PromptBlocks
from warmroute_policies.errors import ConfigError
from warmroute_policies.parameters import Value
from warmroute_policies.peers.ray_prefix_affinity import RayPrefixAffinity
from warmroute_policies.policy import Choice, Dispatched
from warmroute_policies.registry import defaults, make_policy
from warmroute_policies.rehearsal import World
from warmroute_policies.types import RoutingRequest


def world_of(*names: str, **params: Value) -> World:
    world = World(make_policy("ray_prefix_affinity", params, 3))
    for name in names:
        world.add(name)
    return world


def asks(world: World, *ids: int) -> RoutingRequest:
    """A request of these blocks."""
    return RoutingRequest(world.request(None).request_id, "model", PromptBlocks.from_ids(ids))


def sent(world: World, slot: int, *ids: int) -> None:
    """A prompt of these blocks went to the slot, and is over."""
    world.policy.observe(Dispatched(asks(world, *ids), slot, 0), world.now)


TEN = tuple(range(1, 11))


def test_a_tenth_of_the_prompt_is_a_match_and_less_goes_to_whoever_was_sent_least() -> None:
    world = world_of("a", "b", "c")
    sent(world, 0, *TEN)
    sent(world, 1, *range(31, 35))
    sent(world, 2, *range(41, 46))  # ten, four and five blocks
    assert world.decide(asks(world, 1, *range(50, 59))) == Choice(0, "prefix")  # 1 of 10
    assert world.decide(asks(world, 1, *range(50, 60))) == Choice(1, "smallest")  # 1 of 11
    assert world.decide(asks(world, 99)) == Choice(1, "smallest")
    sent(world, 1, 31, 32, 36, 37)  # two new blocks: six
    assert world.decide(asks(world, 99)) == Choice(2, "smallest")


def test_no_queue_is_too_long_for_an_affinity_by_default() -> None:
    world = world_of("a", "b")
    sent(world, 0, *TEN)
    world.fleet.inflight[0] = 1000
    assert world.decide(asks(world, *TEN)) == Choice(0, "prefix")
    assert defaults("ray_prefix_affinity")["imbalanced_threshold"] == inf
    world.fleet.inflight[:] = [0, 1000]
    assert world.decide(asks(world, 99)) == Choice(1, "smallest"), "nor for having been sent least"


def test_with_a_threshold_an_unbalanced_fleet_is_served_by_two_choices() -> None:
    world = world_of("a", "b", "c", imbalanced_threshold=10)
    sent(world, 0, *TEN)
    world.fleet.inflight[:] = [10, 0, 0]
    assert world.decide(asks(world, *TEN)) == Choice(0, "prefix"), "a difference of 10 is balanced"
    world.fleet.inflight[:] = [11, 0, 1]
    choices = [world.decide(asks(world, *TEN)) for _ in range(80)]
    assert {choice.reason for choice in choices} == {"imbalanced"}
    assert {choice.slot for choice in choices} == {1, 2}, "a loses to whoever is drawn beside it"


def test_among_holders_the_least_busy_is_taken_and_ties_are_drawn() -> None:
    world = world_of("a", "b", "c")
    for slot in range(3):
        sent(world, slot, *TEN)
    sent(world, 2, *TEN, 11)
    world.fleet.inflight[:] = [5, 4, 4]
    assert {world.decide(asks(world, *TEN, 99)).slot for _ in range(60)} == {1, 2}
    assert {world.decide(asks(world, *TEN, 11)).slot for _ in range(60)} == {2}, "the longest match alone"
    world.fleet.inflight[:] = [3, 4, 4]
    assert world.decide(asks(world, *TEN, 99)) == Choice(0, "prefix")


def test_a_match_ends_where_nobody_holds_more_who_may_be_taken() -> None:
    world = world_of("a", "b")
    sent(world, 1, 1, 2, 3)
    sent(world, 0, *TEN)
    assert world.decide(asks(world, *TEN)) == Choice(0, "prefix")
    world.mark("a", healthy=False)
    assert world.decide(asks(world, *TEN)) == Choice(1, "prefix")  # 3 of 10
    sent(world, 1, *range(50, 60))
    assert world.decide(asks(world, *TEN, *range(100, 121))) == Choice(1, "smallest")  # 3 of 31
    world.mark("a")
    assert world.decide(asks(world, *TEN, *range(100, 121))) == Choice(0, "prefix")  # 10 of 31
    world.remove("a")
    world.add("new")
    assert world.decide(asks(world, *TEN, *range(100, 121))) == Choice(0, "smallest")


def test_a_prompt_stays_in_the_tree_when_its_request_fails() -> None:
    world = world_of("a", "b")
    request = asks(world, *TEN)
    slot = world.dispatch(request)
    world.finish(request.request_id, ok=False)
    assert world.decide(asks(world, *TEN)) == Choice(slot, "prefix")


def test_a_request_without_a_prompt_is_served_by_two_choices() -> None:
    world = world_of("a", "b")
    world.fleet.inflight[0] = 1
    assert world.decide(world.request(None)) == Choice(1, "no_text")


def test_with_eviction_the_prompts_unused_for_longest_go_whole_down_to_the_target() -> None:
    sizes: dict[str, Value] = {
        "eviction_threshold_chars": 12 * BLOCK_BYTES,
        "eviction_target_chars": 10 * BLOCK_BYTES,
    }
    world = world_of("a", do_eviction=True, **sizes)
    sent(world, 0, 1, 2, 3, 4)
    sent(world, 0, 1, 2, 5, 6)  # blocks 1 and 2 are used again
    sent(world, 0, *range(11, 17))
    world.now += 10.0
    sent(world, 0, 70)  # twelve blocks before it: not too many
    sent(world, 0, 80)
    assert isinstance(world.policy, RayPrefixAffinity)
    assert world.policy._tree.blocks == {0: 14}
    world.now += 10.0
    sent(world, 0, 90)
    # Of 14 blocks 3 and 4 go, which are the oldest: 12. Then 1, 2, 5 and 6, used last together: 8, not 10.
    assert world.policy._tree.blocks == {0: 9}
    assert world.policy._tree.match(PromptBlocks.from_ids([1, 2]).ids(0, 2)) == ([], 0)
    assert world.policy._tree.match(PromptBlocks.from_ids(range(11, 17)).ids(0, 6))[1] == 6


def test_without_eviction_the_tree_ends_at_the_bound_of_memory_alone() -> None:
    world = world_of("a", tree_max_chars=6 * BLOCK_BYTES)
    for first in range(100, 180, 10):
        sent(world, 0, first, first + 1)
    assert isinstance(world.policy, RayPrefixAffinity)
    assert world.policy._tree.blocks == {0: 16}
    world.now += 10.0
    sent(world, 0, 1)
    assert world.policy._tree.blocks == {0: 7}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"imbalanced_threshold": -1}, "imbalanced_threshold must not be negative"),
        ({"match_rate_threshold": 2}, "match_rate_threshold must be between 0 and 1"),
        ({"eviction_interval_s": 0}, "eviction_interval_s must be above 0"),
    ],
)
def test_parameters_out_of_range_are_refused(params: dict[str, Value], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_policy("ray_prefix_affinity", params)
