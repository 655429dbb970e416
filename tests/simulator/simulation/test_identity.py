"""What a router sees of a path: blocks that are equal exactly as far as the tokens are."""

from __future__ import annotations

import random

import pytest

from warmroute_policies.blocks import TOKENS_PER_BLOCK, unpack_ids
from warmroute_simulator.simulation.identity import blocks_of
from warmroute_simulator.traces.prompts import PromptTree


def random_tree(chance: random.Random) -> PromptTree:
    tree = PromptTree()
    for node in range(60):
        parent = node if chance.random() < 0.5 else chance.randrange(len(tree))
        tree.add(parent, chance.randint(1, 700))
    return tree


def shared_tokens(tree: PromptTree, one: int, other: int) -> int:
    shared = 0
    for left, right in zip(tree.path(one), tree.path(other), strict=False):
        if left != right:
            break
        shared = tree.ends[left]
    return shared


@pytest.mark.parametrize("seed", range(5))
def test_prompts_share_exactly_the_blocks_that_lie_in_their_shared_tokens(seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    tree = random_tree(chance)
    ids = [unpack_ids(blocks_of(tree.path(node), tree.ends).ids(0, 10_000)) for node in range(1, len(tree))]
    for one in range(1, len(tree)):
        assert len(ids[one - 1]) == tree.ends[one] // TOKENS_PER_BLOCK
        for other in range(one):
            if other:
                equal = 0
                for left, right in zip(ids[one - 1], ids[other - 1], strict=False):
                    if left != right:
                        break
                    equal += 1
                assert equal == shared_tokens(tree, one, other) // TOKENS_PER_BLOCK
                assert len(set(ids[one - 1]) & set(ids[other - 1])) == equal


@pytest.mark.parametrize("seed", range(3))
def test_a_prompt_continues_another_if_its_path_passes_through_the_end_of_it(seed: int) -> None:
    print(f"seed {seed}")
    tree = random_tree(random.Random(seed))
    blocks = {node: blocks_of(tree.path(node), tree.ends) for node in range(1, len(tree))}
    for one, first in blocks.items():
        for other, second in blocks.items():
            assert second.continues(first.end()) == (one != other and one in tree.path(other))
