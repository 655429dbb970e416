"""llm-d's sticky-until-saturated, on decisions worked out by hand."""

from __future__ import annotations

import pytest

from warmroute_policies.blocks import NO_BLOCKS, PromptBlocks
from warmroute_policies.errors import ConfigError
from warmroute_policies.fleet import Fleet
from warmroute_policies.latency import DEFAULT_PRESET, PRESETS
from warmroute_policies.peers.llmd_index import LlmdIndex, LlmdIndexConfig
from warmroute_policies.peers.llmd_sticky_until_saturated import (
    LlmdStickyUntilSaturated,
    LlmdStickyUntilSaturatedConfig,
)
from warmroute_policies.policy import Choice, Completed, Dispatched, FirstToken
from warmroute_policies.rehearsal import World
from warmroute_policies.types import RoutingRequest, WorkerSpec

BLOCK = 128


def world_of(workers: int, config: LlmdStickyUntilSaturatedConfig | None = None) -> World:
    world = World(LlmdStickyUntilSaturated(config, seed=3))
    for number in range(workers):
        world.add(f"w{number}")
    return world


def prompt(request_id: int, *ids: int, tokens: int | None = None) -> RoutingRequest:
    """A prompt of these blocks of 128 tokens, and of `tokens` in all."""
    blocks = PromptBlocks.from_ids(ids, tokens_per_block=float(BLOCK))
    return RoutingRequest(request_id, "model", blocks, BLOCK * len(ids) if tokens is None else tokens)


def sent(world: World, slot: int, request: RoutingRequest) -> None:
    """The request goes to that slot, whatever the rule would say."""
    world.policy.observe(Dispatched(request, slot, 0), world.now)


def answers(world: World, slot: int, request: RoutingRequest) -> None:
    world.policy.observe(FirstToken(request, slot, 0.2), world.now)


def load(world: World, request: RoutingRequest) -> list[float]:
    rows = world.policy.explain(request, world.view(request), world.now)
    return [row.shares_s["queued_tokens"] + row.shares_s["uncached_tokens"] for row in rows]


def test_four_fifths_of_the_prompt_make_a_worker_sticky_and_a_token_less_does_not() -> None:
    world = world_of(3)
    first = prompt(1, 11, 12, 13, 14)
    sent(world, 1, first)
    answers(world, 1, first)
    sent(world, 1, prompt(2, tokens=5_000))  # 5,000 tokens wait on slot 1, nothing elsewhere
    # 512 of 640 tokens are exactly 0.8: slot 1, although 0 and 2 would compute 640 and it has 5,128 ahead.
    assert world.decide(prompt(3, 11, 12, 13, 14, 15)) == Choice(1, "sticky")
    assert load(world, prompt(3, 11, 12, 13, 14, 15)) == [640, 5_128, 640]
    # 512 of 641 are less: all are asked, and 641 beats 5,129.
    choice = world.decide(prompt(4, 11, 12, 13, 14, 15, tokens=641))
    assert (choice.reason, choice.slot in (0, 2)) == ("cold", True)


def test_below_the_threshold_a_hit_still_saves_what_it_saves() -> None:
    world = world_of(2)
    first = prompt(1, 11, 12)
    sent(world, 0, first)
    answers(world, 0, first)
    request = prompt(2, 11, 12, 13, 14)  # half of it is on slot 0
    assert world.decide(request) == Choice(0, "cold")
    sent(world, 0, prompt(3, tokens=256))  # 256 waiting and 256 to compute are 512, as many as on slot 1
    assert load(world, request) == [512, 512]
    assert {world.decide(prompt(i, 11, 12, 13, 14)).slot for i in range(10, 40)} == {0, 1}, "ties are drawn"
    sent(world, 0, prompt(4, tokens=1))
    assert world.decide(request) == Choice(1, "cold")


