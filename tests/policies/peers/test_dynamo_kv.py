"""Dynamo's KV router, on decisions worked out by hand and on two that its own binary logged."""

from __future__ import annotations

from collections import Counter
from math import exp

import pytest

from warmroute_policies.blocks import NO_BLOCKS, PromptBlocks
from warmroute_policies.conformance import check_policy
from warmroute_policies.errors import ConfigError
from warmroute_policies.peers.dynamo_kv import DynamoKv, DynamoKvConfig
from warmroute_policies.policy import Choice, Completed, Dispatched, FirstToken, FleetChanged, View
from warmroute_policies.rehearsal import World
from warmroute_policies.types import RoutingRequest, WorkerSpec

BLOCK = 128
PAGES = 8
"""Pages of 16 tokens in a block."""


def world_of(workers: int, config: DynamoKvConfig | None = None) -> World:
    world = World(DynamoKv(config, seed=3))
    for number in range(workers):
        world.add(f"w{number}")
    return world


def prompt(request_id: int, *ids: int, tokens: int | None = None) -> RoutingRequest:
    blocks = PromptBlocks.from_ids(ids, tokens_per_block=float(BLOCK))
    return RoutingRequest(request_id, "model", blocks, BLOCK * len(ids) if tokens is None else tokens)


def seen(world: World, request: RoutingRequest, hits: dict[int, int] | None = None) -> View:
    view = world.view(request, hits)
    assert request.prompt_tokens is not None
    return View(view.fleet, view.eligible, view.kinds, view.gate_s, view.hits, request.prompt_tokens, None)


def costs(
    world: World, request: RoutingRequest, hits: dict[int, int] | None = None
) -> list[tuple[float, float]]:
    """Pages to prefill and pages to decode, by worker."""
    rows = world.policy.explain(request, seen(world, request, hits), world.now)
    return [(row.shares_s["prefill_pages"], row.shares_s["decode_pages"]) for row in rows]


def decide(world: World, request: RoutingRequest, hits: dict[int, int] | None = None) -> Choice:
    return world.policy.decide(request, seen(world, request, hits), world.now)


def sent(world: World, slot: int, request: RoutingRequest, uncached_tokens: int = 0) -> None:
    """The request goes to that slot; the fleet books what our index does not believe to be there."""
    tokens = request.prompt_tokens or 0
    world.fleet.book(slot, request.request_id, tokens, uncached_tokens, world.now)
    world.policy.observe(Dispatched(request, slot, tokens - uncached_tokens), world.now)


def answers(world: World, slot: int, request: RoutingRequest) -> None:
    world.fleet.prefill_done(slot, request.request_id, world.now)
    world.policy.observe(FirstToken(request, slot, 0.2), world.now)


def ends(world: World, slot: int, request: RoutingRequest) -> None:
    world.fleet.release(slot, request.request_id, world.now)
    world.policy.observe(Completed(request, slot, True, 0.2, 0, None), world.now)


# --- with KV events -------------------------------------------------------------------------------


def test_a_prompt_of_235_tokens_costs_what_the_original_logged() -> None:
    world = world_of(1)
    request = prompt(1, 11, tokens=235)
    assert costs(world, request) == [(14.6875, 14)]
    assert costs(world, request, {0: 224}) == [(0.6875, 14)]


def test_a_hit_is_weighed_against_the_pages_that_others_have_in_use() -> None:
    world = world_of(2)
    # Three prompts of 1,024 tokens decode on slot 0: 3·64 pages.
    for number in range(3):
        request = prompt(number, *range(number * 100, number * 100 + 8))
        sent(world, 0, request)
        answers(world, 0, request)
    asked = prompt(9, *range(1_000, 1_024))  # 3,072 tokens are 192 pages
    assert costs(world, asked, {0: 3_056}) == [(1, 384), (192, 192)]
    assert decide(world, asked, {0: 3_056}) == Choice(1, "least"), "385 against 384"
    ends(world, 0, prompt(0, *range(8)))
    assert costs(world, asked, {0: 3_056}) == [(1, 320), (192, 192)]
    assert decide(world, asked, {0: 3_056}) == Choice(0, "least")


def test_what_waits_is_charged_whole_until_the_first_token_and_in_use_until_the_end() -> None:
    world = world_of(2)
    first = prompt(1, 11, 12, 13, 14)
    sent(world, 0, first, uncached_tokens=272)  # 17 pages
    asked = prompt(2, 21, 22)
    assert costs(world, asked) == [(17 + 16, 32 + 16), (16, 16)]
    world.now += 0.05  # half done, and still charged whole
    assert costs(world, asked)[0] == (33, 48)
    answers(world, 0, first)
    assert costs(world, asked)[0] == (16, 48)
    ends(world, 0, first)
    assert costs(world, asked)[0] == (16, 16)


