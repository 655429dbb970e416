"""Trees of block ids: what two prompts share is what their lists share, whatever the order of adding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmroute_simulator.traces.chains import ChainedPrompts, ContentChains, NotChainedError
from warmroute_simulator.traces.prompts import ROOT, PromptTree

BLOCK = 4

CONTENTS = st.lists(st.lists(st.integers(0, 3), max_size=12), min_size=1, max_size=30)


def common(first: list[int], second: list[int]) -> int:
    """Leading places in which two lists agree."""
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return length


def shared_tokens(tree: PromptTree, first: int, second: int) -> int:
    node = ROOT
    for one, other in zip(tree.path(first), tree.path(second), strict=False):
        if one != other:
            break
        node = one
    return tree.ends[node]


@given(CONTENTS, st.data())
def test_two_prompts_share_as_many_tokens_as_leading_ids(
    prompts: list[list[int]], data: st.DataObject
) -> None:
    chains, chained = ContentChains(), ChainedPrompts(BLOCK)
    ids = [chains.chain(prompt) for prompt in prompts]
    rests = [data.draw(st.integers(0 if prompt else 1, 9)) for prompt in prompts]
    for prompt, rest in zip(ids, rests, strict=True):
        chained.add(prompt, len(prompt) * BLOCK + rest)
    tree, leaves = chained.tree()
    for first, one in enumerate(leaves):
        assert tree.ends[one] == len(prompts[first]) * BLOCK + rests[first]
        for second in range(first):
            expected = common(prompts[first], prompts[second]) * BLOCK
            assert shared_tokens(tree, one, leaves[second]) == expected


@given(CONTENTS)
def test_the_tree_has_no_more_nodes_than_branches_and_ends_need(prompts: list[list[int]]) -> None:
    chains, chained = ContentChains(), ChainedPrompts(BLOCK)
    for prompt in prompts:
        chained.add(chains.chain(prompt), len(prompt) * BLOCK + 1)
    tree, leaves = chained.tree()
    children = [0] * len(tree)
    for parent in tree.parents[1:]:
        children[parent] += 1
    # Each prompt has one leaf of its own and at most two cuts: where it leaves the others, and where it ends.
    assert len(tree) <= 1 + 3 * len(prompts)
    assert all(children[leaf] == 0 for leaf in leaves)


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=2, max_size=12))
def test_ids_pass_exactly_when_each_always_follows_the_same_ids(prompts: list[list[int]]) -> None:
    chained = ChainedPrompts(BLOCK)
    before: dict[int, tuple[int, ...]] = {}
    for prompt in prompts:
        starts = {number: tuple(prompt[:place]) for place, number in enumerate(prompt)}
        fits = len(starts) == len(prompt) and all(
            before.get(number, start) == start for number, start in starts.items()
        )
        if fits:
            chained.add(prompt, len(prompt) * BLOCK)
            before |= starts
        else:
            with pytest.raises(NotChainedError):
                chained.add(prompt, len(prompt) * BLOCK)
    # What was refused has left nothing behind.
    for number, start in before.items():
        chained.add([*start, number], (len(start) + 1) * BLOCK)


def test_an_unfinished_block_is_shared_by_prompts_that_end_alike() -> None:
    chained = ChainedPrompts(BLOCK)
    for ids, tokens in (([1, 2], 6), ([1, 2], 6), ([1, 3], 6), ([1], 6)):
        chained.add(ids, tokens)
    tree, leaves = chained.tree()
    assert leaves[0] == leaves[1]
    assert shared_tokens(tree, leaves[0], leaves[2]) == BLOCK
    assert shared_tokens(tree, leaves[0], leaves[3]) == BLOCK


def test_more_ids_than_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="3 ids for 8 tokens in blocks of 4"):
        ChainedPrompts(BLOCK).add([1, 2, 3], 8)


def test_forgotten_ids_are_other_blocks_and_negative_ones_stay() -> None:
    chained = ChainedPrompts(BLOCK)
    for _ in range(3):
        chained.add([-1, -2, 1, 2], 16)
        chained.forget_ids()
    tree, leaves = chained.tree()
    assert len(set(leaves)) == 3
    assert {shared_tokens(tree, leaves[0], other) for other in leaves[1:]} == {8}


def test_ids_of_any_size_are_told_apart() -> None:
    chained = ChainedPrompts(BLOCK)
    large = [2**64 - 1, 2**63, 2**63 - 1, 0, 2**70 + 5]
    chained.add(large, 20)
    chained.add([*large[:2], 17], 12)
    tree, leaves = chained.tree()
    assert shared_tokens(tree, leaves[0], leaves[1]) == 2 * BLOCK
