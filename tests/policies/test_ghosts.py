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
        ghosts.add(name, Ghost(0, 10, name))
    assert [ghosts.get(name) is not None for name in range(5)] == [False, False, True, True, True]
    assert len(ghosts) == 3


def test_a_block_that_is_evicted_again_is_the_ghost_of_the_last_time() -> None:
    ghosts = ghosts_of(3)
    ghosts.add(1, Ghost(0, 10, 1))
    ghosts.add(1, Ghost(4, 20, 2))
    ghosts.add(2, Ghost(0, 10, 3))
    ghosts.add(3, Ghost(0, 10, 4))
    assert ghosts.get(1) == Ghost(4, 20, 2), "its first record went, not the second"
    ghosts.add(4, Ghost(0, 10, 5))
    assert ghosts.get(1) is None


@pytest.mark.parametrize("seed", range(3))
def test_it_remembers_what_a_naive_record_of_the_last_evictions_does(seed: int) -> None:
    chance, ghosts = random.Random(seed), ghosts_of(40)
    last: list[tuple[int, Ghost]] = []
    for step in range(2_000):
        name = chance.randrange(60)
        ghost = Ghost(chance.randrange(4), chance.randrange(100), step)
        ghosts.add(name, ghost)
        last = [*last, (name, ghost)][-40:]
        expected = OrderedDict(last)
        assert len(ghosts) == len(expected)
        assert all(ghosts.get(asked) is expected.get(asked) for asked in range(60))
    ghosts.clear()
    assert len(ghosts) == 0
