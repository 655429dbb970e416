"""What answers teach about a worker's capacity, in a fleet of engines with a real LRU each."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from math import inf

import pytest

from warmroute_policies.blocks import PromptBlocks
from warmroute_policies.capacity import CUT_FLOOR, GROWTH, RESTART_MISSES, CapacityBelief, Lesson
from warmroute_policies.index import PrefixIndex

TOKENS_PER_BLOCK = 128.0

Ids = tuple[int, ...]


class Engine:
    """A paged cache of `capacity` blocks: LRU, of one request the tail goes before the head."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used: dict[int, None] = {}

    def serve(self, ids: Ids) -> int:
        """The cached tokens of a prompt, which is all in the cache afterwards."""
        hit = 0
        while hit < len(ids) and ids[hit] in self.used:
            hit += 1
        for block in reversed(ids):
            self.used.pop(block, None)
            self.used[block] = None
        while len(self.used) > self.capacity:
            del self.used[next(iter(self.used))]
        return int(hit * TOKENS_PER_BLOCK)


def sessions(chance: random.Random, alive: int) -> Iterator[Ids]:
    """Conversations on three system prompts that grow by a few blocks a turn; popular ones come often."""
    fresh = iter(range(1, 10**9))
    systems = [tuple(next(fresh) for _ in range(12)) for _ in range(3)]
    prompts = [chance.choice(systems) for _ in range(alive)]
    weights = [1 / (1 + at) ** 0.5 for at in range(alive)]
    while True:
        (at,) = chance.choices(range(alive), weights)
        if len(prompts[at]) > 80:
            prompts[at] = chance.choice(systems)
        prompts[at] += tuple(next(fresh) for _ in range(chance.randint(2, 8)))
        yield prompts[at]


def hit_rate(seed: int, start: float, capacity: int = 900, turns: int = 8_000) -> float:
    """Cached share of the blocks in the second half, when all beliefs begin at `start` blocks.

    A prompt goes to the worker that is believed to hold most of it, and where none holds half to the
    one that was given least.
    """
    chance = random.Random(seed)
    engines = [Engine(capacity) for _ in range(4)]
    index, given = PrefixIndex(), Counter(dict.fromkeys(range(4), 0))
    belief = CapacityBelief(index)
    for slot in range(4):
        belief.declare(slot, start * TOKENS_PER_BLOCK, TOKENS_PER_BLOCK)
    hits = total = 0
    requests = sessions(chance, 90)
    for turn in range(turns):
        ids = next(requests)
        blocks = PromptBlocks.from_ids(ids)
        match = index.match(blocks)
        slot = max(match.depths, key=match.depths.__getitem__, default=0)
        if match.depths.get(slot, 0) < len(ids) / 2:
            slot = min(given, key=given.__getitem__)
        given[slot] += len(ids) - match.depths.get(slot, 0)
        insertion = index.insert(slot, blocks, match)
        cached = engines[slot].serve(ids)
        belief.learn(slot, blocks, insertion, cached, TOKENS_PER_BLOCK)
        index.maintain()
        if turn >= turns / 2:
            hits += cached
            total += len(ids)
    index.check_integrity()
    return hits / total / TOKENS_PER_BLOCK


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.25, 4, inf])
def test_a_wrong_capacity_recovers_the_hit_rate_of_the_true_one(seed: int, share: float) -> None:
    true = hit_rate(seed, 900)
    assert hit_rate(seed, 900 * share) > true - 0.02


class Talk:
    """One slot that is told what its engine cached, prompt by prompt."""

    def __init__(self, capacity_blocks: float | None, engine: Engine) -> None:
        self.index, self.engine = PrefixIndex(), engine
        self.belief = CapacityBelief(self.index)
        tokens = None if capacity_blocks is None else capacity_blocks * TOKENS_PER_BLOCK
        self.belief.declare(0, tokens, TOKENS_PER_BLOCK)

    @property
    def believed_blocks(self) -> float:
        return self.belief.tokens(0) / TOKENS_PER_BLOCK

    def say(self, ids: Ids, surplus_tokens: int = 0, settled: bool = True) -> Lesson:
        blocks = PromptBlocks.from_ids(ids)
        insertion = self.index.insert(0, blocks, self.index.match(blocks))
        cached = self.engine.serve(ids) + surplus_tokens
        return self.belief.learn(0, blocks, insertion, cached, TOKENS_PER_BLOCK, settled)

    def held(self, ids: Ids) -> int:
        return self.index.match(PromptBlocks.from_ids(ids)).depths.get(0, 0)


def prompt(number: int, blocks: int = 20) -> Ids:
    return tuple(range(1 + number * 1000, 1 + number * 1000 + blocks))


def test_a_hit_on_what_was_evicted_grows_the_belief() -> None:
    talk = Talk(60, Engine(200))
    for number in range(5):
        talk.say(prompt(number))
    assert talk.held(prompt(0)) == 0
    assert talk.say(prompt(0)) is Lesson.GREW
    assert talk.believed_blocks == pytest.approx(60 * GROWTH)


def test_a_surplus_that_was_never_evicted_teaches_nothing() -> None:
    talk = Talk(60, Engine(200))
    talk.say(prompt(0))
    grown = (*prompt(0), *prompt(7))
    # The engine kept its own answer, ten blocks of it, which the prompt repeats.
    assert talk.say(grown, surplus_tokens=int(10 * TOKENS_PER_BLOCK)) is Lesson.NOTHING
    assert talk.believed_blocks == 60


