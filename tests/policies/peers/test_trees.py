"""The trees of other routers' rules against sets of prefixes, and what is left of them at the end."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from warmroute_policies.blocks import pack_ids
from warmroute_policies.peers.block_tree import BlockNode, BlockTree
from warmroute_policies.peers.tenant_tree import TenantTree

Prompt = tuple[int, ...]


def prompts(chance: Random, number: int) -> list[Prompt]:
    """Prompts that branch off each other at random places; equal ids are equal prefixes."""
    found: list[Prompt] = [()]
    fresh = iter(range(1, 1_000_000))
    for _ in range(number):
        stem = chance.choice(found)
        stem = stem[: chance.randint(0, len(stem))]
        found.append((*stem, *(next(fresh) for _ in range(chance.randint(0, 12)))))
    return found


def prefixes(prompt: Prompt) -> set[int]:
    """A block's id stands for the prefix that it ends."""
    return set(prompt)


@pytest.mark.parametrize("seed", range(5))
def test_a_match_is_the_longest_prefix_in_common_with_any_prompt_that_was_grown(seed: int) -> None:
    chance = Random(seed)
    tree = BlockTree(BlockNode)
    known: set[int] = set()
    for prompt in prompts(chance, 300):
        path, blocks = tree.match(pack_ids(prompt))
        assert blocks == len(known & prefixes(prompt)), f"seed {seed}, {prompt}"
        assert [node.end for node in path] == sorted({node.end for node in path})
        if chance.random() < 0.7:
            known |= prefixes(prompt)
            grown = tree.grow(pack_ids(prompt))
            assert b"".join(node.run for node in grown) == pack_ids(prompt)
            assert all(lower.parent is upper for upper, lower in pairwise(grown))
    assert sum(node.size for node in tree.nodes()) == len(known)


@pytest.mark.parametrize("seed", range(5))
def test_tenants_are_counted_to_the_block_and_dropped_without_a_trace(seed: int) -> None:
    chance = Random(seed)
    tree = TenantTree()
    sent: dict[int, set[int]] = {slot: set() for slot in range(4)}
    for stamp, prompt in enumerate(prompts(chance, 300)):
        slot = chance.randrange(4)
        for node in tree.grow(pack_ids(prompt)):
            tree.hold(node, slot, stamp)
        sent[slot] |= prefixes(prompt)
        assert {slot: tree.blocks.get(slot, 0) for slot in sent} == {s: len(ids) for s, ids in sent.items()}
    for node in tree.nodes():
        assert node.tenants
        assert node.parent is tree.root or set(node.tenants) <= set(
            node.parent.tenants if node.parent else ()
        )
    for slot in sent:
        tree.drop(slot)
    assert list(tree.nodes()) == []
    assert tree.blocks == {}


@pytest.mark.parametrize("seed", range(5))
def test_eviction_ends_at_the_bound_takes_leaves_alone_and_leaves_other_slots_be(seed: int) -> None:
    chance = Random(seed)
    tree = TenantTree()
    for stamp, prompt in enumerate(prompts(chance, 300)):
        slot = chance.randrange(2)
        for node in tree.grow(pack_ids(prompt)):
            tree.hold(node, slot, stamp)
    largest = max(node.size for node in tree.nodes())
    others = tree.blocks[1]
    tree.evict_leaves((0,), 100)
    assert 100 - largest < tree.blocks[0] <= 100
    assert tree.blocks[1] == others
    assert tree.blocks[0] == sum(node.size for node in tree.nodes() if 0 in node.tenants)
    for node in tree.nodes():
        assert node.parent is tree.root or (node.parent and set(node.tenants) <= set(node.parent.tenants))


def test_the_least_recently_used_leaf_goes_first_and_its_parent_with_the_stamp_that_it_has() -> None:
    tree = TenantTree()
    stem, left, right = (1, 2), (1, 2, 3), (1, 2, 4)
    for stamp, prompt in ((5, stem), (8, left), (7, right), (6, (9,))):
        tree.hold(tree.grow(pack_ids(prompt))[-1], 0, stamp)

    def left_over() -> list[int]:
        return sorted(node.tenants[0] for node in tree.nodes())

    assert left_over() == [5, 6, 7, 8]
    tree.evict_leaves((0,), 4)  # of five blocks one must go: the stem is older, and is no leaf
    assert left_over() == [5, 7, 8]
    tree.evict_leaves((0,), 3)
    assert left_over() == [5, 8]
    tree.evict_leaves((0,), 2)
    assert left_over() == [5]
    assert tree.root.children[pack_ids([1])].children == {}


def test_a_first_tenant_that_comes_back_before_anybody_asked_is_still_the_one_named() -> None:
    tree = TenantTree()
    (node,) = tree.grow(pack_ids([1, 2]))
    for slot in (3, 1, 2):
        tree.hold(node, slot, 0)
    assert node.tenant() == 3
    tree.release(node, 3)
    assert node.tenant() == 1
    tree.hold(node, 3, 5)
    assert (node.tenant(), list(node.tenants)) == (3, [1, 2, 3])
