"""What the index promises beyond its answers: bounds, bytes, evidence, and that nothing leaks."""

from __future__ import annotations

import gc
import itertools
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from math import inf

import pytest

from warmroute_policies.blocks import PromptBlocks
from warmroute_policies.index import FORGET_STEPS, INSERT_STEPS, Insertion, PrefixIndex
from warmroute_policies.residency import EPOCH_RECORDS, EPOCHS_PER_LANE


def insert(index: PrefixIndex, slot: int, prompt: PromptBlocks) -> Insertion:
    return index.insert(slot, prompt, index.match(prompt))


def held(index: PrefixIndex, slot: int, prompt: PromptBlocks) -> int:
    return index.match(prompt).depths.get(slot, 0)


def settle(index: PrefixIndex) -> int:
    """Does all work put off; returns the number of calls that it took."""
    calls = 1
    while index.maintain(64):
        calls += 1
    return calls


@pytest.fixture
def chance() -> random.Random:
    return random.Random(20)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """As the router runs: what is not freed by counting references stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def unique(chance: random.Random, blocks: int = 12) -> PromptBlocks:
    return PromptBlocks.from_ids(chance.randbytes(8 * blocks))


# --- shape ------------------------------------------------------------------------------------


def test_a_conversation_on_its_worker_is_one_node_however_many_turns_it_has(chance: random.Random) -> None:
    index, ids = PrefixIndex(), b""
    for _ in range(50):
        ids += chance.randbytes(8 * 3)
        insert(index, 4, PromptBlocks.from_ids(ids))
    assert index.statistics().nodes == 1
    assert held(index, 4, PromptBlocks.from_ids(ids)) == 150


def test_a_chain_left_by_an_evicted_branch_is_merged_when_next_used(chance: random.Random) -> None:
    index = PrefixIndex()
    trunk, branch = chance.randbytes(8 * 30), chance.randbytes(8 * 10)
    prompt, other = PromptBlocks.from_ids(trunk), PromptBlocks.from_ids(trunk[: 8 * 20] + branch)
    for slot in (0, 1):
        insert(index, slot, prompt)
    insert(index, 1, other)
    assert index.statistics().nodes == 3
    index.forget(1, other, 20)
    for slot in (0, 1):
        insert(index, slot, prompt)
    assert index.statistics().nodes == 1
    index.check_integrity()


def test_memory_of_the_order_of_use_does_not_grow_with_use(chance: random.Random) -> None:
    index = PrefixIndex()
    prompts = [unique(chance) for _ in range(300)]
    for _ in range(60_000):
        insert(index, 0, chance.choice(prompts))
    lane = index._lanes[0]
    assert len(lane.epochs) <= 8 * EPOCHS_PER_LANE
    assert sum(len(epoch.log) for epoch in lane.epochs) <= 4 * len(prompts) + EPOCH_RECORDS
    index.check_integrity()


# --- bounds -----------------------------------------------------------------------------------


def test_a_cut_of_capacity_is_carried_out_in_bounded_steps(chance: random.Random) -> None:
    index = PrefixIndex()
    prompts = [unique(chance) for _ in range(2_000)]
    for prompt in prompts:
        insert(index, 0, prompt)
    index.set_capacity(0, 1_200)
    assert index.resident(0) == 24_000
    insert(index, 0, prompts[0])
    assert 24_000 - index.resident(0) <= 12 * INSERT_STEPS
    before = index.resident(0)
    assert index.maintain(10) == 10
    assert before - index.resident(0) <= 120
    assert settle(index) > 10
    assert 1_190 <= index.resident(0) <= 1_200
    assert held(index, 0, prompts[0]) == held(index, 0, prompts[-1]) == 12
    index.check_integrity()


def test_a_lost_cache_is_out_of_sight_at_once_and_swept_in_steps(chance: random.Random) -> None:
    index = PrefixIndex()
    shared = chance.randbytes(8 * 20)
    prompts = [PromptBlocks.from_ids(shared + chance.randbytes(8 * 4)) for _ in range(1_000)]
    for prompt in prompts:
        insert(index, 0, prompt)
    insert(index, 1, prompts[0])
    index.drop_slot(0)
    assert index.match(prompts[0]).depths == {1: 24}
    fresh = unique(chance)
    insert(index, 0, fresh)
    assert index.resident(0) > 0
    assert settle(index) > 5
    index.check_integrity()
    assert index.match(prompts[0]).depths == {1: 24}
    assert index.match(fresh).depths == {0: 12}
    assert index.resident(0) == 12
    assert index.statistics().unique_blocks == 36
    assert index.maintain() == 0


def test_forgetting_a_large_subtree_is_put_off_in_part_and_spares_what_comes_after(
    chance: random.Random,
) -> None:
    index = PrefixIndex()
    shared = chance.randbytes(8 * 20)
    prompts = [PromptBlocks.from_ids(shared + chance.randbytes(8 * 4)) for _ in range(3 * FORGET_STEPS)]
    for prompt in prompts:
        insert(index, 0, prompt)
    index.forget(0, prompts[0], 10)
    forgotten = sum(held(index, 0, prompt) < 24 for prompt in prompts)
    assert 0 < forgotten <= FORGET_STEPS
    fresh = PromptBlocks.from_ids(shared + chance.randbytes(8 * 4))
    insert(index, 0, fresh)
    settle(index)
    index.check_integrity()
    assert held(index, 0, fresh) == 24
    assert {held(index, 0, prompt) for prompt in prompts} == {20}
    index.forget(0, prompts[0], 10)
    settle(index)
    assert index.resident(0) == 10
    assert index.statistics().nodes == 1


def test_nodes_may_come_and_go_while_a_pruning_waits(chance: random.Random) -> None:
    index = PrefixIndex()
    shared = chance.randbytes(8 * 20)
    tails = [chance.randbytes(8 * 6) for _ in range(4 * FORGET_STEPS)]
    for tail in tails:
        insert(index, 0, PromptBlocks.from_ids(shared + tail))
    for slot in (1, 2):
        for tail in tails[::3]:
            insert(index, slot, PromptBlocks.from_ids(shared + tail))
    index.forget(0, PromptBlocks.from_ids(shared + tails[5]), 3)
    for step in range(600):
        tail = chance.choice(tails)
        cut = chance.randint(0, 6)
        prompt = PromptBlocks.from_ids(shared + tail[: 8 * cut] + chance.randbytes(8 * chance.randint(0, 3)))
        insert(index, 1 + step % 2, prompt)
        index.forget(1, PromptBlocks.from_ids(shared + chance.choice(tails)), 20)
        if step % 50 == 0:
            index.set_capacity(2, chance.randint(500, 3_000))
            index.check_integrity()
        index.maintain(3)
    settle(index)
    index.check_integrity()
    assert index.resident(0) == 3


def test_the_byte_budget_is_passed_by_no_more_than_one_insert(chance: random.Random) -> None:
    budget = 400_000
    index = PrefixIndex(max_bytes=budget)
    for slot in range(8):
        index.set_capacity(slot, inf)
    kept = unique(chance)
    for number in range(6_000):
        insert(index, number % 8, unique(chance, chance.choice([1, 8, 16])))
        insert(index, 5, kept)
        assert index.statistics().bytes <= budget + 1_000
    index.check_integrity()
    assert index.statistics().evicted_blocks_total > 30_000
    assert held(index, 5, kept) == 12
    residents = [index.resident(slot) for slot in range(8)]
    assert min(residents) > 0.7 * max(residents)


def test_a_prompt_larger_than_the_cache_keeps_its_head(chance: random.Random) -> None:
    index = PrefixIndex()
    index.set_capacity(0, 100)
    prompt = unique(chance, 300)
    insert(index, 0, prompt)
    settle(index)
    assert held(index, 0, prompt) == index.resident(0) == 100
    index.set_capacity(0, 0)
    settle(index)
    assert index.statistics().nodes == 0


# --- evidence ---------------------------------------------------------------------------------


def test_the_first_block_that_was_evicted_is_remembered_and_others_are_not(chance: random.Random) -> None:
    index = PrefixIndex()
    index.set_capacity(0, 60)
    old = unique(chance, 30)
    insert(index, 0, old)
    for _ in range(4):
        insert(index, 0, unique(chance))
    depth = held(index, 0, old)
    assert 0 < depth < 30
    insert(index, 0, old)  # as when its answer is looked at
    assert index.was_evicted(0, old.id_at(depth))
    assert not index.was_evicted(0, old.id_at(depth - 1))
    assert not index.was_evicted(1, old.id_at(depth))
    index.drop_slot(0)
    assert not index.was_evicted(0, old.id_at(depth))


def lost_by_three(chance: random.Random) -> tuple[PrefixIndex, PromptBlocks]:
    """Slots 0 and 1 lost a prompt of 30 blocks, slot 2 its first 12, slot 3 never had it. All in two runs."""
    index, old = PrefixIndex(), unique(chance, 30)
    head = PromptBlocks.from_ids(old.ids(0, 12))
    for slot in range(4):
        index.set_capacity(slot, 60)
    for slot, prompt in ((0, old), (1, old), (2, head)):
        insert(index, slot, prompt)
    for slot in range(4):
        for blocks in (24, 24, 24):  # the first two leave 12 blocks of the prompt
            insert(index, slot, unique(chance, blocks))
        insert(index, slot, unique(chance, 12))
        assert held(index, slot, old) == 0
    return index, old


def test_ghosts_name_the_slots_that_lost_a_prompt_and_how_much_of_it_all_of_them_lost(
    chance: random.Random,
) -> None:
    index, old = lost_by_three(chance)
    lost = index.evicted(old, 0)
    assert [(ghost.slots, ghost.end) for ghost in lost] == [(0b111, 12), (0b011, 30)]
    assert index.haunted(lost) == ([0, 1, 2], 12), "the third slot never had the rest"
    assert index.haunted(lost[1:]) == ([0, 1], 30)


def test_a_slot_whose_cache_is_gone_since_haunts_nobody(chance: random.Random) -> None:
    index, old = lost_by_three(chance)
    index.drop_slot(1)
    settle(index)
    lost = index.evicted(old, 0)
    assert index.haunted(lost)[0] == [0, 2]
    for slot in (0, 2):
        index.drop_slot(slot)
    assert index.haunted(lost)[0] == []


def test_a_slot_whose_cache_is_gone_since_does_not_shorten_what_the_others_lost(
    chance: random.Random,
) -> None:
    index, old = lost_by_three(chance)
    assert index.haunted(index.evicted(old, 0)) == ([0, 1, 2], 12)
    index.drop_slot(2)
    settle(index)
    assert index.haunted(index.evicted(old, 0)) == ([0, 1], 30)


def test_an_eviction_is_evidence_for_every_slot_that_lost_the_block_and_has_its_cache_still(
    chance: random.Random,
) -> None:
    index, old = lost_by_three(chance)
    index.drop_slot(1)
    for slot in range(4):
        insert(index, slot, old)
    assert [index.was_evicted(slot, old.id_at(0)) for slot in range(4)] == [True, False, True, False]
    assert [index.was_evicted(slot, old.id_at(12)) for slot in range(4)] == [True, False, False, False]


def test_what_todays_capacity_would_have_kept_is_no_evidence_any_more(chance: random.Random) -> None:
    """Each of four prompts says that 60 blocks are too few. Once the first has been believed, and there is
    room for all, the others say nothing new."""
    index, prompts = PrefixIndex(), [unique(chance, 30) for _ in range(4)]
    index.set_capacity(0, 60)
    for prompt in prompts:
        insert(index, 0, prompt)
    first, second = prompts[:2]
    assert held(index, 0, first) == held(index, 0, second) == 0
    insert(index, 0, first)
    assert index.was_evicted(0, first.id_at(0))
    index.set_capacity(0, 200)
    insert(index, 0, second)
    assert not index.was_evicted(0, second.id_at(0))
    index.set_capacity(0, 60)
    assert index.was_evicted(0, second.id_at(0)), "it is the capacity of today that counts"


def test_a_block_that_fell_to_the_byte_budget_or_to_a_lost_cache_is_no_ghost(chance: random.Random) -> None:
    index = PrefixIndex(max_bytes=50_000)
    for _ in range(1_000):
        insert(index, 0, unique(chance))
    index.drop_slot(0)
    settle(index)
    assert index.statistics().evicted_blocks_total == 12_000
    assert index.statistics().ghosts == 0


def test_ghosts_are_bounded(chance: random.Random) -> None:
    index = PrefixIndex(ghosts_per_slot=40)
    index.set_capacity(0, 24)
    index.set_capacity(1, 24)
    for number in range(2_000):
        insert(index, number % 2, unique(chance))
        assert index.statistics().ghosts <= 80
    assert index.statistics().ghosts >= 40


@pytest.mark.parametrize("seed", range(4))
def test_stack_distances_are_those_of_an_lru_stack(seed: int) -> None:
    chance, index = random.Random(seed), PrefixIndex()
    prompts = [unique(chance, chance.randint(1, 20)) for _ in range(400)]
    stack: dict[int, int] = {}  # prompt to its blocks, oldest use first
    for _ in range(4_000):
        at = chance.randrange(len(prompts))
        insertion = insert(index, 0, prompts[at])
        found = index.stack_distance(0, insertion, 0)
        if at in stack:
            order = list(stack)
            true = sum(stack[other] for other in order[order.index(at) + 1 :])
            assert found is not None
            assert abs(found - true) <= 2 * index.resident(0) / EPOCHS_PER_LANE + 40
        else:
            assert found is None
        stack.pop(at, None)
        stack[at] = prompts[at].count


def test_the_distance_of_a_block_is_that_of_its_own_node(chance: random.Random) -> None:
    index = PrefixIndex()
    head, tail = chance.randbytes(8 * 20), chance.randbytes(8 * 20)
    prompt = PromptBlocks.from_ids(head + tail)
    insert(index, 0, prompt)
    for _ in range(100):
        insert(index, 0, unique(chance))
    insert(index, 0, PromptBlocks.from_ids(head))
    insertion = insert(index, 0, prompt)
    near, far = index.stack_distance(0, insertion, 5), index.stack_distance(0, insertion, 20)
    assert near is not None
    assert far is not None
    assert near < 100 < 1_100 < far


# --- memory -----------------------------------------------------------------------------------


Workload = Callable[[random.Random], Iterator[tuple[int, PromptBlocks]]]


def conversations(chance: random.Random) -> Iterator[tuple[int, PromptBlocks]]:
    systems = [chance.randbytes(8 * 16) for _ in range(5)]
    while True:
        ids, slot = chance.choice(systems) + chance.randbytes(8 * 100), chance.randrange(16)
        for _ in range(4):
            ids += chance.randbytes(8 * 2)
            yield slot, PromptBlocks.from_ids(ids)


def shared_prefixes(chance: random.Random) -> Iterator[tuple[int, PromptBlocks]]:
    prefixes = [chance.randbytes(8 * 48) for _ in range(40)]
    while True:
        question = chance.randbytes(8 * chance.randint(1, 9))
        yield chance.randrange(16), PromptBlocks.from_ids(chance.choice(prefixes) + question)


def uniques(chance: random.Random) -> Iterator[tuple[int, PromptBlocks]]:
    while True:
        yield chance.randrange(16), unique(chance, chance.randint(8, 16))


@pytest.mark.parametrize("workload", [conversations, shared_prefixes, uniques])
@pytest.mark.usefixtures("no_collector")
def test_the_estimate_of_bytes_is_within_a_quarter_of_what_is_allocated(workload: Workload) -> None:
    chance = random.Random(5)
    requests = workload(chance)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        index = PrefixIndex()
        for slot in range(16):
            index.set_capacity(slot, 4_000)
        while index.statistics().evicted_blocks_total < 60_000:
            for slot, prompt in itertools.islice(requests, 100):
                insert(index, slot, prompt)
            index.maintain()
        allocated = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.75 * allocated < index.statistics().bytes < 1.25 * allocated


@pytest.mark.usefixtures("no_collector")
def test_memory_is_flat_under_prompts_that_never_come_again() -> None:
    chance, index = random.Random(6), PrefixIndex()
    for slot in range(4):
        index.set_capacity(slot, 2_000)
    tracemalloc.start()
    try:
        sizes = []
        for _ in range(6):
            for _ in range(3_000):
                insert(index, chance.randrange(4), unique(chance, chance.randint(1, 20)))
            index.maintain()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(sizes[2:]) < 1.15 * min(sizes[2:])


@pytest.mark.usefixtures("no_collector")
def test_an_index_is_freed_without_the_collector() -> None:
    chance = random.Random(7)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        index = PrefixIndex()
        for slot in range(4):
            index.set_capacity(slot, 3_000)
        prefix = chance.randbytes(8 * 40)
        for _ in range(4_000):
            slot, cut = chance.randrange(4), chance.randint(0, 40)
            insert(index, slot, PromptBlocks.from_ids(prefix[: 8 * cut] + chance.randbytes(8 * 5)))
        full = tracemalloc.get_traced_memory()[0] - before
        del index
        left = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # What is left are the interpreter's own lists of free tuples and lists.
    assert left < 0.1 * full


@pytest.mark.usefixtures("no_collector")
def test_nothing_is_left_of_prompts_that_were_all_evicted() -> None:
    chance, index = random.Random(8), PrefixIndex()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        prefix = chance.randbytes(8 * 40)
        for _ in range(4_000):
            slot, cut = chance.randrange(4), chance.randint(0, 40)
            insert(index, slot, PromptBlocks.from_ids(prefix[: 8 * cut] + chance.randbytes(8 * 5)))
        full = tracemalloc.get_traced_memory()[0] - before
        for slot in range(4):
            index.drop_slot(slot)
        settle(index)
        assert index.statistics().nodes == 0
        left = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # Dicts keep the room that they once needed.
    assert left < 0.4 * full


# --- what forgetting leaves behind --------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_forgetting_between_two_tidyings_of_a_lane_leaves_no_contradiction(seed: int) -> None:
    """Hundreds of conversations, so that the lane has all its epochs and joins them, while answers say again
    and again that something is gone."""
    chance, index = random.Random(seed), PrefixIndex()
    index.set_capacity(0, 3000)
    system = chance.randbytes(8 * 4)
    conversations = [system] * 300
    for operation in range(2500):
        at = chance.randrange(len(conversations))
        grown = conversations[at] if len(conversations[at]) < 8 * 60 else system
        conversations[at] = grown + chance.randbytes(8 * chance.randrange(3))
        prompt = PromptBlocks.from_ids(conversations[at] + chance.randbytes(8 * chance.randrange(3)))
        insert(index, 0, prompt)
        forget = chance.choice([index.forget, index.forget_branches, None, None])
        if forget is not None and prompt.count > 5:
            forget(0, prompt, chance.randrange(5, prompt.count))
        if operation % 20 == 0:
            index.check_integrity()


DEAD_CHAIN = """
from warmroute_policies.blocks import PromptBlocks
from warmroute_policies.index import PrefixIndex

