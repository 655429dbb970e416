"""What each of the simple policies promises, and that chance leaves no trace."""

from __future__ import annotations

from collections import Counter
from math import inf

import pytest

from warmroute_policies.chance import draw, pick_least, turn
from warmroute_policies.policy import Choice
from warmroute_policies.registry import available, make_policy
from warmroute_policies.rehearsal import World


def world_of(policy: str, *names: str, **params: str | float) -> World:
    world = World(make_policy(policy, params, seed=11))
    for name in names:
        world.add(name)
    return world


def slots_of(world: World, requests: int, session: str | None = None) -> Counter[int]:
    """Which slots that many different requests get, each one ended before the next."""
    used = Counter[int]()
    for i in range(requests):
        request = world.request(i + 1, session=session)
        used[world.dispatch(request)] += 1
        world.finish(request.request_id, ok=True)
    return used


# --- chance ---------------------------------------------------------------------------------------


def test_a_draw_depends_on_nothing_but_the_seed_and_the_request() -> None:
    assert draw(1, 2) == draw(1, 2)
    assert len({draw(seed, request) for seed in range(50) for request in range(50)}) == 2_500
    assert 0 <= draw(-5, -(1 << 70)) < 1 << 64


def test_draws_of_neighbouring_requests_are_spread_evenly() -> None:
    counts = Counter(draw(3, i) % 8 for i in range(8_000))
    assert all(880 <= counts[i] <= 1_120 for i in range(8)), counts


def test_ties_of_the_least_are_drawn_and_the_rest_is_never_picked() -> None:
    costs = [2.0, 1.0, inf, 1.0, 1.5, 1.0]
    counts = Counter(pick_least(costs, draw(0, i)) for i in range(3_000))
    assert set(counts) == {1, 3, 5}
    assert min(counts.values()) > 850
    assert pick_least([inf, 4.0], 17) == 1


@pytest.mark.parametrize("every", range(1, 65))
@pytest.mark.parametrize("equals", [2, 3, 4, 7, 8])
def test_turns_go_round_for_ids_that_count_up_by_whatever(equals: int, every: int) -> None:
    counts = Counter(pick_least([1.0] * equals, turn(i)) for i in range(5, 5 + 3_000 * every, every))
    assert sum(counts.values()) == 3_000
    assert all(2_700 <= counts[i] * equals <= 3_300 for i in range(equals)), counts


def test_of_a_few_ids_that_follow_each_other_none_goes_where_another_went() -> None:
    for equals in (2, 3, 4, 8):
        for first in range(100):
            counts = Counter(pick_least([1.0] * equals, turn(i)) for i in range(first, first + 3 * equals))
            assert max(counts.values()) <= 4, (equals, first, counts)


# --- random, round_robin --------------------------------------------------------------------------


def test_random_gives_each_worker_its_weights_share() -> None:
    world = World(make_policy("random", {}, 5))
    world.add("a", weight=1.0)
    world.add("b", weight=3.0)
    used = slots_of(world, 2_000)
    assert used[1] / 2_000 == pytest.approx(0.75, abs=0.03)


def test_random_differs_between_seeds_and_not_between_runs() -> None:
    def course(seed: int) -> list[int]:
        world = World(make_policy("random", {}, seed))
        for name in "abcd":
            world.add(name)
        return [world.decide(world.request(i + 1)).slot for i in range(100)]

    assert course(1) == course(1)
    assert course(1) != course(2)


