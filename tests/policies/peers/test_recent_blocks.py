"""The LRU of blocks per server: what it holds, what it lets go of first, and what it counts."""

from __future__ import annotations

from random import Random

from warmroute_policies.peers.recent_blocks import RecentBlocks


def test_a_server_holds_what_it_was_sent_up_to_where_the_prompts_part() -> None:
    blocks = RecentBlocks()
    blocks.use(3, (1, 2, 3, 4), capacity=100)
    blocks.use(40, (1, 2, 9), capacity=100)
    assert blocks.depths((1, 2, 3, 4)) == {3: 4, 40: 2}
    assert blocks.depths((1, 2, 9, 10)) == {3: 2, 40: 3}
    assert blocks.depths((7, 1, 2)) == {}
    assert blocks.depths(()) == {}


def test_the_head_of_a_prompt_is_let_go_of_before_its_tail() -> None:
    blocks = RecentBlocks()
    blocks.use(0, (1, 2, 3, 4), capacity=4)
    blocks.use(0, (11, 12), capacity=4)
    assert blocks.depths((1, 2, 3, 4)) == {}, "3 and 4 are held, but the chain ends at 1, which nobody holds"
    assert len(blocks) == 4


def test_what_is_used_again_is_young_again() -> None:
    blocks = RecentBlocks()
    blocks.use(0, (1, 2), capacity=4)
    blocks.use(0, (11, 12), capacity=4)
    blocks.use(0, (1, 2), capacity=4)
    blocks.use(0, (21, 22), capacity=4)
    assert blocks.depths((1, 2)) == {0: 2}
    assert blocks.depths((11, 12)) == {}


def test_blocks_behind_a_gap_count_while_another_server_bridges_it() -> None:
    blocks = RecentBlocks()
    blocks.use(0, (1, 2, 3, 4), capacity=3)  # 1 is let go of
    assert blocks.depths((1, 2, 3, 4)) == {}
    blocks.use(1, (1, 2, 3, 4), capacity=100)
    assert blocks.depths((1, 2, 3, 4)) == {0: 3, 1: 4}


def test_a_prompt_longer_than_the_capacity_keeps_its_tail() -> None:
    blocks = RecentBlocks()
    blocks.use(0, range(10), capacity=3)
    assert blocks.depths((7, 8, 9)) == {0: 3}
    assert len(blocks) == 3


def test_a_server_that_is_gone_holds_nothing_and_the_others_what_they_held() -> None:
    blocks = RecentBlocks()
    blocks.use(0, (1, 2), capacity=9)
    blocks.use(1, (1,), capacity=9)
    blocks.drop(0)
    blocks.drop(5)
    assert blocks.depths((1, 2)) == {1: 1}
    assert len(blocks) == 1


def test_it_agrees_with_a_naive_count_over_a_random_course() -> None:
    chance = Random(7)
    blocks = RecentBlocks()
    naive: dict[int, list[int]] = {}
    capacities = [5, 9, 30]
    for step in range(3_000):
        slot = chance.randrange(3)
        stem = chance.randrange(6) * 100
        ids = tuple(range(stem, stem + chance.randrange(12)))
        if chance.random() < 0.02:
            blocks.drop(slot)
            naive.pop(slot, None)
        else:
            blocks.use(slot, ids, capacities[slot])
            kept = [block for block in naive.get(slot, []) if block not in ids] + list(ids)
            naive[slot] = kept[-capacities[slot] :]
        expected: dict[int, int] = {}
        for block in ids:
            holders = [slot for slot, held in naive.items() if block in held]
            if not holders:
                break
            for holder in holders:
                expected[holder] = expected.get(holder, 0) + 1
        assert blocks.depths(ids) == expected, f"seed 7, step {step}"
        assert len(blocks) == sum(map(len, naive.values()))