index, number = PrefixIndex(), 0
def insert(ids):
    prompt = PromptBlocks.from_ids(ids)
    index.insert(0, prompt, index.match(prompt))
    return prompt
for _ in range(40):
    turns = []
    for turn in range(120):          # each turn ends with something that the next one replaces
        number += 1
        turns.append(number)
        last = insert([*turns, 10**9 + number])
    index.forget(0, last, 0)
    for _ in range(100):
        number += 1
        insert([10**12 + number])
    index.set_capacity(0, 50)
    while index.maintain(1000):
        pass
index.check_integrity()
"""


def test_the_nodes_of_a_long_forgotten_conversation_are_freed_without_harm() -> None:
    """Dead nodes hang in a chain as long as the conversation. The allocator checks what it gets back."""
    checked = {**os.environ, "PYTHONMALLOC": "debug"}
    done = subprocess.run([sys.executable, "-c", DEAD_CHAIN], env=checked, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_what_a_prompt_shares_ends_where_another_one_goes_on_differently(chance: random.Random) -> None:
    index = PrefixIndex()
    system = [chance.getrandbits(64) for _ in range(10)]
    one, other = ([*system, *(chance.getrandbits(64) for _ in range(20))] for _ in range(2))
    grown = [*one, *(chance.getrandbits(64) for _ in range(5))]
    assert insert(index, 0, PromptBlocks.from_ids(one)).shared == 0
    assert insert(index, 1, PromptBlocks.from_ids(other)).shared == 10
    assert insert(index, 0, PromptBlocks.from_ids(grown)).shared == 10, "to grow is not to share"
    assert insert(index, 0, PromptBlocks.from_ids(system)).shared == 0, "nothing is before it that could be"
    assert insert(index, 0, unique(chance, 5)).shared == 0
