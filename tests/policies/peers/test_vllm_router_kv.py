"""vllm-router's `kv_aware` on examples worked by hand; a block of the stage is 128 tokens."""

from __future__ import annotations

from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import PromptBlocks
from warmroute_policies.peers.lmetric import LMetric
from warmroute_policies.peers.vllm_router_kv import VllmRouterKv
from warmroute_policies.policy import Choice
from warmroute_policies.rehearsal import World
from warmroute_policies.types import Outcome, RoutingRequest, WorkerSpec


def world_of(*names: str) -> World:
    world = World(VllmRouterKv(seed=2))
    for name in names:
        world.add(name)
    return world


def test_tokens_to_compute_are_multiplied_with_requests_in_flight() -> None:
    world = world_of("a")
    first = world.request(1, blocks=4)  # 512 tokens wait on a, in one request
    world.dispatch(first)
    world.add("b")
    request = world.request(2, blocks=16)  # 2,048 tokens
    # With h tokens cached on a: (2,048 − h + 512)·2 against 2,048·1, equal at h = 1,536.
    assert world.decide(request, {0: 1520}) == Choice(1, "cold")  # 2,080 against 2,048
    assert world.decide(request, {0: 1552}) == Choice(0, "warm")  # 2,016 against 2,048
    world.first_token(first.request_id)  # (2,048 − h)·2 against 2,048: from 1,024 tokens on a is cheaper
    assert world.decide(request, {0: 1008}) == Choice(1, "cold")  # 2,080
    assert world.decide(request, {0: 1040}) == Choice(0, "warm")  # 2,016
    world.fleet.inflight[0] = 3  # now ·4: 1,536 tokens are not enough
    assert world.decide(request, {0: 1520}) == Choice(1, "cold")  # 2,112
    assert world.decide(request, {0: 1552}) == Choice(0, "warm")  # 1,984
    world.fleet.inflight[0] = 1
    world.finish(first.request_id, ok=True)
    assert world.decide(request, {0: 16}) == Choice(0, "warm")  # 2,032 against 2,048


def test_equal_costs_are_drawn() -> None:
    world = world_of("a", "b", "c")
    assert {world.decide(world.request(5)).slot for _ in range(60)} == {0, 1, 2}
    world.fleet.inflight[1] = 1
    assert {world.decide(world.request(5)).slot for _ in range(60)} == {0, 2}


def test_with_one_seed_it_goes_where_lmetric_goes() -> None:
    world, other = world_of("a", "b", "c"), LMetric(seed=2)
    reached = set()
    for number in range(60):
        world.fleet.inflight[:] = [number % 3, number % 2, 1]
        world.fleet.queued_tokens[:] = [number % 5 * 100, 0, number % 4 * 300]
        request = world.request(8)
        view = world.view(request, {0: 128 * (number % 7), 2: 128 * (number % 8)})
        slot = world.policy.decide(request, view, world.now).slot
        assert slot == other.decide(request, view, world.now).slot, f"case {number}"
        reached.add(slot)
    assert reached == {0, 1, 2}


def test_credit_is_whole_blocks_of_the_engine_and_never_the_last_token() -> None:
    balancer = Balancer(VllmRouterKv())
    balancer.add_worker(WorkerSpec("a", engine_block_tokens=48), 0.0)
    blocks = PromptBlocks.from_ids([1, 2, 3], tokens_per_block=128.0)  # 384 tokens: eight blocks of 48
    balancer.route(RoutingRequest(1, "m", blocks, prompt_tokens=384), 0.0)
    balancer.first_token(1, 0.5)
    balancer.finish(1, Outcome.OK, None, 1.0)
    again = RoutingRequest(2, "m", blocks, prompt_tokens=384)
    _, _, (row,) = balancer.explain(again, 2.0)
    assert row.predicted_hit_tokens == 336  # 384 − 1, in sevens of 48
    assert row.shares_s["missing_tokens"] == 48.0
    assert row.total_s == 48.0 * 1


def test_the_explanation_has_both_kinds_of_tokens() -> None:
    world = world_of("a")
    world.dispatch(world.request(1, blocks=4))
    request = world.request(2, blocks=2)
    (row,) = world.policy.explain(request, world.view(request, {0: 100}), world.now)
    assert (row.shares_s["queued_tokens"], row.shares_s["missing_tokens"]) == (512.0, 156.0)
    assert row.total_s == (512 + 156) * 2