def test_blocks_that_are_in_use_already_are_not_counted_again() -> None:
    world = world_of(2)
    first = prompt(1, 11, 12, 13, tokens=3 * BLOCK + 40)  # two whole pages behind the blocks
    sent(world, 0, first)
    answers(world, 0, first)
    asked = prompt(2, 11, 12, 99, tokens=3 * BLOCK + 15)  # none
    assert [decode for _, decode in costs(world, asked)] == [3 * PAGES + 2 + PAGES, 3 * PAGES]
    second = prompt(3, 11, 12, 99, tokens=3 * BLOCK + 15)
    sent(world, 0, second)
    ends(world, 0, first)
    assert [decode for _, decode in costs(world, asked)] == [3 * PAGES, 3 * PAGES]


def test_equal_costs_are_drawn() -> None:
    world = world_of(3)
    assert {decide(world, prompt(i, 11)).slot for i in range(40)} == {0, 1, 2}


def test_a_request_that_is_sent_again_is_in_use_in_one_place() -> None:
    world = world_of(2)
    request = prompt(1, 11, 12)
    for slot in (0, 1):
        world.policy.observe(Dispatched(request, slot, 0), world.now)
    assert [decode for _, decode in costs(world, prompt(2, 21))] == [PAGES, 3 * PAGES]


def test_pages_are_those_that_the_engine_declares() -> None:
    world = world_of(0)
    for number, page in enumerate((16, 64, 256)):
        spec = WorkerSpec(f"http://w{number}:8000", engine_block_tokens=page)
        slot = world.fleet.add(spec, world.now)
        world.policy.observe(FleetChanged(spec.worker_id, slot, True), world.now)
    asked = prompt(1, 11, 12, 13, tokens=450)
    decide(world, asked)  # with its first view the rule sees what engines declare
    assert costs(world, asked, {1: 130, 2: 384}) == [(450 / 16, 28), (450 / 64 - 2, 7), (450 / 256 - 1, 1)]
    for slot in range(3):
        sent(world, slot, prompt(10 + slot, 11, 12, 13, tokens=450))
    assert [decode for _, decode in costs(world, prompt(2, tokens=0))] == [28, 7, 1]


def test_credit_scale_and_weight_enter_as_the_formula_says() -> None:
    config = DynamoKvConfig(credit=0.5, prefill_load_scale=2.0, request_weight=3.0)
    world = world_of(2, config)
    first = prompt(1, 11, 12)
    sent(world, 0, first, uncached_tokens=160)
    asked = prompt(2, 21, 22)
    (row, _) = world.policy.explain(asked, seen(world, asked, {0: 240}), world.now)
    # 2·(10 + 16 − 0.5·15), 16 + 16, 3·1.
    assert (row.shares_s["prefill_pages"], row.shares_s["request_pages"], row.total_s) == (37, 3, 72)


def test_prefill_never_costs_less_than_nothing() -> None:
    world = world_of(1, DynamoKvConfig(credit=2.0))
    assert costs(world, prompt(1, 11, 12), {0: 240}) == [(0, 16)]


def test_with_decay_credit_shrinks_by_the_queue_beyond_the_shortest() -> None:
    world = world_of(3, DynamoKvConfig(credit_decay=1.0))
    sent(world, 0, prompt(1, tokens=320), uncached_tokens=320)  # 20 pages
    sent(world, 1, prompt(2, tokens=64), uncached_tokens=64)  # 4 pages
    asked = prompt(9, 11, 12)  # 16 pages
    hits = {0: 240, 1: 240, 2: 240}  # 15 pages
    found = [prefill for prefill, _ in costs(world, asked, hits)]
    assert found == [20 + 16 - 15 / (1 + 20 / 16), 4 + 16 - 15 / (1 + 4 / 16), 16 - 15]


