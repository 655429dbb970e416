"""The two caches are one: the same prompts as paths in a tree and as block keys, operation by operation."""

from __future__ import annotations

import random

import pytest

from warmroute_simulator.engine import (
    Admitted,
    Engine,
    EngineConfig,
    EngineRequest,
    Event,
    Finished,
    PagedCache,
    TreeCache,
)
from warmroute_simulator.traces.prompts import ROOT, PromptTree

BLOCK = 8


class Conversations:
    """Prompts drawn from what was asked before, or going on from an answer once that was given. No prompt and
    no answer ends with a full block. State: the tree, and what may be asked next."""

    def __init__(self, chance: random.Random, answers: int) -> None:
        self.chance = chance
        self.tree = PromptTree()
        self.prompts = [self.add(ROOT) for _ in range(5)]
        # Caches are made for a whole tree, so answers and what follows them are there from the start.
        self.after: dict[int, list[tuple[int, int]]] = {}
        nodes = list(self.prompts)
        for _ in range(answers):
            prompt = chance.choice(nodes[-200:])
            if self.tree.ends[prompt] < 400:
                answer = self.add(prompt)
                follow = self.add(answer)
                self.after.setdefault(prompt, []).append((answer, follow))
                nodes += [follow, self.add(prompt)]
        self.given: dict[int, int] = {}

    def add(self, parent: int) -> int:
        tokens = self.chance.randint(1, 40)
        return self.tree.add(parent, tokens + ((self.tree.ends[parent] + tokens) % BLOCK == 0))

    def ask(self, request_id: int) -> tuple[int, int]:
        """Nodes of the next prompt and of its answer."""
        prompt = self.prompts[-1] if self.chance.random() < 0.3 else self.chance.choice(self.prompts)
        answers = self.after.get(prompt)
        if not answers:
            return prompt, prompt
        answer, self.given[request_id] = answers.pop()
        return prompt, answer

    def answered(self, request_id: int) -> None:
        if request_id in self.given:
            self.prompts.append(self.given.pop(request_id))


def keys_of(tree: PromptTree, node: int) -> list[int]:
    """A key for each block of the path: the node in which it ends, and its place."""
    keys, start = [], 0
    for part in tree.path(node):
        end = tree.ends[part]
        keys += [part * 1_000_000 + block for block in range(start // BLOCK, end // BLOCK)]
        start = end
    return keys


def accounts(engine: Engine) -> tuple[int, ...]:
    cache = engine.cache
    assert cache.free + cache.private + cache.referenced + cache.evictable == cache.capacity
    return cache.free, cache.private, cache.evictable, cache.evictions


@pytest.mark.parametrize("seed", range(12))
def test_an_engine_gives_the_same_events_and_accounts_with_either_cache(seed: int) -> None:
    """Overload, preemption and aborts. Where the last block of a prompt is full and has to be computed again,
    `PagedCache` may evict the old copy in between, and `TreeCache` keeps it: such prompts are left out. And
    prefills are not chunked: while two sequences compute one node and one of them is aborted, what the other
    has not reached is idle for `PagedCache` and in use for `TreeCache`."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    traffic = Conversations(chance, 500)
    tree = traffic.tree
    config = EngineConfig(kv_tokens=520, block_tokens=BLOCK, max_num_seqs=5, step_tokens=4096)
    paged = Engine(config, PagedCache(config.capacity_blocks))
    treed = Engine(config, TreeCache(config.capacity_blocks, BLOCK, tree.ends))
    now, hits = 0.0, 0
    for request_id in range(600):
        prompt, answer = traffic.ask(request_id)
        now += chance.expovariate(1 / 0.2)
        tokens, output = tree.ends[prompt], max(1, tree.ends[answer] - tree.ends[prompt])
        abort = chance.randrange(request_id + 1) if chance.random() < 0.1 else None
        told: list[list[Event]] = []
        for engine, known in ((paged, keys_of(tree, answer)), (treed, tree.path(answer))):
            events = engine.advance(now)
            if abort is not None:
                engine.abort(abort)
            engine.submit(EngineRequest(request_id, tokens, output, known), now)
            told.append(events)
        with_keys, with_nodes = (
            [
                (type(event), event.request_id, event.at, getattr(event, "cached_tokens", None))
                for event in events
            ]
            for events in told
        )
        assert with_keys == with_nodes
        for event in told[1]:
            if isinstance(event, Finished):
                traffic.answered(event.request_id)
        hits += sum(event.cached_tokens > 0 for event in told[1] if isinstance(event, Admitted))
        assert accounts(paged) == accounts(treed)
    assert hits > 100
    assert paged.totals.preemptions == treed.totals.preemptions
    assert paged.cache.evictions > 100


def test_what_was_evicted_is_told_apart_from_what_was_never_here() -> None:
    tree = PromptTree()
    shared = tree.add(ROOT, 32)
    first, second = tree.add(shared, 32), tree.add(shared, 32)
    cache = TreeCache(10, BLOCK, tree.ends)
    for leaf in (first, second):  # 12 blocks do not fit in 10: two of `first` must go
        path = tree.path(leaf)
        hit = cache.match(path, 7)
        cache.acquire(path, hit)
        assert cache.grow(path, hit * BLOCK, 64, BLOCK)
        cache.release(path, 64, BLOCK)
    assert cache.match(tree.path(first), 8) == 6
    assert cache.lost(tree.path(first), 6, 7) == 1
    assert cache.lost(tree.path(first), 6, 8) == 2
    assert cache.lost(tree.path(second), 8, 8) == 0


def test_clearing_forgets_what_nobody_uses_and_nothing_else() -> None:
    tree = PromptTree()
    used, unused = tree.add(ROOT, 32), tree.add(ROOT, 32)
    cache = TreeCache(10, BLOCK, tree.ends)
    for leaf in (used, unused):
        assert cache.grow(tree.path(leaf), 0, 32, BLOCK)
    cache.release(tree.path(unused), 32, BLOCK)
    cache.clear()
    assert (cache.match(tree.path(used), 4), cache.match(tree.path(unused), 4)) == (4, 0)
    assert (cache.free, cache.referenced) == (6, 4)
