"""What the index gave up is asked for where it was lost, as long as it is found there often enough."""

from __future__ import annotations

import random

import pytest

from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import PromptBlocks
from warmroute_policies.hits import CREDITED, NO_HITS, Hits
from warmroute_policies.registry import make_policy
from warmroute_policies.survivors import Survivors, expected_there
from warmroute_policies.types import Outcome, RoutingRequest, Usage, WorkerSpec


def survivors_of(share: float) -> Survivors:
    survivors = Survivors()
    survivors.share = share
    return survivors


# --- the credit -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "tokens"), [(1, 261), (16, 256), (100, 200)])
def test_a_credit_is_the_expected_part_of_what_was_lost_in_whole_pages(page: int, tokens: int) -> None:
    """A quarter of 405 tokens is 101, on top of 160."""
    hits = survivors_of(0.25).credit(Hits({0: 10}, {10: 160}), 10, [0], 160, 565, page)
    assert dict(hits) == {0: tokens}
    assert hits.best == tokens
    assert expected_there(hits, 0)


def test_only_workers_that_hold_as_much_as_anybody_are_credited() -> None:
    hits = Hits({0: 10, 1: 10, 2: 4}, {10: 160, 4: 64})
    credited = survivors_of(1.0).credit(hits, 10, [0, 2, 3], 160, 480, 16)
    assert dict(credited) == {0: 480, 1: 160, 2: 64}
    assert [expected_there(credited, slot) for slot in range(4)] == [True, False, False, False]
    assert dict(hits) == {0: 160, 1: 160, 2: 64}, "a reader's hits are not written to"


def test_where_nobody_holds_any_of_a_prompt_whoever_lost_it_is_credited() -> None:
    assert dict(survivors_of(1.0).credit(NO_HITS, 0, [3, 5], 0, 100, 16)) == {3: 96, 5: 96}
    assert dict(NO_HITS) == {}


def test_a_worker_whose_answer_the_prompt_goes_on_from_is_known_better_and_keeps_its_hit() -> None:
    hits = Hits({0: CREDITED, 1: 10}, {CREDITED: 200, 10: 160})
    credited = survivors_of(1.0).credit(hits, 10, [0, 1], 160, 480, 16)
    assert dict(credited) == {0: 200, 1: 480}


def test_a_credit_of_less_than_a_page_is_none() -> None:
    hits = Hits({0: 10}, {10: 160})
    assert survivors_of(0.049).credit(hits, 10, [0], 160, 480, 16) is hits
    assert dict(survivors_of(0.05).credit(hits, 10, [0], 160, 480, 16)) == {0: 176}


