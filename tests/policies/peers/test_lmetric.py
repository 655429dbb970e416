"""LMetric, on decisions worked out by hand."""

from __future__ import annotations

from warmroute_policies.conformance import check_policy
from warmroute_policies.peers.lmetric import LMetric, LMetricConfig
from warmroute_policies.policy import Choice
from warmroute_policies.rehearsal import World


def world_of(*loads: tuple[int, int], count_self: bool = True) -> World:
    """Workers with so many tokens queued and so many requests in flight."""
    world = World(LMetric(LMetricConfig(count_self=count_self), seed=3))
    for number, (queued_tokens, inflight) in enumerate(loads):
        world.add(f"w{number}")
        world.fleet.queued_tokens[number] = queued_tokens
        world.fleet.inflight[number] = inflight
    return world


def totals(world: World, hits: dict[int, int] | None = None) -> list[float]:
    request = world.request(1)  # 16 blocks, 2,048 tokens
    return [row.total_s for row in world.policy.explain(request, world.view(request, hits), world.now)]


def test_the_product_of_tokens_and_requests_decides() -> None:
    world = world_of((0, 3), (1_000, 1), (4_100, 0))
    # 2,048·4 = 8,192;  3,048·2 = 6,096;  6,148·1.
    assert totals(world) == [8_192, 6_096, 6_148]
    assert world.decide(world.request(1)) == Choice(1, "product")
    # A hit of 1,536 on slot 0: 512·4 = 2,048.
    assert totals(world, {0: 1_536}) == [2_048, 6_096, 6_148]
    assert world.decide(world.request(1), {0: 1_536}) == Choice(0, "product")


def test_equal_products_are_drawn_and_one_token_settles_it() -> None:
    world = world_of((0, 1), (2_048, 0))  # 2,048·2 and 4,096·1
    assert {world.decide(world.request(1)).slot for _ in range(40)} == {0, 1}
    world.fleet.queued_tokens[1] -= 1
    assert {world.decide(world.request(1)).slot for _ in range(40)} == {1}


def test_a_first_token_takes_tokens_off_and_the_end_takes_the_request() -> None:
    world = world_of((0, 0), (0, 0))
    first = world.request(1)
    slot = world.dispatch(first, {0: 2_032})  # it holds all but the last page
    assert slot == 0
    assert totals(world) == [(16 + 2_048) * 2, 2_048]
    world.first_token(first.request_id)
    assert totals(world) == [2_048 * 2, 2_048]
    world.finish(first.request_id, ok=True)
    assert totals(world) == [2_048, 2_048]


def test_an_idle_holder_beats_idle_strangers_by_default() -> None:
    world = world_of((0, 0), (0, 0), (0, 0))
    assert {world.decide(world.request(1), {2: 16}).slot for _ in range(40)} == {2}


def test_as_published_all_idle_workers_are_alike_whatever_they_hold() -> None:
    world = world_of((0, 0), (0, 0), (0, 1), count_self=False)
    assert totals(world, {1: 2_032}) == [0, 0, 2_048]
    assert {world.decide(world.request(1), {1: 2_032}).slot for _ in range(40)} == {0, 1}


def test_a_worker_that_may_not_take_the_request_is_not_picked_however_cheap_it_is() -> None:
    world = world_of((0, 0), (90_000, 50))
    world.mark("w0", healthy=False)
    assert world.decide(world.request(1), {0: 2_032}) == Choice(1, "product")


def test_the_published_form_keeps_the_rules_of_a_policy_too() -> None:
    check_policy(lambda seed: LMetric(LMetricConfig(count_self=False), seed))
