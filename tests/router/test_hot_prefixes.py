"""Hot prefixes against a count that keeps everything."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmroute.hot_prefixes import HotPrefixes, is_sampled
from warmroute_policies.blocks import PromptBlocks
from warmroute_policies.types import Decision, RoutingRequest

LENGTHS = (1, 16, 64, 256)


def prompt(system: int, chat: int, count: int) -> PromptBlocks:
    """`count` blocks: a system prompt's 16, then a conversation's."""
    return PromptBlocks.from_ids([(system if at < 16 else chat) * 1000 + at for at in range(count)])


def saw(prefixes: HotPrefixes, blocks: PromptBlocks, hit_blocks: int, now: float = 0.0) -> None:
    """A request whose first blocks hit; a block is 128 tokens."""
    request = RoutingRequest(1, "m", blocks)
    decision = Decision(1, "w", 0, "warm", blocks.count * 128, hit_blocks * 128, hit_blocks * 128)
    prefixes.saw(request, decision, now)


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(4, 9), st.integers(1, 300), st.integers(1, 300)), max_size=40
    )
)
def test_what_a_prefix_saved_is_the_sum_over_the_requests_that_hit_beyond_it(
    seen: list[tuple[int, int, int, int]],
) -> None:
    prefixes, naive = HotPrefixes(), Counter[int]()
    for system, chat, count, hit in seen:
        hit = min(hit, count)
        blocks = prompt(system, chat, count)
        saw(prefixes, blocks, hit)
        for length in LENGTHS:
            if length <= hit:
                naive[blocks.id_at(length - 1)] += hit * 128 * 4
    top = prefixes.top(10_000)
    assert {prefix.prefix: prefix.saved_tokens for prefix in top} == naive
    assert [prefix.saved_tokens for prefix in top] == sorted(naive.values(), reverse=True)


def test_a_longer_prefix_names_the_shorter_one_as_its_parent() -> None:
    prefixes = HotPrefixes()
    blocks = prompt(1, 5, 70)
    saw(prefixes, blocks, 70)
    parents = {prefix.prefix: prefix.parent for prefix in prefixes.top(10)}
    first, stretch, longer = (blocks.id_at(at) for at in (0, 15, 63))
    assert parents == {first: None, stretch: first, longer: stretch}


def test_counts_are_halved_in_ten_minutes_however_often_time_is_told() -> None:
    often, seldom = HotPrefixes(), HotPrefixes()
    for prefixes, step in ((often, 1), (seldom, 600)):
        prefixes.age(100.0)
        saw(prefixes, prompt(1, 5, 1), 1, 100.0)
        for now in range(100, 701, step):
            prefixes.age(float(now))
        assert prefixes.top(1)[0].saved_tokens == pytest.approx(128 * 4 / 2)
        assert prefixes.saved_tokens == pytest.approx(128 * 4 / 2)


def test_a_flood_of_prefixes_is_bounded_and_the_hottest_stay() -> None:
    prefixes = HotPrefixes()
    for _ in range(20):
        saw(prefixes, prompt(1, 5, 16), 16)
    for other in range(10, 5000):
        saw(prefixes, prompt(other, 5, 1), 1)
    assert len(prefixes.top(100_000)) <= 1024
    assert prefixes.top(1)[0].saved_tokens == 20 * 16 * 128 * 4


def test_one_request_in_four_is_counted_whatever_the_rhythm_of_traffic() -> None:
    for step in (1, 2, 3, 4, 8, 16):
        taken = sum(is_sampled(number) for number in range(0, 40_000 * step, step))
        assert taken == pytest.approx(10_000, rel=0.02), step
