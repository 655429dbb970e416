"""The index against a naive model: one ordered table of blocks per slot, kept block by block.

The model shares nothing with the index but the ids: a slot's cache is a dict from a prefix (a tuple of
symbols) to the time of its last use, and the victim is the deepest block of the oldest use.
"""

from __future__ import annotations

import random

import pytest
import xxhash

from warmroute_policies.blocks import PromptBlocks
from warmroute_policies.index import PrefixIndex

Prefix = tuple[int, ...]


def blocks_of(prompt: Prefix) -> PromptBlocks:
    """Chained ids of a prompt whose blocks are single symbols."""
    ids, last = [], 0
    for symbol in prompt:
        last = xxhash.xxh3_64_intdigest(symbol.to_bytes(2, "little"), last)
        ids.append(last)
    return PromptBlocks.from_ids(ids)


class NaiveCache:
    """One worker's paged cache: LRU over blocks, of one request the tail before the head."""

    def __init__(self) -> None:
        self.capacity = float("inf")
        self.used: dict[Prefix, tuple[int, int]] = {}

    def insert(self, prompt: Prefix, tick: int) -> None:
        for depth in range(1, len(prompt) + 1):
            self.used[prompt[:depth]] = (tick, -depth)
        self.fit()

    def fit(self) -> None:
        if len(self.used) > self.capacity:
            oldest = sorted(self.used, key=self.used.__getitem__)
            keep = int(self.capacity) - int(self.capacity / 128)  # evictions leave a little room
            for prefix in oldest[: len(self.used) - keep]:
                del self.used[prefix]

    def depth(self, prompt: Prefix) -> int:
        depth = 0
        while depth < len(prompt) and prompt[: depth + 1] in self.used:
            depth += 1
        return depth

    def forget_branches(self, prompt: Prefix, depth: int, known: int, tick: int) -> None:
        if depth < known:
            self.forget(prompt, depth)
            self.insert(prompt[:known], tick)

    def forget(self, prompt: Prefix, depth: int) -> None:
        gone = prompt[: depth + 1]
        if depth < len(prompt):
            self.used = {prefix: use for prefix, use in self.used.items() if prefix[: len(gone)] != gone}


class Prompts:
    """Prompts that share and diverge at every offset, stretch boundaries more often than others."""

    def __init__(self, chance: random.Random, longest: int) -> None:
        self._chance = chance
        self._longest = longest
        self._seen: list[Prefix] = [()]

    def next(self) -> Prefix:
        chance = self._chance
        base = chance.choice(self._seen)
        cut = chance.choice(
            [len(base), chance.randint(0, len(base)), len(base) // 16 * 16, min(len(base), 16)]
        )
        length = chance.choice([0, 1, chance.randint(0, 20), 16 - cut % 16, 40])
        prompt = (*base[:cut], *(chance.randrange(3) for _ in range(length)))[: self._longest]
        self._seen.append(prompt)
        if len(self._seen) > 60:
            self._seen.pop(chance.randrange(len(self._seen)))
        return prompt

    def old(self) -> Prefix:
        return self._chance.choice(self._seen)


def settle(index: PrefixIndex) -> None:
    while index.maintain(50):
        pass


def compare(index: PrefixIndex, models: list[NaiveCache], prompt: Prefix) -> None:
    match = index.match(blocks_of(prompt))
    expected = {slot: depth for slot, model in enumerate(models) if (depth := model.depth(prompt))}
    assert match.depths == expected
    assert match.depth == max(expected.values(), default=0)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("slots", "longest"), [(1, 70), (3, 40), (6, 150)])
def test_index_agrees_with_a_naive_model_after_every_operation(seed: int, slots: int, longest: int) -> None:
    chance = random.Random(f"{seed}/{slots}/{longest}")
    prompts, index = Prompts(chance, longest), PrefixIndex()
    models = [NaiveCache() for _ in range(slots)]
    for slot in range(slots):
        if chance.random() < 0.8:
            models[slot].capacity = capacity = chance.randint(0, 6 * longest)
            index.set_capacity(slot, capacity)
    for tick in range(1_000):
        slot = chance.randrange(slots)
        model, prompt = models[slot], prompts.next()
        action = chance.random()
        if action < 0.8:
            blocks = blocks_of(prompt)
            match = index.match(blocks)
            inserted = index.insert(slot, blocks, match)
            assert inserted.held == match.depths.get(slot, 0)
            model.insert(prompt, tick)
            settle(index)
        elif action < 0.86:
            prompt = prompts.old()
            depth = chance.randint(0, len(prompt))
            known = index.match(blocks_of(prompt)).depth
            index.forget_branches(slot, blocks_of(prompt), depth)
            model.forget_branches(prompt, depth, known, tick)
            settle(index)
        elif action < 0.93:
            prompt = prompts.old()
            depth = chance.choice([0, chance.randint(0, len(prompt)), model.depth(prompt)])
            index.forget(slot, blocks_of(prompt), depth)
            model.forget(prompt, depth)
            settle(index)
        elif action < 0.98:
            model.capacity = capacity = chance.choice([chance.randint(0, 6 * longest), 10**9])
            index.set_capacity(slot, capacity)
            model.fit()
            settle(index)
        else:
            index.drop_slot(slot)
            assert slot not in index.match(blocks_of(prompts.old())).depths
            model.used.clear()
            settle(index)
        for some in (prompt, prompts.old()):
            compare(index, models, some)
        for at, each in enumerate(models):
            assert index.resident(at) == len(each.used)
        if tick % 10 == 0:
            index.check_integrity()
    index.check_integrity()
    unique = len({prefix for model in models for prefix in model.used})
    assert index.statistics().unique_blocks == unique
    assert index.statistics().blocks == sum(len(model.used) for model in models)
