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
    make_engine,
)
from warmroute_simulator.engine.config import EngineKind
from warmroute_simulator.traces.prompts import ROOT, PromptTree

BLOCK = 8


class Conversations:
    """Prompts drawn from what was asked before, or going on from an answer once that was given. A third ends
    with a full block. State: the tree, and what may be asked next."""

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
        if self.chance.random() < 0.3:
            tokens += -(self.tree.ends[parent] + tokens) % BLOCK
        return self.tree.add(parent, tokens)

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
    """Overload, preemption and aborts. Prefills are not chunked: while two sequences compute one node and one
    of them is aborted, what only that one had reached is idle for `PagedCache`, in use for `TreeCache`."""
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
        lease = cache.acquire(path, hit)
        assert cache.grow(lease, hit * BLOCK, 64, BLOCK)
        cache.release(lease, 64, BLOCK)
    assert cache.match(tree.path(first), 8) == 6
    assert cache.lost(tree.path(first), 6, 7) == 1
    assert cache.lost(tree.path(first), 6, 8) == 2
    assert cache.lost(tree.path(second), 8, 8) == 0


def test_clearing_forgets_what_nobody_uses_and_nothing_else() -> None:
    tree = PromptTree()
    used, unused = tree.add(ROOT, 32), tree.add(ROOT, 32)
    cache = TreeCache(10, BLOCK, tree.ends)
    leases = [cache.acquire(tree.path(leaf), 0) for leaf in (used, unused)]
    for lease in leases:
        assert cache.grow(lease, 0, 32, BLOCK)
    cache.release(leases[1], 32, BLOCK)
    cache.clear()
    assert (cache.match(tree.path(used), 4), cache.match(tree.path(unused), 4)) == (4, 0)
    assert (cache.free, cache.referenced) == (6, 4)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
@pytest.mark.parametrize("seed", range(15))
def test_accounts_add_up_whatever_is_asked_and_in_the_end_nothing_is_in_use(
    kind: EngineKind, seed: int
) -> None:
    """Chunked prefills, aborts, prompts that end with a block, next turns that come before the answer that
    they go on from is given, the same prompt many times, a cache that is much too small."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    traffic = Conversations(chance, 60)
    tree = traffic.tree
    early = [(answer, follow) for pairs in traffic.after.values() for answer, follow in pairs]
    config = EngineConfig(
        kind=kind,
        kv_tokens=chance.choice((480, 640, 900)),
        block_tokens=BLOCK,
        max_num_seqs=6,
        step_tokens=64,
    )
    engine = make_engine(config, TreeCache(config.capacity_blocks, BLOCK, tree.ends))
    now, done = 0.0, 0
    for request_id in range(250):
        now += chance.expovariate(1 / 0.02)
        for event in engine.advance(now):
            if isinstance(event, Finished):
                traffic.answered(event.request_id)
                done += 1
        if chance.random() < 0.1:
            done += engine.abort(chance.randrange(request_id + 1))
        prompt, answer = traffic.ask(request_id)
        if early and chance.random() < 0.3:
            prompt = answer = chance.choice(early)[1]
        output = max(1, tree.ends[answer] - tree.ends[prompt])
        engine.submit(EngineRequest(request_id, tree.ends[prompt], output, tree.path(answer)), now)
        free, private, evictable, _ = accounts(engine)
        assert min(free, private, evictable, engine.cache.referenced) >= 0
    while (at := engine.next_event_at()) is not None:
        done += sum(isinstance(event, Finished) for event in engine.advance(at))
    assert done == 250
    assert (engine.cache.in_use, engine.cache.private, engine.cache.referenced) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_a_prompt_that_fills_the_cache_to_its_last_block_is_computed_again_and_again(
    kind: EngineKind,
) -> None:
    tree = PromptTree()
    prompt = tree.add(ROOT, 160)
    config = EngineConfig(kv_tokens=160, kind=kind)
    engine = make_engine(config, TreeCache(config.capacity_blocks, 16, tree.ends))
    for request_id in range(3):
        engine.submit(EngineRequest(request_id, 160, 0, [prompt]), float(request_id))
        events = engine.advance(request_id + 0.5)
        assert [type(event) for event in events] == [Admitted, Finished]
    assert engine.totals.cached_tokens == 2 * 144