def test_a_temperature_draws_by_the_softmax_of_costs_between_least_and_most() -> None:
    world = world_of(3, DynamoKvConfig(temperature=0.5))
    request = prompt(1, *range(8))  # 64 pages
    hits = {1: 512, 2: 1_024}  # costs 128, 96 and 64: 1, 0.5 and 0 of their span
    drawn = Counter(decide(world, prompt(i, *range(8)), hits).slot for i in range(4_000))
    weights = [exp(-1 / 0.5), exp(-0.5 / 0.5), 1.0]
    for slot, weight in enumerate(weights):
        assert drawn[slot] / 4_000 == pytest.approx(weight / sum(weights), abs=0.02)
    assert decide(world, request, hits).reason == "drawn"
    assert {decide(world, prompt(i, *range(8))).slot for i in range(40)} == {0, 1, 2}, "no span: all alike"
    world.mark("w2", healthy=False)
    assert {decide(world, prompt(i, *range(8)), hits).slot for i in range(40)} == {0, 1}


def test_a_temperature_near_0_is_the_least() -> None:
    world = world_of(3, DynamoKvConfig(temperature=5e-324))
    assert {decide(world, prompt(i, *range(8)), {1: 16}).slot for i in range(40)} == {1}


def test_the_next_worker_in_a_slot_begins_empty() -> None:
    for ttl_s in (0.0, 120.0):
        world = world_of(2, DynamoKvConfig(ttl_s=ttl_s))
        request = prompt(1, 11, 12)
        world.policy.observe(Dispatched(request, 0, 0), world.now)
        world.remove("w0")
        world.add("new")
        world.policy.observe(Completed(request, 0, True, 0.2, 0, None), world.now)
        assert costs(world, prompt(2, 11, 12)) == [(16, 16), (16, 16)]


def test_a_request_without_a_prompt_goes_where_the_least_is_in_use() -> None:
    for ttl_s in (0.0, 120.0):
        world = world_of(2, DynamoKvConfig(ttl_s=ttl_s))
        world.policy.observe(Dispatched(prompt(1, 11), 0, 0), world.now)
        assert world.decide(RoutingRequest(2, "model", NO_BLOCKS)) == Choice(1, "least")


# --- without KV events ----------------------------------------------------------------------------


def test_the_approximate_mode_knows_what_it_sent_for_120_seconds_whatever_our_index_says() -> None:
    world = world_of(2, DynamoKvConfig(ttl_s=120.0))
    first = prompt(1, 11, 12, 13)
    sent(world, 0, first)
    answers(world, 0, first)
    ends(world, 0, first)
    asked = prompt(2, 11, 12, 99)
    assert costs(world, asked, {1: 368}) == [(8, 24), (24, 24)]
    world.now += 119.0
    assert costs(world, asked) == [(8, 24), (24, 24)]
    world.now += 1.0
    assert costs(world, asked) == [(24, 24), (24, 24)]


def test_the_approximate_mode_charges_what_it_took_to_be_missing() -> None:
    world = world_of(1, DynamoKvConfig(ttl_s=120.0))
    first, second = prompt(1, 11, 12), prompt(2, 11, 12, 13)
    nothing = prompt(9, tokens=0)
    sent(world, 0, first)
    assert costs(world, nothing) == [(16, 16)]
    sent(world, 0, second)  # two blocks of its three were sent before
    assert costs(world, nothing) == [(24, 24)]
    answers(world, 0, first)
    assert costs(world, nothing) == [(8, 24)]
    ends(world, 0, second)
    assert costs(world, nothing) == [(0, 16)]


def test_a_prompt_that_is_repeated_whole_costs_its_rest() -> None:
    world = world_of(1, DynamoKvConfig(ttl_s=120.0))
    first = prompt(1, 11, 12, tokens=260)
    sent(world, 0, first)
    answers(world, 0, first)
    assert costs(world, prompt(2, 11, 12, tokens=260)) == [(260 / 16 - 16, 16)]


def test_the_approximate_mode_keeps_the_rules_of_a_policy() -> None:
    check_policy(lambda seed: DynamoKv(DynamoKvConfig(ttl_s=0.5, ttl_blocks_max=40), seed))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"credit": -1.0}, "credit must not be negative"),
        ({"credit_decay": -1.0}, "credit_decay must not be negative"),
        ({"prefill_load_scale": -1.0}, "prefill_load_scale must not be negative"),
        ({"request_weight": -1.0}, "request_weight must not be negative"),
        ({"temperature": -0.1}, "temperature must not be negative"),
        ({"ttl_s": -1.0}, "ttl_s must not be negative"),
        ({"ttl_blocks_max": 0}, "ttl_blocks_max must be at least 1"),
    ],
)
def test_parameters_out_of_range_are_refused(params: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DynamoKvConfig(**params)  # type: ignore[arg-type]
