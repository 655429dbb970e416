"""sglang-router's rule on examples worked by hand: blocks of 512 characters, lengths in blocks."""

from __future__ import annotations

import pytest

from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import BLOCK_BYTES, PromptBlocks
from warmroute_policies.errors import ConfigError
from warmroute_policies.parameters import Value
from warmroute_policies.peers.sglang_cache_aware import SglangCacheAware
from warmroute_policies.policy import Choice, Dispatched
from warmroute_policies.registry import make_policy
from warmroute_policies.rehearsal import World
from warmroute_policies.types import Outcome, RoutingRequest, WorkerSpec


def world_of(*names: str, **params: Value) -> World:
    world = World(make_policy("sglang_cache_aware", params, 3))
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


TEN = tuple(range(1, 11))


def test_a_match_must_be_more_than_three_tenths_of_the_prompt() -> None:
    world = world_of("a", "b")
    world.dispatch(asks(world, *TEN))  # the first of two idle workers; it has one request in flight now
    three_of_ten = asks(world, 1, 2, 3, *range(24, 31))
    four_of_ten = asks(world, 1, 2, 3, 4, *range(35, 41))
    assert world.decide(three_of_ten) == Choice(1, "miss")  # the fewest requests
    assert world.decide(four_of_ten) == Choice(0, "hit")
    assert world.decide(asks(world, 1, 2, 3)) == Choice(0, "hit"), "a prompt may end within a run"
    assert world.decide(asks(world, 99)) == Choice(1, "miss")
    assert world.decide(world.request(None)) == Choice(1, "miss")


def test_a_match_names_the_first_who_was_sent_it_however_many_hold_it() -> None:
    world = world_of("a", "b")
    world.dispatch(asks(world, *TEN))
    assert world.dispatch(asks(world, 1, 2, 3, *range(24, 31))) == 1  # a miss: b holds blocks 1 to 3 as well
    world.fleet.inflight[0] = 60  # busier than b by 59: not out of balance
    assert world.decide(asks(world, 1, 2, 3, 44)) == Choice(0, "hit")
    assert world.decide(asks(world, 1, 2, 3, 24, 25)) == Choice(1, "hit"), "from block 24 on only b"


@pytest.mark.parametrize(
    ("busy", "idle", "expected"),
    [
        (64, 0, Choice(0, "hit")),  # a difference of 64 is not above 64
        (65, 0, Choice(1, "imbalance")),
        (200, 134, Choice(0, "hit")),  # above by 66, but 200 is not above 1.5 × 134 = 201
        (201, 134, Choice(0, "hit")),
        (202, 134, Choice(1, "imbalance")),
        (199, 134, Choice(0, "hit")),
    ],
)
def test_one_busy_worker_switches_affinity_off_for_the_whole_fleet(
    busy: int, idle: int, expected: Choice
) -> None:
    world = world_of("a", "b", "c", "d")
    assert served(world, *TEN) == 0
    assert served(world, 51, 52) == 0
    world.fleet.inflight[:] = [busy, idle, idle + 1, idle + 1]
    assert world.decide(asks(world, *TEN)) == expected
    world.fleet.inflight[:] = [idle, idle + 1, idle + 1, busy]
    # The prefix is on the idlest worker, and d is the busy one: the switch does not ask who holds what.
    assert world.decide(asks(world, *TEN)) == Choice(0, expected.reason)


def test_what_imbalance_sent_elsewhere_is_known_there_and_the_first_tenant_still_named() -> None:
    world = world_of("a", "b")
    assert served(world, *TEN) == 0
    world.fleet.inflight[0] = 65
    assert served(world, *TEN, 11) == 1  # all eleven blocks are b's, the first ten a's too
    assert world.decide(asks(world, *TEN)) == Choice(1, "imbalance")
    world.fleet.inflight[0] = 0
    assert world.decide(asks(world, *TEN)) == Choice(0, "hit")
    assert world.decide(asks(world, *TEN, 11)) == Choice(1, "hit")
    assert isinstance(world.policy, SglangCacheAware)
    assert world.policy._stamps == 3, "a match and two inserts: the tree was not asked about the second"


def test_a_tie_goes_to_the_lowest_index_so_an_idle_fleet_is_used_from_there_on() -> None:
    world = world_of("a", "b", "c")
    assert [served(world, 100 * i + 1, 100 * i + 2) for i in range(5)] == [0, 0, 0, 0, 0]


def test_a_prompt_stays_in_the_tree_when_its_request_fails() -> None:
    world = world_of("a", "b")
    request = asks(world, *TEN)
    world.dispatch(request)
    world.finish(request.request_id, ok=False)
    assert world.decide(asks(world, *TEN)) == Choice(0, "hit")


def test_a_tenant_that_is_away_is_forgotten_and_its_request_goes_to_the_lowest_index() -> None:
    world = world_of("a", "b", "c")
    assert served(world, *TEN) == 0
    assert served(world, 31, 32) == 0
    world.mark("a", healthy=False)
    world.fleet.inflight[:] = [0, 7, 0]
    lost = asks(world, *TEN)
    assert world.decide(lost) == Choice(1, "stale"), "b is the lowest index, busy or not"
    world.dispatch(lost)
    world.mark("a")
    world.fleet.inflight[:] = [2, 7, 1]
    assert world.decide(asks(world, *TEN)) == Choice(2, "miss"), "it was not inserted under b"
    assert world.decide(asks(world, 31, 32)) == Choice(2, "miss"), "all of a's tree is gone"