def test_the_valve_opens_above_18_seconds_of_queue_and_not_at_them() -> None:
    world = world_of(3)
    prefix = (11, 12, 13, 14, 15)
    warm = prompt(1, *prefix)
    sent(world, 0, warm)
    answers(world, 0, warm)
    # 18 s at 15,928 tokens/s are 286,704 tokens. Slot 1 has 100 waiting, slot 2 has 300.
    sent(world, 1, prompt(2, tokens=100))
    sent(world, 2, prompt(3, tokens=300))
    sent(world, 0, prompt(4, tokens=286_804))
    assert world.decide(prompt(5, *prefix)) == Choice(0, "sticky")
    sent(world, 0, prompt(6, tokens=1))
    # Now all are asked: 286,805 + 0 on slot 0, 100 + 640 on slot 1, 300 + 640 on slot 2.
    assert world.decide(prompt(7, *prefix)) == Choice(1, "released")
    assert load(world, prompt(7, *prefix)) == [286_805, 740, 940]


def test_an_open_valve_lets_the_request_stay_when_that_is_still_the_least_work() -> None:
    world = world_of(2, LlmdStickyUntilSaturatedConfig(r_peak=100.0, max_ttft_penalty_s=1.0))
    warm = prompt(1, *range(10))
    sent(world, 0, warm)
    answers(world, 0, warm)
    sent(world, 0, prompt(2, tokens=101))  # 1.01 s of queue: open, but 101 + 0 is less than 0 + 1,280
    assert world.decide(prompt(3, *range(10))) == Choice(0, "released")


def test_the_best_of_several_holders_is_the_one_that_counts() -> None:
    world = world_of(3, LlmdStickyUntilSaturatedConfig(r_peak=100.0, max_ttft_penalty_s=1.0))
    for slot in (0, 1):
        warm = prompt(slot, 11, 12)
        sent(world, slot, warm)
        answers(world, slot, warm)
    sent(world, 0, prompt(5, tokens=900))
    sent(world, 1, prompt(6, tokens=100))  # 1.00 s more than slot 2: not above
    assert world.decide(prompt(7, 11, 12)) == Choice(1, "sticky")


def test_a_penalty_of_0_never_opens_the_valve() -> None:
    world = world_of(2, LlmdStickyUntilSaturatedConfig(max_ttft_penalty_s=0.0))
    warm = prompt(1, 11, 12)
    sent(world, 0, warm)
    answers(world, 0, warm)
    sent(world, 0, prompt(2, tokens=4_000_000))
    assert world.decide(prompt(3, 11, 12)) == Choice(0, "sticky")


def test_uncached_tokens_wait_until_the_first_token_or_the_end() -> None:
    world = world_of(2)
    first, second, third = prompt(1, 11, 12, 13), prompt(2, 11, 12, 13, 14), prompt(3, tokens=50)
    asked = prompt(9, tokens=0)
    sent(world, 0, first)
    assert load(world, asked) == [384, 0]
    sent(world, 0, second)  # its first three blocks are indexed already: 128 tokens more
    assert load(world, asked) == [512, 0]
    answers(world, 0, first)
    assert load(world, asked) == [128, 0]
    sent(world, 0, third)
    world.policy.observe(Completed(third, 0, False, None, 0, None), world.now)
    world.policy.observe(Completed(first, 0, True, 0.2, 0, None), world.now)
    assert load(world, asked) == [128, 0]
    answers(world, 0, second)
    assert load(world, asked) == [0, 0]


def test_a_request_that_failed_waits_where_it_was_sent_again_and_stays_in_both_indices() -> None:
    world = world_of(2)
    request = prompt(1, 11, 12)
    sent(world, 0, request)
    sent(world, 1, request)
    assert load(world, prompt(9, tokens=0)) == [0, 256]
    assert load(world, prompt(2, 11, 12)) == [0, 256]


def test_a_worker_that_is_gone_leaves_nothing_to_the_next_one_in_its_slot() -> None:
    world = world_of(2)
    request = prompt(1, 11, 12)
    sent(world, 0, request)
    world.remove("w0")
    world.add("new")
    world.policy.observe(Completed(request, 0, True, 0.2, 0, None), world.now)
    assert load(world, prompt(2, 11, 12)) == [256, 256]


def test_loads_beyond_four_million_tokens_are_alike() -> None:
    world = world_of(2)
    sent(world, 0, prompt(1, tokens=5_000_000))
    sent(world, 1, prompt(2, tokens=9_000_000))
    assert {world.decide(prompt(i, 11)).slot for i in range(10, 40)} == {0, 1}


def test_a_request_without_a_prompt_goes_where_the_least_waits() -> None:
    world = world_of(2)
    sent(world, 0, prompt(1, tokens=10))
    assert world.decide(RoutingRequest(2, "model", NO_BLOCKS)) == Choice(1, "cold")


