"""What answers teach about a worker's capacity, in a fleet of engines with a real LRU each."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from math import inf

import pytest

from warmroute_policies.blocks import PromptBlocks
from warmroute_policies.capacity import (
    CUT_FLOOR,
    GROWTH,
    RESTART_LEAST_BLOCKS,
    CapacityBelief,
    Lesson,
)
from warmroute_policies.index import PrefixIndex

TOKENS_PER_BLOCK = 128.0
ROW = 3
"""Misses in a row that mean a restart where predictions hold."""

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
        self.index, self.engine, self.now = PrefixIndex(), engine, 0.0
        self.belief = CapacityBelief(self.index)
        tokens = None if capacity_blocks is None else capacity_blocks * TOKENS_PER_BLOCK
        self.belief.declare(0, tokens, TOKENS_PER_BLOCK)

    @property
    def believed_blocks(self) -> float:
        return self.belief.tokens(0) / TOKENS_PER_BLOCK

    def say(
        self, ids: Ids, surplus_tokens: int = 0, settled: bool = True, dispatched_at: float | None = None
    ) -> Lesson:
        """`dispatched_at`: when it was sent; else just now, a second after the one before."""
        self.now += 1.0
        blocks = PromptBlocks.from_ids(ids)
        insertion = self.index.insert(0, blocks, self.index.match(blocks))
        cached = self.engine.serve(ids) + surplus_tokens
        sent_at = self.now if dispatched_at is None else dispatched_at
        return self.belief.learn(0, blocks, insertion, cached, TOKENS_PER_BLOCK, settled, sent_at)

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


@pytest.mark.parametrize("settled", [True, False])
def test_a_cache_of_which_nothing_is_believed_any_more_keeps_its_capacity(settled: bool) -> None:
    index = PrefixIndex()
    belief = CapacityBelief(index)
    belief.declare(0, 1_000 * TOKENS_PER_BLOCK, TOKENS_PER_BLOCK)
    blocks = PromptBlocks.from_ids(prompt(0))
    index.insert(0, blocks, index.match(blocks))
    insertion = index.insert(0, blocks, index.match(blocks))
    index.drop_slot(0)
    while index.maintain():
        pass
    assert belief.learn(0, blocks, insertion, 0, TOKENS_PER_BLOCK, settled) in {Lesson.LOST, Lesson.NOTHING}
    assert belief.tokens(0) == 1_000 * TOKENS_PER_BLOCK


# --- restarts -------------------------------------------------------------------------------------


def warm_talk(prompts: int = 20, blocks: int = 20, capacity: int = 1_000) -> Talk:
    """An engine that holds so many prompts of so many blocks, and is believed to."""
    talk = Talk(capacity, Engine(capacity))
    for number in range(prompts):
        assert talk.say(prompt(number, blocks)) is Lesson.NOTHING
    return talk


def forgets(engine: Engine, ids: Ids) -> None:
    for block in ids:
        del engine.used[block]


def row_of_misses(talk: Talk, numbers: Iterable[int]) -> list[Lesson]:
    """What each of the prompts teaches after the cache was lost, up to the one that means a restart."""
    talk.engine.used.clear()
    lessons = []
    for number in numbers:
        lessons.append(talk.say(prompt(number)))
        if lessons[-1] is Lesson.RESTARTED:
            break
    return lessons


def test_a_busy_engine_that_lost_what_a_third_of_its_cache_would_hold_has_a_smaller_cache() -> None:
    talk = warm_talk()
    forgets(talk.engine, prompt(15))
    assert talk.say(prompt(15), settled=False) is Lesson.CUT
    forgets(talk.engine, prompt(8))
    assert talk.say(prompt(8), settled=False) is Lesson.NOTHING


@pytest.mark.parametrize(
    ("numbers", "lesson"),
    [((19, 18, 17, 16), Lesson.LOST), ((9, 10, 11, 12), Lesson.CUT)],
    ids=["recent", "old"],
)
def test_a_row_of_misses_means_a_restart_and_the_capacity_is_what_it_was_before(
    numbers: Ids, lesson: Lesson
) -> None:
    talk = warm_talk()
    lessons = row_of_misses(talk, numbers)
    assert lessons == [lesson] * (ROW - 1) + [Lesson.RESTARTED]
    assert talk.believed_blocks == 1_000
    assert [talk.held(prompt(number)) for number in range(20)] == [0] * 20
    while talk.index.maintain():
        pass
    assert talk.index.resident(0) == 0


def test_a_known_restart_takes_back_what_a_row_of_misses_had_cut() -> None:
    talk = warm_talk()
    assert row_of_misses(talk, (9, 10)) == [Lesson.CUT] * 2
    assert talk.belief.tokens(0) < 1_000 * TOKENS_PER_BLOCK
    talk.belief.restarted(0)
    assert talk.belief.tokens(0) == 1_000 * TOKENS_PER_BLOCK


def test_a_capacity_that_was_cut_before_the_row_stays_cut_after_the_restart() -> None:
    talk = warm_talk()
    for number in (8, 9):
        forgets(talk.engine, prompt(number))
        assert talk.say(prompt(number)) is Lesson.CUT
    assert talk.say(prompt(9)) is Lesson.NOTHING, "a hit, which ends the first row"
    cut = talk.believed_blocks
    assert cut < 400
    assert row_of_misses(talk, range(10, 19))[-1] is Lesson.RESTARTED
    assert talk.believed_blocks == cut


def test_a_row_begins_anew_after_a_restart() -> None:
    talk = warm_talk()
    assert row_of_misses(talk, (19, 18, 17))[-1] is Lesson.RESTARTED
    while talk.index.maintain():
        pass
    for number in range(20):
        talk.say(prompt(number))
    lessons = row_of_misses(talk, range(19, 0, -1))
    assert len(lessons) == ROW
    assert lessons[-1] is Lesson.RESTARTED


@pytest.mark.parametrize(
    ("seconds", "ends"), [(-0.1, False), (0.0, True), (0.1, True)], ids=["before", "with", "after"]
)
def test_only_a_hit_that_was_sent_no_earlier_than_the_first_miss_ends_the_row(
    seconds: float, ends: bool
) -> None:
    talk = warm_talk()
    first_miss_at = talk.now + 1.0
    for number in (19, 18, 17):
        forgets(talk.engine, prompt(number))
    assert [talk.say(prompt(number)) for number in (19, 18)] == [Lesson.LOST] * 2
    assert talk.say(prompt(5), dispatched_at=first_miss_at + seconds) is Lesson.NOTHING, "a hit"
    assert (talk.say(prompt(17)) is not Lesson.RESTARTED) is ends


@pytest.mark.parametrize(("failures", "misses"), [(0, 3), (2, 4), (5, 5), (10, 6), (20, 8), (40, 11)])
def test_where_many_predictions_fail_a_longer_row_is_needed(failures: int, misses: int) -> None:
    """0.09³, 0.14⁴, 0.20⁵, 0.28⁶, 0.40⁸ and 0.53¹¹ are the first below a thousandth."""
    talk = warm_talk()
    for _ in range(failures):
        forgets(talk.engine, prompt(19))
        assert talk.say(prompt(19)) is Lesson.LOST
        assert talk.say(prompt(19)) is Lesson.NOTHING
    lessons = row_of_misses(talk, range(19, 0, -1))
    assert lessons.index(Lesson.RESTARTED) + 1 == misses


def test_a_short_row_is_enough_again_when_predictions_have_come_true_for_long() -> None:
    talk = warm_talk()
    for _ in range(20):
        forgets(talk.engine, prompt(19))
        talk.say(prompt(19))
        talk.say(prompt(19))
    for number in range(200):
        assert talk.say(prompt(number % 20)) is Lesson.NOTHING
    assert len(row_of_misses(talk, range(19, 0, -1))) == ROW


def test_misses_while_prefills_wait_neither_count_towards_a_row_nor_end_it() -> None:
    talk = warm_talk()
    assert row_of_misses(talk, (10, 11)) == [Lesson.CUT] * 2
    for number in (5, 6, 7, 8, 19, 18):
        assert talk.held(prompt(number)) == 20
        assert talk.say(prompt(number), settled=False) is Lesson.NOTHING
    assert talk.held(prompt(12)) == 20
    assert talk.say(prompt(12)) is Lesson.RESTARTED


def test_a_prompt_of_which_half_was_there_is_no_miss_of_a_restart() -> None:
    talk = warm_talk()
    for number in (19, 18, 19, 18, 19, 18):
        forgets(talk.engine, prompt(number)[10:])
        assert talk.say(prompt(number)) is Lesson.LOST
    assert talk.held(prompt(0)) == 20


@pytest.mark.parametrize(
    ("blocks", "tells"), [(RESTART_LEAST_BLOCKS - 1, False), (RESTART_LEAST_BLOCKS, True)]
)
def test_short_prompts_prove_nothing_about_a_restart(blocks: int, tells: bool) -> None:
    talk = warm_talk(blocks=blocks)
    talk.engine.used.clear()
    lessons = [talk.say(prompt(number, blocks)) for number in range(19, 19 - ROW, -1)]
    assert Lesson.NOTHING not in lessons
    assert (Lesson.RESTARTED in lessons) is tells


def test_a_hit_between_misses_is_no_restart() -> None:
    talk = warm_talk()
    for number in (19, 18, 19, 18, 19, 18):
        forgets(talk.engine, prompt(number))
        assert talk.say(prompt(number)) is Lesson.LOST
        assert talk.say(prompt(number)) is Lesson.NOTHING
    assert talk.held(prompt(0)) == 20


def test_a_prefix_that_may_still_be_computed_is_no_miss() -> None:
    talk = warm_talk()
    for _ in range(2 * ROW):
        talk.engine.used.clear()
        assert talk.say(prompt(19), settled=False) is Lesson.NOTHING
    assert talk.held(prompt(0)) == 20


# --- what else a belief keeps ---------------------------------------------------------------------


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