def test_round_robin_goes_round() -> None:
    world = world_of("round_robin", "a", "b", "c")
    assert [world.dispatch(world.request(i + 1)) for i in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_a_dry_run_takes_nobodys_turn() -> None:
    world = world_of("round_robin", "a", "b", "c")
    assert {world.decide(world.request(i + 1)).slot for i in range(5)} == {0}


def test_round_robin_is_fair_to_models_that_alternate_on_different_workers() -> None:
    world = world_of("round_robin", "a", "b", "c", "d")
    used = Counter[int]()
    for i in range(80):
        for name in "abcd":  # models alternate: the first is served by a and b, the second by c and d
            world.fleet.healthy[world.fleet.slot_of[f"http://{name}:8000"]] = (name in "ab") == (i % 2 == 0)
        used[world.dispatch(world.request(i + 1))] += 1
    assert used == {0: 20, 1: 20, 2: 20, 3: 20}


def test_a_worker_that_comes_back_does_not_get_the_turns_it_missed() -> None:
    world = world_of("round_robin", "a", "b", "c")
    world.mark("b", healthy=False)
    for i in range(30):
        world.dispatch(world.request(i + 1))
    world.mark("b", healthy=True)
    used = [world.dispatch(world.request(i + 100)) for i in range(9)]
    assert Counter(used) == {0: 3, 1: 3, 2: 3}


def test_a_new_worker_in_an_old_slot_starts_without_the_old_ones_turns() -> None:
    world = world_of("round_robin", "a", "b")
    world.dispatch(world.request(1))
    world.dispatch(world.request(2))
    world.remove("b")
    world.add("c")
    assert world.dispatch(world.request(3)) == 1


# --- least_requests, power_of_two -----------------------------------------------------------------


def test_least_requests_levels_requests_in_flight() -> None:
    world = world_of("least_requests", "a", "b", "c", "d")
    for i in range(40):
        world.dispatch(world.request(i + 1))
    assert world.fleet.inflight == [10, 10, 10, 10]


def test_least_requests_levels_in_proportion_to_weight() -> None:
    world = World(make_policy("least_requests", {}, 1))
    world.add("a", weight=1.0)
    world.add("b", weight=3.0)
    for i in range(40):
        world.dispatch(world.request(i + 1))
    assert world.fleet.inflight == [10, 30]


@pytest.mark.parametrize("policy", ["least_requests", "power_of_two", "session_sticky", "prefix_hash"])
def test_an_idle_fleet_is_used_evenly_and_not_from_slot_0_on(policy: str) -> None:
    used = slots_of(world_of(policy, *"abcdefgh"), 1_600)
    assert set(used) == set(range(8))
    assert max(used.values()) < 2 * min(used.values()), used


def test_power_of_two_takes_the_less_busy_of_its_two() -> None:
    world = world_of("power_of_two", "a", "b")
    for i in range(20):
        world.dispatch(world.request(i + 1))
    assert world.fleet.inflight == [10, 10], "of two workers both are always drawn"


def test_power_of_two_is_nearer_to_level_than_random() -> None:
    spread = {}
    for policy in ("random", "power_of_two"):
        world = world_of(policy, *"abcdefgh")
        for i in range(240):
            world.dispatch(world.request(i + 1))
        spread[policy] = max(world.fleet.inflight) - min(world.fleet.inflight)
    assert spread["power_of_two"] * 3 < spread["random"], spread


def test_power_of_two_never_draws_one_worker_twice() -> None:
    world = world_of("power_of_two", "a", "b", "c")
    world.fleet.inflight[0] = 50  # whoever is drawn beside it wins
    assert all(world.decide(world.request(i + 1)).slot != 0 for i in range(300))


# --- hashing --------------------------------------------------------------------------------------

HASHING = ("prefix_hash", "consistent_hash")


@pytest.mark.parametrize("policy", HASHING)
def test_prompts_with_one_head_share_a_worker(policy: str) -> None:
    world = world_of(policy, *"abcdef")
    for prompt in range(1, 30):
        slots = {world.decide(world.request(prompt, blocks=blocks)).slot for blocks in (2, 3, 16, 200)}
        assert len(slots) == 1


@pytest.mark.parametrize("policy", HASHING)
def test_heads_are_spread_over_all_workers(policy: str) -> None:
    used = slots_of(world_of(policy, *"abcdef"), 3_000)
    assert all(350 <= used[slot] <= 650 for slot in range(6)), used


@pytest.mark.parametrize("policy", HASHING)
def test_the_head_is_as_long_as_it_is_told(policy: str) -> None:
    world = world_of(policy, *"abcdef", prefix_tokens=128)  # one block of 512 bytes
    one, many = (world.decide(world.request(7, blocks=blocks)).slot for blocks in (1, 40))
    assert one == many
    default = world_of(policy, *"abcdef")
    short_heads = [
        default.decide(default.request(p, blocks=1)).slot == default.decide(default.request(p)).slot
        for p in range(1, 60)
    ]
    assert not all(short_heads), "256 tokens are two blocks: the first alone is another key"


@pytest.mark.parametrize("policy", HASHING)
def test_a_worker_that_leaves_gives_up_its_own_keys_and_gets_them_back(policy: str) -> None:
    world = world_of(policy, *"abcde")
    before = {p: world.decide(world.request(p)).slot for p in range(1, 500)}
    world.mark("c", healthy=False)
    during = {p: world.decide(world.request(p)).slot for p in before}
    assert {p for p in before if before[p] != during[p]} == {p for p in before if before[p] == 2}
    assert {during[p] for p in before if before[p] == 2} == {0, 1, 3, 4}, "its keys go to all of the others"
    world.mark("c", healthy=True)
    assert {p: world.decide(world.request(p)).slot for p in before} == before


@pytest.mark.parametrize("policy", HASHING)
def test_a_new_worker_takes_keys_and_moves_no_others(policy: str) -> None:
    world = world_of(policy, *"abcde")
    before = {p: world.decide(world.request(p)).slot for p in range(1, 1_000)}
    world.add("f")
    after = {p: world.decide(world.request(p)).slot for p in before}
    moved = {after[p] for p in before if before[p] != after[p]}
    assert moved == {5}
    assert 100 <= sum(before[p] != after[p] for p in before) <= 250  # a sixth of 999 is 166


@pytest.mark.parametrize("policy", HASHING)
def test_routers_agree_whatever_their_seed_and_the_order_in_which_workers_came(policy: str) -> None:
    first, second = World(make_policy(policy, {}, 1)), World(make_policy(policy, {}, 2))
    for name in "abcde":
        first.add(name)
    for name in "edcba":
        second.add(name)
    for p in range(1, 200):
        there = first.fleet.worker_id(first.decide(first.request(p)).slot)
        assert second.fleet.worker_id(second.decide(second.request(p)).slot) == there


@pytest.mark.parametrize("policy", HASHING)
def test_one_hot_prefix_never_loads_a_worker_beyond_the_bound(policy: str) -> None:
    world = world_of(policy, *"abcdef", load_factor=1.25, slack_requests=3.0)
    for i in range(1, 121):
        world.dispatch(world.request(7))
        assert max(world.fleet.inflight) <= 1.25 * i / 6 + 3 + 1
    assert sum(b > 0 for b in world.fleet.inflight) >= 5, "120 requests do not fit on four workers"


@pytest.mark.parametrize("policy", HASHING)
def test_the_slack_keeps_a_prefix_together_on_a_quiet_fleet(policy: str) -> None:
    world = world_of(policy, *"abcdef", slack_requests=5.0)
    assert len({world.dispatch(world.request(7)) for _ in range(5)}) == 1


def test_an_overflowing_prefix_goes_to_the_neighbour_or_to_the_least_busy() -> None:
    for policy, reason in (("consistent_hash", "neighbour"), ("prefix_hash", "overflow")):
        world = world_of(policy, *"abcdef", slack_requests=2.0, load_factor=1.0)
        owner = world.decide(world.request(7)).slot
        for _ in range(3):
            world.dispatch(world.request(7))
        choices = [world.decide(world.request(7)) for _ in range(40)]
        assert {choice.reason for choice in choices} == {reason}
        assert owner not in {choice.slot for choice in choices}
        # The ring's neighbour is one worker; the least busy are five, and ties are drawn.
        assert len({choice.slot for choice in choices}) == (1 if policy == "consistent_hash" else 5)


def test_consistent_hash_keeps_a_session_together_whatever_its_prompts() -> None:
    world = world_of("consistent_hash", *"abcdef")
    for session in ("s1", "s2", "s3"):
        assert len({world.decide(world.request(p, session=session)).slot for p in range(1, 50)}) == 1
    assert len({world.decide(world.request(1, session=f"s{i}")).slot for i in range(60)}) == 6


@pytest.mark.parametrize("policy", HASHING)
def test_a_request_without_a_key_goes_to_the_least_busy_worker(policy: str) -> None:
    world = world_of(policy, "a", "b", "c")
    for slot, busy in enumerate((4, 1, 3)):
        world.fleet.inflight[slot] = busy
    assert world.decide(world.request(None)) == Choice(1, "no_key")


# --- session_sticky -------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["least_requests", "cache_aware", "random"])
def test_a_session_stays_with_its_worker(inner: str) -> None:
    world = world_of("session_sticky", *"abcd", inner=inner)
    for session in ("s1", "s2", "s3"):
        assert len(slots_of(world, 30, session=session)) == 1


def test_new_sessions_go_to_the_worker_with_the_fewest_requests() -> None:
    world = world_of("session_sticky", *"abcd")
    for i in range(40):
        assert world.decide(world.request(1, session=f"s{i}")).reason == "least"
        world.dispatch(world.request(1, session=f"s{i}"))
    assert world.fleet.inflight == [10, 10, 10, 10]


def test_a_session_leaves_a_worker_that_is_ill_and_does_not_bounce_back() -> None:
    world = world_of("session_sticky", "a", "b", "c")
    home = world.dispatch(world.request(1, session="s"))
    name = world.names()[home]
    world.mark(name, healthy=False)
    away = world.dispatch(world.request(1, session="s"))
    assert away != home
    world.mark(name, healthy=True)
    assert world.decide(world.request(1, session="s")) == Choice(away, "sticky")


def test_a_session_leaves_a_worker_that_is_busy_beyond_the_bound() -> None:
    world = world_of("session_sticky", "a", "b", "c", load_factor=1.0, slack_requests=4.0)
    home = world.dispatch(world.request(1, session="s"))
    world.fleet.inflight[home] = 5  # the bound: (5 + 1) / 3 + 4 = 6
    assert world.decide(world.request(1, session="s")) == Choice(home, "sticky")
    world.fleet.inflight[home] = 9  # (9 + 1) / 3 + 4 = 7.3
    assert world.decide(world.request(1, session="s")).slot != home


def test_a_session_whose_worker_left_the_fleet_is_placed_anew() -> None:
    world = world_of("session_sticky", "a", "b")
    home = world.dispatch(world.request(1, session="s"))
    world.remove(world.names()[home])
    world.add("new")
    assert world.decide(world.request(1, session="s")).reason == "least"


# --- explanations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [name for name in available() if name != "session_sticky"])
def test_the_least_total_of_the_explanation_is_the_choice(policy: str) -> None:
    world = world_of(policy, *"abcdef")
    world.mark("b", healthy=False)
    for i in range(60):
        request = world.request(i % 9 + 1, session=None)
        rows = world.policy.explain(request, world.view(request), world.now)
        least = min(row.total_s for row in rows)
        best = {row.worker for row in rows if row.total_s == least}
        assert world.fleet.worker_id(world.decide(request).slot) in best
        world.dispatch(request)


def test_sticky_rows_mark_the_worker_that_the_session_stays_with() -> None:
    world = world_of("session_sticky", "a", "b", "c")
    home = world.dispatch(world.request(1, session="s"))
    request = world.request(1, session="s")
    rows = world.policy.explain(request, world.view(request), world.now)
    assert [row.shares_s["session"] for row in rows] == [float(slot == home) for slot in range(3)]