@pytest.mark.parametrize("seed", range(20))
def test_hits_are_those_of_a_naive_computation_slot_by_slot(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(50):
        page, block_tokens = chance.choice([1, 16, 64]), chance.choice([100.0, 128.0, 131.5])
        depth = chance.randrange(8)
        depths = {slot: chance.randint(1, depth) for slot in range(6) if depth and chance.random() < 0.6}
        tokens_at = {d: int(d * block_tokens) // page * page for d in depths.values()}
        held, lost = int(depth * block_tokens), int((depth + chance.randint(1, 9)) * block_tokens)
        slots = [slot for slot in range(6) if chance.random() < 0.6]
        share = chance.choice([0.0, chance.random(), 1.0])
        found = survivors_of(share).credit(Hits(depths, tokens_at), depth, slots, held, lost, page)
        expected = {slot: tokens_at[d] for slot, d in depths.items()}
        tokens = (held + int(share * (lost - held))) // page * page
        for slot in slots:
            if depths.get(slot, 0) == depth and tokens > held:
                expected[slot] = tokens
        assert dict(found) == expected
        assert found.best == max(expected.values(), default=0)
        assert set(found.tokens_at) == set(found.depths.values()), "only depths that occur are priced"


@pytest.mark.parametrize(("found", "limit"), [(True, 1.0), (False, 0.02)])
def test_the_share_goes_to_where_prompts_say_it_is(found: bool, limit: float) -> None:
    survivors = Survivors()
    shares = [survivors.share]
    for _ in range(100):
        survivors.learn(found)
        shares.append(survivors.share)
    assert shares == sorted(shares, reverse=not found)
    assert survivors.share == pytest.approx(limit, abs=0.01)
    assert 0.0 < survivors.share < 1.0


def test_the_share_never_falls_below_a_fiftieth_and_rises_from_there_as_from_anywhere() -> None:
    survivors = Survivors()
    for _ in range(1_000):
        survivors.learn(False)
        assert survivors.share >= 0.02
    assert survivors.share == 0.02
    survivors.learn(True)
    assert survivors.share == pytest.approx(0.02 + 0.05 * 0.98)


def test_the_share_of_mixed_news_is_their_mean() -> None:
    survivors, chance = Survivors(), random.Random(4)
    seen = []
    for _ in range(2_000):
        survivors.learn(chance.random() < 0.2)
        seen.append(survivors.share)
    assert sum(seen[200:]) / len(seen[200:]) == pytest.approx(0.2, abs=0.03)


# --- in a balancer --------------------------------------------------------------------------------

BLOCKS = 20
BLOCK_TOKENS = 128
PROMPT_TOKENS = BLOCKS * BLOCK_TOKENS


class TwoWorkers:
    """A balancer, and two engines with an LRU cache of whole prompts each; one request at a time.

    `room`: prompts that an engine keeps; `declared`: prompts that it is believed to keep.
    """

    def __init__(self, room: int, declared: int) -> None:
        self.balancer = Balancer(make_policy("cache_aware", {}, 1))
        self.caches: dict[str, dict[int, None]] = {"a": {}, "b": {}}
        self.room = room
        self.count = 0
        for name in self.caches:
            capacity = declared * PROMPT_TOKENS
            self.balancer.add_worker(WorkerSpec(name, kv_capacity_tokens=capacity), 0.0)

    def blocks(self, prompt: int) -> PromptBlocks:
        first = 1 + prompt * 1_000
        return PromptBlocks.from_ids(range(first, first + BLOCKS), tokens_per_block=float(BLOCK_TOKENS))

    def ask(self, prompt: int) -> tuple[str, int, bool]:
        """The worker, the hit that was predicted, and whether there was one."""
        self.count += 1
        now = 10.0 * self.count
        decision = self.balancer.route(
            RoutingRequest(self.count, "m", self.blocks(prompt), PROMPT_TOKENS), now
        )
        cache = self.caches[decision.worker]
        hit = prompt in cache
        cache.pop(prompt, None)
        cache[prompt] = None
        if len(cache) > self.room:
            del cache[next(iter(cache))]
        self.balancer.first_token(self.count, now + 0.1)
        cached = PROMPT_TOKENS - 16 if hit else 0
        self.balancer.finish(self.count, Outcome.OK, Usage(PROMPT_TOKENS, 5, cached), now + 0.2)
        self.balancer.tick(now + 0.3)
        return decision.worker, decision.predicted_hit_tokens, hit

    def is_believed(self, prompt: int) -> bool:
        return bool(self.balancer.index.match(self.blocks(prompt)).depths)


# An odd number: in an idle fleet two workers take turns, and the second round is not like the first.
PROMPTS = 23


def test_prompts_that_only_the_belief_lost_return_to_where_they_are_and_the_belief_grows() -> None:
    fleet = TwoWorkers(room=16, declared=4)
    homes = [fleet.ask(prompt)[0] for prompt in range(PROMPTS)]
    asked = [[prompt for prompt, home in enumerate(homes) if home == worker] for worker in "ab"]
    believed = [prompt for prompt in range(PROMPTS) if fleet.is_believed(prompt)]
    assert believed == sorted(asked[0][-4:] + asked[1][-4:]), "four on each worker"
    assert all(prompt in fleet.caches[home] for prompt, home in enumerate(homes)), "engines have room for all"
    for prompt, home in enumerate(homes):
        is_believed = fleet.is_believed(prompt)
        worker, predicted, hit = fleet.ask(prompt)
        assert (worker, hit) == (home, True), f"prompt {prompt}"
        assert is_believed or 0.4 * PROMPT_TOKENS < predicted < PROMPT_TOKENS
    assert fleet.balancer.beliefs.survivors.share > 0.8
    for _ in range(2):
        for prompt, home in enumerate(homes):
            assert fleet.ask(prompt)[0] == home
    believed_prompts = [tokens / PROMPT_TOKENS for tokens in fleet.balancer.fleet.kv_capacity_tokens]
    assert all(11 < capacity < 16 for capacity in believed_prompts), "room for what is used, and not for more"
    assert all(fleet.is_believed(prompt) for prompt in range(PROMPTS))


def test_what_is_lost_in_truth_too_loses_its_credit_and_leaves_the_capacity_alone() -> None:
    fleet = TwoWorkers(room=4, declared=4)
    predicted = [[fleet.ask(prompt)[1] for prompt in range(PROMPTS)] for _ in range(10)]
    assert predicted[0] == [0] * PROMPTS, "nobody knows the prompts yet"
    assert min(predicted[1][:4]) > 0.3 * PROMPT_TOKENS
    first_turns = [turn[0] for turn in predicted[1:]]
    assert first_turns == sorted(first_turns, reverse=True)
    least = 3 * 16
    assert predicted[-1] == [least] * PROMPTS, "a fiftieth of a prompt, in whole pages"
    assert fleet.balancer.beliefs.survivors.share * PROMPT_TOKENS < least + 16
    assert fleet.balancer.fleet.kv_capacity_tokens == [4.0 * PROMPT_TOKENS] * 2


def test_a_worker_whose_cache_was_lost_is_no_place_to_look_for_what_it_had() -> None:
    fleet = TwoWorkers(room=16, declared=4)
    homes = [fleet.ask(prompt)[0] for prompt in range(PROMPTS)]
    for name, cache in fleet.caches.items():
        fleet.balancer.forget_cache(name, 500.0)
        cache.clear()
    assert set(homes) == {"a", "b"}
    assert [fleet.ask(prompt)[1:] for prompt in range(PROMPTS)] == [(0, False)] * PROMPTS
    assert fleet.balancer.beliefs.survivors.share == 0.5, "nobody was sent anywhere on a credit"


def test_a_dry_run_shows_the_credit_and_teaches_nothing() -> None:
    fleet = TwoWorkers(room=16, declared=4)
    homes = [fleet.ask(prompt)[0] for prompt in range(PROMPTS)]
    request = RoutingRequest(999, "m", fleet.blocks(0), PROMPT_TOKENS)
    for _ in range(3):
        worker, reason, rows = fleet.balancer.explain(request, 1_000.0)
        assert (worker, reason) == (homes[0], "warm")
        expected = {row.worker: row.predicted_hit_tokens for row in rows}
        assert expected == {homes[0]: (PROMPT_TOKENS - 1) // 2 // 16 * 16, ({"a", "b"} - {homes[0]}).pop(): 0}
    assert fleet.balancer.beliefs.survivors.share == 0.5


@pytest.mark.parametrize(("found", "rises"), [(0.0, False), (0.4, False), (0.6, True), (0.99, True)])
def test_a_prompt_found_what_was_lost_when_it_found_more_than_half_of_it(found: float, rises: bool) -> None:
    fleet = TwoWorkers(room=16, declared=4)
    homes = [fleet.ask(prompt)[0] for prompt in range(PROMPTS)]
    balancer, request = fleet.balancer, RoutingRequest(999, "m", fleet.blocks(0), PROMPT_TOKENS)
    assert balancer.route(request, 1_000.0).worker == homes[0]
    balancer.finish(999, Outcome.OK, Usage(PROMPT_TOKENS, 5, int(found * PROMPT_TOKENS)), 1_001.0)
    assert balancer.beliefs.survivors.share == pytest.approx(0.525 if rises else 0.475)


def test_a_failed_attempt_teaches_nothing_and_the_next_one_is_credited_anew() -> None:
    fleet = TwoWorkers(room=16, declared=4)
    homes = [fleet.ask(prompt)[0] for prompt in range(PROMPTS)]
    balancer = fleet.balancer
    assert (
        balancer.route(RoutingRequest(999, "m", fleet.blocks(0), PROMPT_TOKENS), 1_000.0).worker == homes[0]
    )
    again = balancer.reroute(999, 1_001.0)
    assert again.worker != homes[0]
    assert again.predicted_hit_tokens == 0
    balancer.finish(999, Outcome.OK, Usage(PROMPT_TOKENS, 5, 0), 1_002.0)
    assert balancer.beliefs.survivors.share == 0.5
