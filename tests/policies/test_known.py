"""What engines tell of their caches, against a naive model that keeps prompts as prefixes of symbols."""

from __future__ import annotations

import random

import pytest

from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import NO_BLOCKS, PromptBlocks, salt_of
from warmroute_policies.events import PolicySpec
from warmroute_policies.hits import NO_HITS, Hits
from warmroute_policies.journal import RecordedBalancer
from warmroute_policies.known import GRACE_S, BlockChange, KnownBlocks, Tier
from warmroute_policies.kv_blocks import chain, chain_one, pack_tokens, root_of
from warmroute_policies.registry import make_policy
from warmroute_policies.replay import replay
from warmroute_policies.types import Outcome, RoutingRequest, TokenPrompt, Usage, WorkerSpec

BLOCK = 4
ROOT = root_of()
LOAD_S = (0.0, 1e-5, 5e-5, 1e-4)
LINEAR_S = [1e-4] * 4


def run_of(tokens: list[int], block_tokens: int = BLOCK) -> bytes:
    return chain(ROOT, pack_tokens(tokens), block_tokens)


def prompt_of(tokens: list[int], *sizes: int) -> TokenPrompt:
    return TokenPrompt(len(tokens), {size: run_of(tokens, size) for size in sizes or (BLOCK,)})


def stored(tokens: list[int], tier: Tier = Tier.GPU) -> BlockChange:
    return BlockChange(True, tier, run_of(tokens))


def removed(tokens: list[int], first: int = 0, tier: Tier = Tier.GPU) -> BlockChange:
    """The blocks from the first on, as an engine evicts a tail."""
    return BlockChange(False, tier, run_of(tokens)[first * 8 :])


def hits_of(known: KnownBlocks, tokens: list[int], believed: Hits = NO_HITS) -> dict[int, int]:
    return dict(known.predict(prompt_of(tokens), believed, LINEAR_S))


# --- identity -----------------------------------------------------------------------------------


def test_ids_stand_for_a_block_and_all_before_it() -> None:
    one, other = list(range(64)), [*range(40), 99, *range(41, 64)]
    first, second = run_of(one), run_of(other)
    assert first[:80] == second[:80]  # ten blocks of four
    assert all(first[at : at + 8] != second[at : at + 8] for at in range(80, len(first), 8))


def test_a_chain_goes_on_from_any_of_its_blocks() -> None:
    tokens = list(range(100, 164))
    whole = run_of(tokens)
    parent = int.from_bytes(whole[5 * 8 : 6 * 8], "little")
    assert chain(parent, pack_tokens(tokens[24:]), BLOCK) == whole[6 * 8 :]


def test_a_rest_shorter_than_a_block_has_no_id() -> None:
    assert run_of([1, 2, 3]) == b""
    assert run_of([1, 2, 3, 4, 5]) == run_of([1, 2, 3, 4])


def test_tenants_and_adapters_share_no_block() -> None:
    roots = {root_of(), root_of("a"), root_of(None, "a"), root_of("a", "a"), root_of("b")}
    assert len(roots) == 5
    assert root_of("", "") == root_of()


def test_a_block_with_an_image_is_no_plain_block() -> None:
    tokens = pack_tokens([1, 2, 3, 4])
    plain = int.from_bytes(chain(ROOT, tokens, BLOCK), "little")
    assert plain != chain_one(ROOT, tokens, b"image 1") != chain_one(ROOT, tokens, b"image 2")


# --- what is held -----------------------------------------------------------------------------------


class Naive:
    """Prefixes held, by tier."""

    def __init__(self) -> None:
        self.tiers: list[set[tuple[int, ...]]] = [set() for _ in Tier]

    def depth(self, prompt: list[int], far: Tier) -> int:
        depth = 0
        while depth < len(prompt) // BLOCK and any(
            tuple(prompt[: (depth + 1) * BLOCK]) in self.tiers[tier] for tier in range(far + 1)
        ):
            depth += 1
        return depth