def test_a_tenant_that_failed_one_request_is_not_forgotten() -> None:
    balancer = Balancer(make_policy("sglang_cache_aware"))
    for name in "abc":
        balancer.add_worker(WorkerSpec(name), 0.0)
    prompt = PromptBlocks.from_ids(TEN)
    assert balancer.route(RoutingRequest(1, "m", prompt), 1.0).worker == "a"
    balancer.route(RoutingRequest(2, "m", PromptBlocks.from_ids([77])), 1.1)  # b has a request in flight
    again = balancer.reroute(1, 1.2)
    assert (again.worker, again.reason) == ("c", "miss")
    balancer.finish(1, Outcome.OK, None, 2.0)
    later = balancer.route(RoutingRequest(3, "m", prompt), 3.0)
    assert (later.worker, later.reason) == ("a", "hit")


def test_a_worker_that_leaves_takes_its_tree_along() -> None:
    world = world_of("a", "b")
    served(world, *TEN)
    world.remove("a")
    world.add("new")
    assert world.decide(asks(world, *TEN)) == Choice(0, "miss")
    assert isinstance(world.policy, SglangCacheAware)
    assert world.policy._tree.blocks == {}


def test_the_least_recently_used_leaves_of_a_worker_go_when_the_timer_runs_out() -> None:
    world = world_of("a", "b", max_tree_chars=10 * BLOCK_BYTES)
    older, newer = tuple(range(1, 7)), tuple(range(11, 17))
    assert served(world, *older) == 0
    assert served(world, *newer) == 0  # twelve blocks on a, two more than it may have
    waits = asks(world, 90)
    world.dispatch(waits)
    world.now += 59.9
    assert world.decide(asks(world, *older)) == Choice(0, "hit")
    world.first_token(waits.request_id)
    assert world.decide(asks(world, *older)) == Choice(0, "hit")
    world.now += 0.1
    world.finish(waits.request_id, ok=True)
    assert world.decide(asks(world, *older)).reason == "miss"
    assert world.decide(asks(world, *newer)).reason == "hit"


def test_where_the_first_tenant_is_evicted_another_is_named() -> None:
    world = world_of("a", "b", max_tree_chars=10 * BLOCK_BYTES)
    shared, other = tuple(range(1, 7)), tuple(range(11, 17))
    assert served(world, *shared) == 0
    world.fleet.inflight[0] = 65
    assert served(world, *shared) == 1  # by imbalance
    world.fleet.inflight[:] = [0, 5]
    assert world.decide(asks(world, *shared)) == Choice(0, "hit")
    assert served(world, *other) == 0
    world.now += 60.0
    assert served(world, *other) == 0  # swept before it is inserted: a's older leaf goes, b has one only
    assert world.decide(asks(world, *shared)) == Choice(1, "hit")


def test_a_match_whose_number_is_a_multiple_of_eight_refreshes_one_node() -> None:
    world = world_of("a")
    served(world, 1, 2)  # match 0, insert 1
    served(world, 11)  # 2, 3
    served(world, 11)  # 4, 5
    assert isinstance(world.policy, SglangCacheAware)
    (path, _) = world.policy._tree.match(PromptBlocks.from_ids([1, 2]).ids(0, 2))
    served(world, 1, 2, 3)  # match 6 leaves no trace; the leaf of block 3 is insert 7
    assert path[0].tenants == {0: 1}
    served(world, 1, 2, 4)  # match 8 does; the leaf of block 4 is insert 9
    assert path[0].tenants == {0: 8}
    assert [child.tenants for child in path[0].children.values()] == [{0: 7}, {0: 9}]
    world.policy.observe(Dispatched(asks(world, 1, 2, 3), 1, 0), world.now)  # insert 10, on another slot
    assert path[0].tenants == {0: 8, 1: 0}
    assert next(iter(path[0].children.values())).tenants == {0: 7, 1: 10}


def test_the_explanation_shows_who_was_sent_how_much_of_the_prompt() -> None:
    world = world_of("a", "b")
    served(world, *TEN)
    request = asks(world, 1, 2, 3, 4, *range(35, 41))
    first, second = world.policy.explain(request, world.view(request), world.now)
    assert (first.total_s, first.shares_s["matched"], first.shares_s["tree_blocks"]) == (0.0, 0.4, 10.0)
    assert (second.total_s, second.shares_s["matched"], second.shares_s["tree_blocks"]) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"rule": "0.4"}, "rule must be `0.3.2` or `smg-1.13`, not `0.4`"),
        ({"cache_threshold": 1.5}, "cache_threshold must be between 0 and 1"),
        ({"balance_rel_threshold": 0.5}, "balance_rel_threshold must be at least 1"),
        ({"eviction_interval_s": 0}, "eviction_interval_s must be above 0"),
        ({"veto_kv_usage": 0}, "veto_kv_usage must be above 0"),
    ],
)
def test_parameters_out_of_range_are_refused(params: dict[str, Value], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_policy("sglang_cache_aware", params)
