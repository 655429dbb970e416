"""Hit rates of the real traces against values that were published for them, with eight workers."""

from __future__ import annotations

import json
from gzip import open as open_gzip
from pathlib import Path
from random import Random
from statistics import fmean

import pytest

from warmroute_simulator.bounds.hits import hit_bounds
from warmroute_simulator.bounds.infinite import infinite_hits, single_infinite
from warmroute_simulator.bounds.pages import Pages
from warmroute_simulator.bounds.pooled import lru_hits
from warmroute_simulator.bounds.replay import replay
from warmroute_simulator.bounds.touches import Touches
from warmroute_simulator.traces.chains import ChainedPrompts
from warmroute_simulator.traces.formats import ReadOptions, read_trace
from warmroute_simulator.traces.trace import Trace

TRACES = Path(__file__).parents[3] / "../shared/traces"
MOONCAKE = TRACES / "mooncake" / "conversation_trace.jsonl.gz"
AGENTIC = TRACES / "agentic_coding" / "sessions_even.rle.jsonl.gz"
WORKERS, BLOCK = 8, 512
KV_TOKENS = (250_000, 500_000, 1_000_000, 3_000_000)
POINT = 0.01

needs_mooncake = pytest.mark.skipif(not MOONCAKE.exists(), reason=f"{MOONCAKE} is not here")
needs_agentic = pytest.mark.skipif(not AGENTIC.exists(), reason=f"{AGENTIC} is not here")


@pytest.fixture(scope="module")
def mooncake() -> Trace:
    return read_trace(MOONCAKE, ReadOptions())


@pytest.fixture(scope="module")
def pages(mooncake: Trace) -> Pages:
    return Pages(mooncake, BLOCK)


@pytest.fixture(scope="module")
def second_blocks() -> list[int]:
    with open_gzip(MOONCAKE, "rt") as lines:
        return [(json.loads(line)["hash_ids"] + [0, 0])[1] for line in lines]


@needs_mooncake
def test_one_endless_cache(mooncake: Trace) -> None:
    order = range(len(mooncake))
    # Full blocks and not the last token; tokens, so that blocks which end unfinished alike count.
    assert single_infinite(mooncake, order, 512) == pytest.approx(0.373, abs=0.0005)
    assert single_infinite(mooncake, order, 1) == pytest.approx(0.374, abs=0.0005)


@needs_mooncake
@pytest.mark.parametrize(
    ("kv_tokens", "published"), list(zip(KV_TOKENS, (0.086, 0.178, 0.266, 0.361), strict=True))
)
def test_one_lru_cache_of_all_workers_size(mooncake: Trace, kv_tokens: int, published: float) -> None:
    for page_tokens in (16, 512):
        bounds = hit_bounds(mooncake, range(len(mooncake)), page_tokens, WORKERS * kv_tokens)
        assert bounds.pooled_lru == pytest.approx(published, abs=POINT)
        assert bounds.pooled_lru < bounds.pooled_belady <= bounds.single_infinite


@needs_mooncake
def test_published_capacities_count_an_unfinished_block_as_a_whole_one(mooncake: Trace) -> None:
    prompts = ChainedPrompts(BLOCK)
    with open_gzip(MOONCAKE, "rt") as lines:
        for line in lines:
            ids = json.loads(line)["hash_ids"]
            prompts.add(ids, len(ids) * BLOCK)
    tree, leaves = prompts.tree()
    whole = Trace("in whole blocks", tree)
    for node in leaves:
        whole.add(node, 1)
    touches = Touches(Pages(whole, BLOCK), range(len(whole)))
    tokens = sum(map(mooncake.prompt_tokens, range(len(mooncake))))
    rates = [lru_hits(touches, WORKERS * kv_tokens // BLOCK) * BLOCK / tokens for kv_tokens in KV_TOKENS]
    assert rates == pytest.approx([0.086, 0.178, 0.266, 0.361], abs=0.001)
    assert infinite_hits(touches) * BLOCK / tokens == pytest.approx(0.374, abs=0.001)


@needs_mooncake
def test_round_robin(pages: Pages) -> None:
    order = range(len(pages.tails))
    fleet = replay(pages, order, [row % WORKERS for row in order], WORKERS)
    assert fleet.hit_rate == pytest.approx(0.139, abs=0.001)


@needs_mooncake
@pytest.mark.parametrize(
    ("kv_tokens", "published"), [(None, 0.131), *zip(KV_TOKENS, (0.049, 0.058, 0.075, 0.108), strict=True)]
)
@pytest.mark.parametrize("seed", range(3))
def test_random(pages: Pages, kv_tokens: int | None, published: float, seed: int) -> None:
    order = range(len(pages.tails))
    workers = Random(seed).choices(range(WORKERS), k=len(order))
    fleet = replay(pages, order, workers, WORKERS, kv_tokens)
    assert fleet.hit_rate == pytest.approx(published, abs=POINT)
    assert fleet.imbalance < 1.2


@needs_mooncake
@pytest.mark.parametrize(
    ("kv_tokens", "published"), [(None, 0.374), *zip(KV_TOKENS, (0.087, 0.172, 0.265, 0.361), strict=True)]
)
def test_a_hash_of_the_first_two_blocks_keeps_conversations_together(
    pages: Pages, second_blocks: list[int], kv_tokens: int | None, published: float
) -> None:
    order = range(len(pages.tails))
    chance = Random(0)
    rates = []
    for _ in range(6):  # in a cache that is much too small it matters who meets whom
        worker_of = {block: chance.randrange(WORKERS) for block in sorted(set(second_blocks))}
        workers = [worker_of[block] for block in second_blocks]
        rates.append(replay(pages, order, workers, WORKERS, kv_tokens).hit_rate)
    assert fmean(rates) == pytest.approx(published, abs=POINT)


@needs_mooncake
def test_no_load_in_mind_the_block_that_all_share_pulls_everything_to_one_worker(pages: Pages) -> None:
    order = range(len(pages.tails))
    fleet = replay(pages, order, [0] * len(order), WORKERS, 1_000_000)
    assert fleet.imbalance == WORKERS
    assert fleet.hit_rate == pytest.approx(0.05, abs=POINT)


@needs_agentic
def test_sessions_share_nothing_so_their_endless_hits_do_not_depend_on_the_order() -> None:
    trace = read_trace(AGENTIC, ReadOptions())
    forward = single_infinite(trace, range(len(trace)), BLOCK)
    assert forward == pytest.approx(0.963, abs=0.001)
    shared = read_trace(AGENTIC, ReadOptions(share_prefixes=True))
    assert single_infinite(shared, range(len(shared)), BLOCK) > forward