@pytest.mark.parametrize("seed", range(30))
def test_predictions_are_those_of_a_block_by_block_walk(seed: int) -> None:
    chance = random.Random(seed)
    known, naive = KnownBlocks(LOAD_S), [Naive() for _ in range(3)]
    for slot in range(3):
        known.know(slot, 0, BLOCK, True)
    prompts: list[list[int]] = [[]]
    for _ in range(200):
        base = chance.choice(prompts)
        cut = chance.randint(0, len(base))
        prompt = base[:cut] + [chance.randrange(3) for _ in range(chance.randint(0, 40))]
        prompts.append(prompt)
        slot, tier = chance.randrange(3), chance.choice([Tier.GPU, Tier.GPU, Tier.HOST, Tier.DISK])
        ends = range(BLOCK, len(prompt) + 1, BLOCK)
        if chance.random() < 0.7:
            known.change(slot, 0, [stored(prompt, tier)])
            naive[slot].tiers[tier] |= {tuple(prompt[:end]) for end in ends}
        elif ends:  # a tail goes, with all that goes on from it, as engines evict
            gone = tuple(prompt[: chance.choice(list(ends))])
            lost = {held for held in naive[slot].tiers[tier] if held[: len(gone)] == gone}
            naive[slot].tiers[tier] -= lost
            known.change(slot, 0, [removed(list(held), len(held) // BLOCK - 1, tier) for held in lost])
        asked = chance.choice(prompts)
        hits = known.predict(prompt_of(asked), NO_HITS, LINEAR_S)
        for slot in range(3):
            depths = [naive[slot].depth(asked, far) for far in (Tier.GPU, Tier.HOST, Tier.DISK)]
            cached = [min(depth * BLOCK, len(asked) - 1) // BLOCK * BLOCK if asked else 0 for depth in depths]
            worth = cached[0] + (cached[1] - cached[0]) * 0.9 + (cached[2] - cached[1]) * 0.5
            assert hits.cached(slot) == cached[2], f"seed {seed}"
            assert hits.tokens(slot) == pytest.approx(worth, abs=1), f"seed {seed}"


def test_an_engine_computes_the_last_token_of_a_prompt_that_is_cached_whole() -> None:
    known, tokens = KnownBlocks(LOAD_S), list(range(24 * BLOCK))
    known.know(0, 0, BLOCK, True)
    known.change(0, 0, [stored(tokens)])
    assert hits_of(known, tokens) == {0: 23 * BLOCK}
    assert hits_of(known, [*tokens, 7]) == {0: 24 * BLOCK}


def test_knowledge_takes_the_place_of_belief_and_a_part_of_it_only_adds() -> None:
    known, tokens = KnownBlocks(LOAD_S), list(range(80))
    known.know(0, 0, BLOCK, True)
    known.know(1, 0, BLOCK, False)
    known.change(1, 0, [stored(tokens[:20])])
    believed = Hits.of({0: 40, 1: 48, 2: 16})
    assert hits_of(known, tokens, believed) == {1: 48, 2: 16}
    known.change(1, 0, [stored(tokens)])
    assert hits_of(known, tokens, believed) == {1: 76, 2: 16}


def test_a_worker_with_another_size_of_block_is_asked_in_its_own() -> None:
    known, tokens = KnownBlocks(LOAD_S), list(range(64))
    known.know(0, 0, BLOCK, True)
    known.know(1, 0, 16, True)
    known.change(0, 0, [stored(tokens)])
    known.change(1, 0, [BlockChange(True, Tier.GPU, run_of(tokens, 16))])
    assert known.block_sizes() == (BLOCK, 16)
    prompt = prompt_of([*tokens, 1], BLOCK, 16)
    assert dict(known.predict(prompt, NO_HITS, LINEAR_S)) == {0: 64, 1: 64}
    assert dict(known.predict(prompt_of([*tokens, 1], 16), Hits.of({0: 8}), LINEAR_S)) == {0: 8, 1: 64}


def test_ranks_behind_one_worker_count_by_their_mean() -> None:
    known, tokens = KnownBlocks(LOAD_S), list(range(40))
    for rank in range(2):
        known.know(0, rank, BLOCK, True)
    known.change(0, 1, [stored(tokens)])
    assert hits_of(known, [*tokens, 1]) == {0: 20}
    assert known.expect(0, prompt_of(tokens)) is None


def test_a_cleared_cache_and_a_doubted_one_hold_nothing() -> None:
    known, tokens = KnownBlocks(LOAD_S), list(range(40))
    for slot in range(2):
        known.know(slot, 0, BLOCK, True)
        known.change(slot, 0, [stored(tokens)])
    known.clear(0, 0)
    known.doubt(1)
    believed = Hits.of({0: 8, 1: 8})
    assert hits_of(known, tokens, believed) == {1: 8}
    assert known.held(0) == [0, 0, 0, 0] == known.held(1)
    with pytest.raises(KeyError):
        known.change(1, 0, [stored(tokens)])


def test_what_is_thrown_away_is_emptied_piece_by_piece() -> None:
    known = KnownBlocks(LOAD_S)
    known.know(0, 0, 1, True)
    known.change(0, 0, [BlockChange(True, Tier.GPU, chain(ROOT, pack_tokens(list(range(20_000))), 1))])
    known.clear(0, 0)
    assert known.tick(0.0)
    assert known.tick(0.0)
    assert not known.tick(0.0)


# --- what dispatches make believe -----------------------------------------------------------------------


def balancer_of(count: int) -> Balancer:
    balancer = Balancer(make_policy("cache_aware"))
    for number in range(count):
        balancer.add_worker(WorkerSpec(f"http://w{number}", engine_block_tokens=BLOCK), 0.0)
        balancer.know_blocks(f"http://w{number}", 0, BLOCK, complete=True, now=0.0)
    return balancer


def request_of(number: int, tokens: list[int]) -> RoutingRequest:
    return RoutingRequest(
        number, "m", PromptBlocks(pack_tokens(tokens), salt_of("m")), len(tokens), exact=prompt_of(tokens)
    )


def test_siblings_meet_a_prompt_before_its_events_and_the_events_decide_in_the_end() -> None:
    balancer, tokens = balancer_of(4), list(range(4000))
    first = balancer.route(request_of(1, tokens), 0.0)
    assert first.predicted_hit_tokens == 0
    sibling = balancer.explain(request_of(2, tokens), 0.01)[2]
    assert {row.worker: row.predicted_hit_tokens for row in sibling}[first.worker] == 3996
    balancer.first_token(1, 0.5)
    balancer.finish(1, Outcome.OK, Usage(4000, 10, 0), 1.0)
    # The engine kept a half only: it says so, and the expectation ends.
    balancer.blocks_changed(first.worker, 0, [stored(tokens[:2000])], 1.1)
    balancer.tick(1.0 + GRACE_S)
    again = balancer.explain(request_of(3, tokens), 3.0)[2]
    assert {row.worker: row.predicted_hit_tokens for row in again}[first.worker] == 2000
    assert balancer.known.unconfirmed == {first.slot: 500}


@pytest.mark.parametrize("outcome", [Outcome.WORKER_ERROR, Outcome.CLIENT_GONE])
def test_a_prompt_that_was_not_prefilled_is_expected_nowhere(outcome: Outcome) -> None:
    balancer, tokens = balancer_of(2), list(range(400))
    balancer.route(request_of(1, tokens), 0.0)
    balancer.finish(1, outcome, None, 0.1)
    assert all(row.predicted_hit_tokens == 0 for row in balancer.explain(request_of(2, tokens), 0.2)[2])
    assert balancer.known.unconfirmed == {}


def test_a_retry_takes_its_expectation_along() -> None:
    balancer, tokens = balancer_of(2), list(range(400))
    first = balancer.route(request_of(1, tokens), 0.0)
    second = balancer.reroute(1, 0.1)
    held = {row.worker: row.predicted_hit_tokens for row in balancer.explain(request_of(2, tokens), 0.2)[2]}
    assert held == {first.worker: 0, second.worker: 396}


def test_two_siblings_end_one_after_the_other_and_leave_nothing_behind() -> None:
    balancer, tokens = balancer_of(1), list(range(400))
    for number in (1, 2):
        balancer.route(request_of(number, tokens[: 200 * number]), 0.0)
    for number in (1, 2):
        balancer.first_token(number, 0.1)
        balancer.finish(number, Outcome.OK, None, 0.2)
    balancer.tick(0.2 + GRACE_S)
    assert [row.predicted_hit_tokens for row in balancer.explain(request_of(3, tokens), 2.0)[2]] == [0]


def test_a_worker_that_leaves_takes_its_knowledge_along() -> None:
    balancer, tokens = balancer_of(2), list(range(400))
    first = balancer.route(request_of(1, tokens), 0.0)
    balancer.blocks_changed(first.worker, 0, [stored(tokens)], 0.1)
    balancer.remove_worker(first.worker, 0.2)
    balancer.finish(1, Outcome.OK, None, 0.3)
    balancer.add_worker(WorkerSpec("http://new"), 0.4)
    balancer.tick(5.0)
    rows = balancer.explain(RoutingRequest(9, "m", NO_BLOCKS, 400, exact=prompt_of(tokens)), 5.0)[2]
    assert {row.worker: row.predicted_hit_tokens for row in rows} == {
        row.worker: 0 for row in rows
    }  # the new one has its slot
    with pytest.raises(KeyError):
        balancer.blocks_changed(first.worker, 0, [stored(tokens)], 5.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_replay_of_what_engines_told_decides_the_same(seed: int) -> None:
    chance, lines = random.Random(seed), list[bytes]()
    spec = PolicySpec("cache_aware")
    balancer = RecordedBalancer(make_policy("cache_aware"), write=lines.append, made_by=spec)
    for number in range(3):
        balancer.add_worker(WorkerSpec(f"http://w{number}", engine_block_tokens=BLOCK), 0.0)
        balancer.know_blocks(f"http://w{number}", 0, BLOCK, complete=number > 0, now=0.0)
    now, prompts = 0.0, [[chance.randrange(9) for _ in range(1200)]]
    for number in range(1, 120):
        now += 0.1
        base = chance.choice(prompts)
        prompts.append(base[: chance.randint(0, len(base))] + [chance.randrange(9) for _ in range(300)])
        decision = balancer.route(request_of(number, prompts[-1]), now)
        if chance.random() < 0.8:
            balancer.first_token(number, now + 0.01)
            balancer.blocks_changed(decision.worker, 0, [stored(prompts[-1], chance.choice(list(Tier)))], now)
        balancer.finish(number, Outcome.OK, None, now + 0.02)
        worker = f"http://w{chance.randrange(3)}"
        match chance.randrange(20):
            case 0:
                balancer.blocks_cleared(worker, 0, now)
            case 1:
                balancer.doubt_blocks(worker, now)
                balancer.know_blocks(worker, 0, BLOCK, complete=True, now=now)
            case 2 | 3 | 4:
                balancer.blocks_changed(worker, 0, [removed(chance.choice(prompts), 3)], now)
        balancer.tick(now)
    verdicts = list(replay(lines))
    assert len(verdicts) == 119
    assert all(then == again for then, again in verdicts), f"seed {seed}"
    assert any(getattr(then, "predicted_hit_tokens", 0) for then, _ in verdicts)
