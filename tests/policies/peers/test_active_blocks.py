"""Blocks in use: shared ones count once, and nothing is left when all have ended."""

from __future__ import annotations

from random import Random

from warmroute_policies.peers.active_blocks import ActiveBlocks


def test_blocks_that_two_requests_share_count_once_and_rests_each() -> None:
    active = ActiveBlocks()
    active.begin(1, 0, (1, 2, 3), 5)
    active.begin(2, 0, (1, 2, 9, 10), 7)
    active.begin(3, 1, (1,), 0)
    assert active.occupied(0, 8) == 5 * 8 + 12
    assert active.occupied(1, 8) == 8
    assert [active.missing(slot, (1, 2, 9, 11)) for slot in (0, 1, 2)] == [1, 3, 4]


def test_a_block_is_in_use_until_the_last_of_its_requests_ends() -> None:
    active = ActiveBlocks()
    active.begin(1, 0, (1, 2, 3), 5)
    active.begin(2, 0, (1, 2), 0)
    active.end(2)
    active.end(2)
    assert active.missing(0, (1, 2, 3)) == 0
    active.end(1)
    assert (active.missing(0, (1, 2, 3)), active.occupied(0, 8), len(active)) == (3, 0, 0)


def test_a_request_that_is_sent_again_is_in_one_place() -> None:
    active = ActiveBlocks()
    active.begin(1, 0, (1, 2), 3)
    active.begin(1, 1, (1, 2), 3)
    assert [active.occupied(slot, 10) for slot in (0, 1)] == [0, 23]


def test_the_next_worker_in_a_slot_begins_empty() -> None:
    active = ActiveBlocks()
    active.begin(1, 0, (1, 2), 3)
    active.begin(2, 1, (1,), 0)
    active.drop(0)
    active.drop(6)
    active.begin(3, 0, (1,), 0)
    active.end(1)
    assert [active.occupied(slot, 10) for slot in (0, 1)] == [10, 10]
    assert len(active) == 2


def test_it_agrees_with_a_naive_count_over_a_random_course() -> None:
    chance = Random(11)
    active = ActiveBlocks()
    naive: dict[int, tuple[int, tuple[int, ...], int]] = {}
    for step in range(2_000):
        request_id, slot = chance.randrange(40), chance.randrange(3)
        stem = chance.randrange(5) * 100
        ids = tuple(range(stem, stem + chance.randrange(9)))
        if chance.random() < 0.5:
            active.begin(request_id, slot, ids, step % 7)
            naive[request_id] = (slot, ids, step % 7)
        else:
            active.end(request_id)
            naive.pop(request_id, None)
        if chance.random() < 0.02:
            active.drop(1)
            naive = {key: flight for key, flight in naive.items() if flight[0] != 1}
        held = {block for at, ids, _ in naive.values() if at == slot for block in ids}
        rests = sum(rest for at, _, rest in naive.values() if at == slot)
        assert active.occupied(slot, 4) == len(held) * 4 + rests, f"seed 11, step {step}"
        assert active.missing(slot, ids) == len(set(ids) - held), f"seed 11, step {step}"
    for request_id in range(40):
        active.end(request_id)
    assert [active.occupied(slot, 4) for slot in range(3)] == [0, 0, 0]
    assert len(active) == 0
