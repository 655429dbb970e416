"""The record of evictions: bounded, and the newest word on a block counts."""

from __future__ import annotations

import random
from collections import OrderedDict

import pytest

from warmroute_policies.ghosts import Ghost, Ghosts


def ghosts_of(limit: int) -> Ghosts:
    ghosts = Ghosts()
    ghosts.limit = limit
    return ghosts


def test_the_oldest_makes_way_for_the_newest() -> None:
    ghosts = ghosts_of(3)
    for name in range(5):
        ghosts.add(name, 0, 10, name)
    assert [ghosts.get(name) is not None for name in range(5)] == [False, False, True, True, True]
    assert len(ghosts) == 3


def test_a_block_that_is_evicted_again_is_the_last_run_and_all_who_lost_it() -> None:
    ghosts = ghosts_of(3)
    ghosts.add(1, 0, 10, 1)
    ghosts.add(1, 4, 20, 2)
    ghosts.add(2, 0, 10, 3)
    ghosts.add(3, 0, 10, 4)
    assert ghosts.get(1) == Ghost(0b10001, 20, 2), "its first record went, not the second"
    ghosts.add(4, 0, 10, 5)
    assert ghosts.get(1) is None


@pytest.mark.parametrize("seed", range(3))
def test_it_remembers_what_a_naive_record_of_the_last_evictions_does(seed: int) -> None:
    chance, ghosts = random.Random(seed), ghosts_of(40)
    last: list[tuple[int, int, int, int]] = []
    for step in range(2_000):
        name = chance.randrange(60)
        slot, end = chance.randrange(4), chance.randrange(100)
        ghosts.add(name, slot, end, step)
        last = [*last, (name, slot, end, step)][-40:]
        expected = OrderedDict((record[0], record) for record in last)
        assert len(ghosts) == len(expected)
        for asked in range(60):
            ghost, record = ghosts.get(asked), expected.get(asked)
            assert (ghost is None) is (record is None)
            if ghost is not None and record is not None:
                assert (ghost.end, ghost.tick) == record[2:]
                assert ghost.slots >> record[1] & 1
    ghosts.clear()
    assert len(ghosts) == 0