# --- the index ------------------------------------------------------------------------------------


def index_of(config: LlmdIndexConfig, *specs: WorkerSpec) -> LlmdIndex:
    fleet = Fleet({}, PRESETS[DEFAULT_PRESET].price)
    for spec in specs:
        fleet.add(spec, 0.0)
    index = LlmdIndex(config)
    index.follow(fleet)
    return index


def test_the_index_takes_an_entry_of_64_tokens_for_each_page_of_the_engine() -> None:
    index = index_of(
        LlmdIndexConfig(),
        WorkerSpec("a"),
        WorkerSpec("b", kv_capacity_tokens=400_000),
        WorkerSpec("c", kv_capacity_tokens=400_000, engine_block_tokens=256),
        WorkerSpec("d", kv_capacity_tokens=64, engine_block_tokens=256),
    )
    assert index.capacity(0) == 31_250 * 64 // 128
    assert index.capacity(1) == 25_000 * 64 // 128, "four times the 400,000 tokens that there are"
    assert index.capacity(2) == 1_562 * 256 // 128
    assert index.capacity(3) == 1, "a cache of less than a page still holds one block"
    assert index.capacity(9) == 31_250 * 64 // 128, "a slot that the fleet does not know"
    true = index_of(LlmdIndexConfig(entry_tokens=16), WorkerSpec("a", kv_capacity_tokens=400_000))
    assert true.capacity(0) == 400_000 // 128
    fixed = index_of(LlmdIndexConfig(auto_tune=False, lru_blocks=10), WorkerSpec("a", kv_capacity_tokens=400))
    assert fixed.capacity(0) == 5


def test_an_evicted_prompt_is_forgotten_head_first() -> None:
    index = index_of(LlmdIndexConfig(auto_tune=False, lru_blocks=8), WorkerSpec("a"), WorkerSpec("b"))
    index.add(prompt(1, 1, 2, 3, 4), 0)  # four blocks are all that eight entries of 64 tokens hold
    index.add(prompt(2, 21), 0)
    assert index.match(prompt(3, 1, 2, 3, 4)).cached_tokens == {}
    index.add(prompt(4, 1), 1)
    assert index.match(prompt(5, 1, 2, 3, 4)).cached_tokens == {0: 384, 1: 128}, "0 lacks the first block"


def test_a_prompt_is_looked_up_as_far_as_the_limit_and_computed_whole() -> None:
    index = index_of(LlmdIndexConfig(match_tokens_max=256), WorkerSpec("a"))
    index.add(prompt(1, 1, 2, 3, 4), 0)
    match = index.match(prompt(2, 1, 2, 3, 4, tokens=520))
    assert (match.indexed_tokens, match.cached_tokens) == (256, {0: 256})
    assert (match.hit(0), match.uncached(0)) == (1.0, 264)
    assert (match.hit(1), match.uncached(1)) == (0.0, 520)


def test_a_prompt_of_bytes_is_four_bytes_a_token_unless_it_was_counted() -> None:
    index = index_of(LlmdIndexConfig(), WorkerSpec("a"))
    blocks = PromptBlocks(b"x" * 1_100, salt=1)
    index.add(RoutingRequest(1, "model", blocks), 0)
    assert index.match(RoutingRequest(2, "model", blocks)).cached_tokens == {0: 256}
    assert index.match(RoutingRequest(3, "model", blocks)).prompt_tokens == 275
    counted = index.match(RoutingRequest(4, "model", blocks, prompt_tokens=550))  # two bytes a token
    assert (counted.prompt_tokens, counted.cached_tokens) == (550, {0: 512})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"threshold": 1.1}, "threshold must be between 0 and 1"),
        ({"max_ttft_penalty_s": -1.0}, "max_ttft_penalty_s must not be negative"),
        ({"r_peak": 0.0}, "r_peak must be above 0"),
        ({"lru_blocks": 0}, "lru_blocks must be at least 1"),
        ({"entry_tokens": 0}, "entry_tokens must be at least 1"),
        ({"match_tokens_max": 127}, "match_tokens_max must be at least a block"),
    ],
)
def test_parameters_out_of_range_are_refused(params: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LlmdStickyUntilSaturatedConfig(**params)  # type: ignore[arg-type]
