"""Blocks with a time to live: how long they are believed, and what goes first when room is short."""

from __future__ import annotations

from random import Random

from warmroute_policies.peers.timed_blocks import TimedBlocks


def test_a_block_is_believed_until_its_time_is_over_and_not_at_its_end() -> None:
    blocks = TimedBlocks(ttl_s=120.0, blocks_max=100)
    blocks.renew(0, (1, 2, 3), now=10.0)
    assert blocks.depth(0, (1, 2, 9), now=10.0) == 2
    assert blocks.depth(0, (1, 2, 3), now=129.5) == 3
    assert blocks.depth(0, (1, 2, 3), now=130.0) == 0
    assert blocks.depth(1, (1, 2, 3), now=10.0) == 0
    assert blocks.depth(0, (), now=10.0) == 0


def test_a_prompt_renews_what_it_shares_and_no_more() -> None:
    blocks = TimedBlocks(ttl_s=120.0, blocks_max=100)
    blocks.renew(0, (1, 2, 3, 4), now=0.0)
    blocks.renew(0, (1, 2, 9), now=60.0)
    assert blocks.depth(0, (1, 2, 3, 4), now=119.0) == 4
    assert blocks.depth(0, (1, 2, 3, 4), now=121.0) == 2


def test_looking_forgets_nothing_and_the_next_write_forgets_the_dead() -> None:
    blocks = TimedBlocks(ttl_s=120.0, blocks_max=100)
    blocks.renew(0, (1, 2, 3), now=0.0)
    blocks.depth(0, (1, 2, 3), now=500.0)
    assert len(blocks) == 3
    blocks.renew(0, (7,), now=500.0)
    assert len(blocks) == 1


def test_when_room_is_short_the_oldest_tails_go_first() -> None:
    blocks = TimedBlocks(ttl_s=120.0, blocks_max=4)
    blocks.renew(0, (1, 2, 3), now=0.0)
    blocks.renew(0, (1, 8), now=1.0)
    blocks.renew(0, (11,), now=2.0)
    assert len(blocks) == 4
    assert [blocks.depth(0, ids, now=3.0) for ids in ((1, 2, 3), (1, 8), (11,))] == [2, 2, 1]
    blocks.renew(0, range(20, 29), now=3.0)
    assert blocks.depth(0, range(20, 29), now=3.0) == 4, "of a prompt that is too long its head stays"


def test_a_worker_that_is_gone_holds_nothing() -> None:
    blocks = TimedBlocks(ttl_s=120.0, blocks_max=4)
    blocks.renew(0, (1,), now=0.0)
    blocks.drop(0)
    blocks.drop(1)
    assert (blocks.depth(0, (1,), now=0.0), len(blocks)) == (0, 0)


def test_it_agrees_with_a_naive_count_over_a_random_course() -> None:
    chance = Random(5)
    blocks = TimedBlocks(ttl_s=10.0, blocks_max=1_000)
    naive: dict[tuple[int, int], float] = {}
    now = 0.0
    for step in range(2_000):
        now += chance.random()
        slot, stem = chance.randrange(3), chance.randrange(5) * 100
        ids = tuple(range(stem, stem + chance.randrange(1, 9)))
        expected = 0
        while expected < len(ids) and now - naive.get((slot, ids[expected]), -99.0) < 10.0:
            expected += 1
        assert blocks.depth(slot, ids, now) == expected, f"seed 5, step {step}"
        if chance.random() < 0.5:
            blocks.renew(slot, ids, now)
            naive.update({(slot, block): now for block in ids})
