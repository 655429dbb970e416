"""How soon prefixes come back, by hand and against a naive histogram, and what that makes of caches."""

from __future__ import annotations

import random
from bisect import bisect_right
from math import inf

import pytest

from warmroute_policies.blocks import PromptBlocks
from warmroute_policies.index import Insertion, PrefixIndex
from warmroute_policies.reuse import AGES_S, HALVE_AFTER, HORIZON_SHARE, LIVE_HIGH, LIVE_LOW, READINGS, Reuse


class Watched:
    """An index whose inserts a `Reuse` is told of, the clock read before each of them."""

    def __init__(self, capacity_blocks: float = inf) -> None:
        self.index, self.reuse = PrefixIndex(), Reuse()
        self.index.set_capacity(0, capacity_blocks)

    def use(self, at_s: float, *ids: int, slot: int = 0) -> Insertion:
        self.reuse.read_clock(self.index.clock, at_s)
        blocks = PromptBlocks.from_ids(ids)
        match = self.index.match(blocks)
        insertion = self.index.insert(slot, blocks, match)
        self.reuse.learn(insertion, match.depth, self.index.evicted(blocks, match.depth), at_s)
        return insertion


def bin_end(age_s: float) -> float:
    """What the horizon says when most came back at that age: the end of its bin."""
    return AGES_S[bisect_right(AGES_S, age_s)]


def test_nothing_is_known_before_anything_came_back() -> None:
    watched = Watched()
    assert (watched.reuse.return_share, watched.reuse.horizon_s()) == (0.0, inf)
    watched.use(0.0, 1, 2, 3)
    assert (watched.reuse.return_share, watched.reuse.horizon_s()) == (0.0, inf)
    assert watched.reuse.crowding(1.0) == 0.0


def test_the_horizon_is_the_age_by_which_nearly_all_came_back() -> None:
    watched = Watched()
    for turn in range(20):
        watched.use(turn * 10.0, *range(1, 9))
    assert watched.reuse.return_share == pytest.approx(19 / 20)
    assert watched.reuse.horizon_s() == bin_end(10.0)
    watched.use(190.0 + 1_000.0, *range(1, 9))  # one of twenty comes late
    assert watched.reuse.horizon_s() == bin_end(10.0)
    for turn in range(9):
        watched.use(1_190.0 + 1_000.0 * turn, *range(1, 9))
    assert watched.reuse.horizon_s() == bin_end(1_000.0)


def test_each_part_of_a_prompt_has_the_age_of_its_own_last_use() -> None:
    watched = Watched()
    watched.use(0.0, 1, 2, 3, 4, 11, 12)
    watched.use(100.0, 1, 2, 3, 4, 21, 22)  # four blocks that are 100 s old
    watched.use(101.0, 1, 2, 3, 4, 11, 12)  # these are 1 s old now, the two behind them 101 s
    assert watched.reuse.return_share == pytest.approx((4 + 4 + 2) / 18)
    assert watched.reuse.horizon_s() == bin_end(100.0)


def test_what_was_evicted_comes_back_too_as_old_as_it_is() -> None:
    watched = Watched(capacity_blocks=10)
    for number in range(40):  # each 8 blocks, so that only one of them fits
        name = number % 4
        watched.use(number * 10.0, *range(100 * name + 1, 100 * name + 9))
    assert watched.reuse.return_share == pytest.approx(36 / 40, abs=0.02)
    # Dated by the reading before the eviction's epoch, ten seconds earlier at most.
    assert bin_end(40.0) <= watched.reuse.horizon_s() <= bin_end(50.0)


def test_what_another_slot_holds_counts_neither_as_used_nor_as_back() -> None:
    watched = Watched()
    watched.use(0.0, 1, 2, 3, 4, slot=0)
    watched.use(1.0, 1, 2, 3, 4, slot=1)
    assert watched.reuse.return_share == 0.0


def test_old_traffic_is_forgotten_by_halves() -> None:
    watched = Watched()
    for number in range(HALVE_AFTER):
        watched.use(number * 0.1, 1, 2, 3, 4)
    assert watched.reuse.return_share > 0.99
    assert watched.reuse.fresh_share < 0.01
    for number in range(2 * HALVE_AFTER):
        watched.use(1_000.0 + number * 0.1, 10 * number + 11, 10 * number + 12)
    assert watched.reuse.return_share < 0.3
    assert watched.reuse.fresh_share > 0.99


def test_what_is_fresh_is_what_nobody_held_and_the_beginning_says_little() -> None:
    watched = Watched()
    assert watched.reuse.fresh_share == 0.0
    watched.use(0.0, 1, 2, 3, 4)
    watched.use(1.0, 1, 2, 3, 4, 5, 6)
    assert watched.reuse.fresh_share == pytest.approx(6 / (1024 + 10))
    for number in range(1, 2_000):
        watched.use(float(number), *range(100 * number, 100 * number + 30))
        watched.use(float(number), *range(100 * number, 100 * number + 40))
    assert watched.reuse.fresh_share == pytest.approx(40 / 70, abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_the_histogram_is_that_of_a_naive_count(seed: int) -> None:
    chance = random.Random(seed)
    watched = Watched()
    last_use: dict[int, float] = {}
    ages: list[float] = []
    used, now = 0, 0.0
    for _ in range(800):
        now += chance.choice([0.3, 2.0, 9.0])
        name = chance.randrange(30)
        ids = range(100 * name + 1, 100 * name + 1 + chance.randint(2, 12))
        watched.use(now, *ids)
        used += len(ids)
        for block in ids:
            if block in last_use:
                ages.append(now - last_use[block])
            last_use[block] = now
    assert watched.reuse.return_share == pytest.approx(len(ages) / used)
    ages.sort()
    # An epoch is dated by its beginning, so ages err on the long side, here by less than one bin.
    exact = ages[int(HORIZON_SHARE * len(ages))]
    assert bin_end(exact) <= watched.reuse.horizon_s() <= bin_end(2 * exact)


def test_readings_date_the_indexs_clock_and_are_bounded() -> None:
    reuse = Reuse()
    for second in range(3 * READINGS):
        reuse.read_clock(10 * second, float(second))
    latest = 3 * READINGS - 1
    assert reuse.time_of(10 * (latest - 5) + 3) == latest - 5
    assert reuse.tick_at(latest - 5 + 0.5) == 10 * (latest - 5)
    assert reuse.time_of(10**9) == latest
    assert reuse.tick_at(-1.0) == 0
    assert len(reuse._ticks) <= READINGS


def test_an_hour_without_requests_makes_nothing_alive() -> None:
    watched = Watched()
    watched.use(0.0, *range(1, 50))
    watched.reuse.read_clock(watched.index.clock, 1.0)
    watched.reuse.read_clock(watched.index.clock, 3_600.0)
    since = watched.reuse.tick_at(3_600.0 - 60.0)
    assert watched.index.used_since(0, since) == 0


def test_crowding_rises_with_what_is_alive_and_with_what_comes_back() -> None:
    watched = Watched()
    for turn in range(100):
        watched.use(float(turn), 1, 2, 3, 4)
    share = watched.reuse.return_share
    middle = (LIVE_LOW + LIVE_HIGH) / 2
    found = [watched.reuse.crowding(live) for live in (0.0, LIVE_LOW, middle, LIVE_HIGH, 1.0)]
    assert found == pytest.approx([0.0, 0.0, share / 2, share, share])