def test_rounding_teaches_nothing_in_either_direction() -> None:
    talk = Talk(60, Engine(200))
    talk.say(prompt(0))
    for tokens in (-250, -128, -1, 0, 1, 128, 250):
        assert talk.say(prompt(0), surplus_tokens=tokens) is Lesson.NOTHING
    assert talk.believed_blocks == 60


def test_a_miss_cuts_the_belief_towards_the_stack_distance() -> None:
    talk = Talk(None, Engine(100))
    for number in range(6):  # 120 blocks
        talk.say(prompt(number))
    assert talk.say(prompt(0)) is Lesson.CUT
    # 100 blocks of other prompts and none of its own were used since.
    assert CUT_FLOOR * 120 <= talk.believed_blocks <= 120


def test_one_miss_never_cuts_more_than_a_tenth() -> None:
    talk = Talk(100, Engine(30))
    for number in range(5):
        talk.say(prompt(number))
    assert talk.say(prompt(3)) is Lesson.CUT  # only 20 blocks were used since
    assert talk.believed_blocks == pytest.approx(90)


def test_a_miss_forgets_what_continued_there_and_keeps_the_prompt_itself() -> None:
    talk = Talk(None, Engine(70))
    base = prompt(0)
    other = (*base, *prompt(1, 5))
    talk.say(other)
    talk.say(base)
    for number in range(2, 6):
        talk.say(prompt(number))
    assert talk.held(other) == 25
    assert talk.say(base) is Lesson.CUT
    assert talk.held(base) == 20
    assert talk.held(other) == 20


@pytest.mark.parametrize(("cached", "lesson"), [(None, Lesson.NOTHING), (0, Lesson.CUT)])
def test_an_engine_that_does_not_report_teaches_nothing_and_zero_is_a_report(
    cached: int | None, lesson: Lesson
) -> None:
    index = PrefixIndex()
    belief = CapacityBelief(index)
    for number in range(3):
        blocks = PromptBlocks.from_ids(prompt(number))
        index.insert(0, blocks, index.match(blocks))
    again = PromptBlocks.from_ids(prompt(0))
    insertion = index.insert(0, again, index.match(again))
    assert insertion.held == 20
    assert belief.learn(0, again, insertion, cached, TOKENS_PER_BLOCK) is lesson


def restarted_talk() -> tuple[Talk, list[Lesson]]:
    """An engine that lost its cache after 20 prompts, and is asked for the latest ones again."""
    talk = Talk(1_000, Engine(1_000))
    for number in range(20):
        talk.say(prompt(number))
    talk.engine.used.clear()
    return talk, [talk.say(prompt(number)) for number in range(19, 19 - RESTART_MISSES, -1)]


def test_misses_of_recent_blocks_in_a_row_mean_a_restart() -> None:
    talk, lessons = restarted_talk()
    assert lessons == [Lesson.LOST] * (RESTART_MISSES - 1) + [Lesson.RESTARTED]
    assert talk.held(prompt(0)) == 0
    while talk.index.maintain():
        pass
    assert talk.index.resident(0) == 0
    assert talk.believed_blocks == 1_000


def test_a_hit_between_misses_is_no_restart() -> None:
    talk = Talk(1_000, Engine(1_000))
    for number in range(20):
        talk.say(prompt(number))
    for number in (19, 18, 19, 18, 19, 18):
        for block in prompt(number):
            del talk.engine.used[block]
        assert talk.say(prompt(number)) is Lesson.LOST
        assert talk.say(prompt(number)) is Lesson.NOTHING
    assert talk.held(prompt(0)) == 20


def test_a_prefix_that_may_still_be_computed_is_no_miss() -> None:
    talk = Talk(1_000, Engine(1_000))
    for number in range(20):
        talk.say(prompt(number))
    for _ in range(2 * RESTART_MISSES):
        talk.engine.used.clear()
        assert talk.say(prompt(19), settled=False) is Lesson.NOTHING
    assert talk.held(prompt(0)) == 20


def test_capacity_is_kept_in_tokens() -> None:
    index = PrefixIndex()
    belief = CapacityBelief(index)
    belief.declare(0, 12_800, 128.0)
    for number in range(20):
        blocks = PromptBlocks.from_ids(prompt(number))
        index.insert(0, blocks, index.match(blocks))
    assert 98 <= index.resident(0) <= 100
    belief.declare(0, 12_800, 256.0)
    while index.maintain():
        pass
    assert 48 <= index.resident(0) <= 50


def test_nothing_is_known_of_a_slot_that_was_dropped_or_never_declared() -> None:
    belief = CapacityBelief(PrefixIndex())
    assert belief.tokens(3) == inf
    belief.declare(3, 100, 1.0)
    belief.drop_slot(3)
    assert belief.tokens(3) == inf


def test_a_miss_while_prefills_wait_forgets_what_is_gone_and_leaves_the_capacity() -> None:
    talk = Talk(400, Engine(100))
    grown = (*prompt(0), *prompt(50))
    talk.say(grown)
    for number in range(1, 12):
        talk.say(prompt(number))
    believed = talk.believed_blocks
    assert talk.held(grown) == 40
    assert talk.say(prompt(0), settled=False) is Lesson.NOTHING
    assert talk.believed_blocks == believed
    assert talk.held(grown) == 20, "what continued the block that was missing is forgotten"
    assert talk.say(prompt(1)) is Lesson.CUT
