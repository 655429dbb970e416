"""The hit bounds against caches written page by page, and against every eviction that is possible."""

from __future__ import annotations

import random
from itertools import combinations
from math import nan

import pytest

from warmroute_simulator.bounds.hits import HitBounds, hit_bounds
from warmroute_simulator.bounds.infinite import causal_infinite, infinite_hit_tokens, single_infinite
from warmroute_simulator.bounds.pages import Pages
from warmroute_simulator.bounds.pooled import belady_hits, lru_hits
from warmroute_simulator.bounds.replay import replay
from warmroute_simulator.bounds.touches import Touches
from warmroute_simulator.traces.prompts import ROOT, PromptTree
from warmroute_simulator.traces.trace import Trace

Page = tuple[int, int]
"""The node in which it ends, and its number on the path."""


def random_trace(chance: random.Random, requests: int, nodes: int) -> Trace:
    """Prompts that share, extend and repeat each other; some answers are gone on from, by several prompts."""
    tree = PromptTree()
    trace = Trace("random", tree)
    for _ in range(nodes):
        tree.add(chance.randrange(len(tree)), chance.randint(1, 7))
    answers: dict[int, tuple[int, int]] = {}
    for _ in range(requests):
        prompt = chance.randint(1, len(tree) - 1)
        if chance.random() < 0.4 and prompt not in answers:
            output = chance.randint(1, 6)
            answers[prompt] = tree.add(prompt, output), output
            tree.add(answers[prompt][0], chance.randint(1, 3))
        answer, output = answers.get(prompt, (ROOT, chance.randint(0, 3)))
        trace.add(prompt, output, answer=answer)
    return trace


def pages_of(trace: Trace, row: int, page_tokens: int) -> tuple[list[Page], int]:
    """All pages that the row's service leaves behind, from the root on, and how many of them it can hit."""
    tree, prompt_tokens = trace.tree, trace.prompt_tokens(row)
    pages = [
        (node, number)
        for node in tree.path(trace.answers[row])
        for number in range(tree.start(node) // page_tokens, tree.ends[node] // page_tokens)
    ]
    computed = prompt_tokens + max(trace.output_tokens[row], 1) - 1
    return pages[: computed // page_tokens], (prompt_tokens - 1) // page_tokens


def beginning(pages: list[Page], counted: int, resident: set[Page] | frozenset[Page]) -> int:
    """How many of the first `counted` pages are resident without a gap."""
    hit = 0
    while hit < min(counted, len(pages)) and pages[hit] in resident:
        hit += 1
    return hit


def naive_infinite(accesses: list[tuple[list[Page], int]]) -> int:
    seen: set[Page] = set()
    hits = 0
    for pages, counted in accesses:
        hits += beginning(pages, counted, seen)
        seen.update(pages)
    return hits


def naive_lru(accesses: list[tuple[list[Page], int]], capacity: int) -> int:
    recent: dict[Page, None] = {}
    hits = 0
    for pages, counted in accesses:
        hits += beginning(pages, counted, set(recent))
        for page in reversed(pages):
            recent.pop(page, None)
            recent[page] = None
        while len(recent) > capacity:
            del recent[next(iter(recent))]
    return hits


def best_of_all(accesses: list[tuple[list[Page], int]], capacity: int) -> int:
    """The most hits of any sequence of evictions, found by trying them all.

    To keep fewer pages than there is room for is never better, so only full caches are tried.
    """
    best = {frozenset[Page](): 0}
    for pages, counted in accesses:
        after: dict[frozenset[Page], int] = {}
        for resident, so_far in best.items():
            hits = so_far + beginning(pages, counted, resident)
            there = sorted(resident.union(pages))
            for keep in combinations(there, min(capacity, len(there))):
                kept = frozenset(keep)
                after[kept] = max(after.get(kept, 0), hits)
        best = after
    return max(best.values())


def random_fleet(
    chance: random.Random, accesses: list[tuple[list[Page], int]], caches: int, capacity: int
) -> int:
    """Hits of caches of `capacity` pages each, with requests sent anywhere and anything evicted."""
    resident: list[set[Page]] = [set() for _ in range(caches)]
    hits = 0
    for pages, counted in accesses:
        cache = resident[chance.randrange(caches)]
        hits += beginning(pages, counted, cache)
        cache.update(pages)
        while len(cache) > capacity:
            cache.remove(chance.choice(sorted(cache)))
    return hits


def chain(*prompts: str) -> Trace:
    """A page of one token for each letter; prompts end in a token of their own, which is never a hit."""
    trace = Trace("letters", PromptTree())
    nodes: dict[str, int] = {"": ROOT}
    for prompt in prompts:
        for length in range(1, len(prompt) + 1):
            if prompt[:length] not in nodes:
                nodes[prompt[:length]] = trace.tree.add(nodes[prompt[: length - 1]], 1)
        trace.add(nodes[prompt], 1)
    return trace


@pytest.mark.parametrize("seed", range(60))
def test_infinite_and_lru_equal_caches_written_page_by_page(seed: int) -> None:
    chance = random.Random(seed)
    trace = random_trace(chance, requests=40, nodes=25)
    order = [chance.randrange(len(trace)) for _ in range(60)] if seed % 2 else range(len(trace))
    page_tokens = chance.choice((1, 2, 3, 4))
    accesses = [pages_of(trace, row, page_tokens) for row in order]
    last = {row: position for position, row in enumerate(order)}
    accesses = [
        (pages, counted if last[row] == position else 0)
        for position, (row, (pages, counted)) in enumerate(zip(order, accesses, strict=True))
    ]
    touches = Touches(Pages(trace, page_tokens), order)
    assert sum(infinite_hit_tokens(touches)) == naive_infinite(accesses) * page_tokens
    for capacity in (1, 2, 5, 11, 30, 1000):
        assert lru_hits(touches, capacity) == naive_lru(accesses, capacity), capacity


@pytest.mark.parametrize("seed", range(50))
def test_belady_is_what_the_best_of_all_evictions_hits(seed: int) -> None:
    chance = random.Random(seed)
    trace = random_trace(chance, requests=7, nodes=4)
    page_tokens = chance.choice((2, 3, 4))
    accesses = [pages_of(trace, row, page_tokens) for row in range(len(trace))]
    touches = Touches(Pages(trace, page_tokens), range(len(trace)))
    for capacity in (1, 2, 3, 4):
        assert belady_hits(touches, capacity) == best_of_all(accesses, capacity), capacity


@pytest.mark.parametrize("seed", range(50))
def test_no_fleet_hits_more_than_belady_nor_belady_more_than_an_endless_cache(seed: int) -> None:
    chance = random.Random(seed)
    trace = random_trace(chance, requests=40, nodes=15)
    page_tokens = chance.choice((1, 2, 3))
    pages = Pages(trace, page_tokens)
    touches = Touches(pages, range(len(trace)))
    accesses = [pages_of(trace, row, page_tokens) for row in range(len(trace))]
    endless = naive_infinite(accesses)
    former = 0
    for caches, capacity in ((1, 2), (2, 3), (3, 4), (2, 9), (4, 12)):
        most = belady_hits(touches, caches * capacity)
        assert former <= most <= endless
        former = most
        assert lru_hits(touches, caches * capacity) <= most
        for _ in range(10):
            assert random_fleet(chance, accesses, caches, capacity) <= most
            workers = [chance.randrange(caches) for _ in accesses]
            fleet = replay(pages, range(len(trace)), workers, caches, capacity * page_tokens)
            assert fleet.hit_rate <= touches.rate(most) + 1e-12


def test_two_caches_may_beat_a_pool_of_their_size_under_lru() -> None:
    trace = chain("ax", "bx", "cx", "ax")
    order = range(4)
    # Two pages pooled: b and c have pushed a out. Split: a has a cache for itself.
    pages = Pages(trace, 1)
    assert hit_bounds(trace, order, 1, pool_tokens=2).pooled_lru == 0
    alone = replay(pages, order, [0, 1, 1, 0], 2, cache_tokens=1)
    assert alone.hit_rate == 1 / 8
    assert hit_bounds(trace, order, 1, pool_tokens=2).pooled_belady == 1 / 8


@pytest.mark.parametrize("seed", range(40))
def test_a_larger_pool_never_hits_less_and_one_that_holds_everything_is_endless(seed: int) -> None:
    trace = random_trace(random.Random(seed), requests=60, nodes=20)
    touches = Touches(Pages(trace, 2), range(len(trace)))
    hits = [lru_hits(touches, capacity) for capacity in range(1, 80)]
    assert hits == sorted(hits)
    everything = len(Pages(trace, 2).ends) * 10
    endless = sum(infinite_hit_tokens(touches)) // 2
    assert lru_hits(touches, everything) == belady_hits(touches, everything) == endless


def test_the_last_token_of_a_prompt_is_never_a_hit() -> None:
    tree = PromptTree()
    trace = Trace("twice", tree)
    node = tree.add(ROOT, 32)
    trace.add(node, 1)
    trace.add(node, 1)
    assert single_infinite(trace, [0, 1], 16) == 16 / 64
    assert single_infinite(trace, [0, 1], 1) == 31 / 64
    assert single_infinite(trace, [0, 1], 32) == 0


def test_an_answer_that_is_gone_on_from_is_a_hit_but_for_its_last_token() -> None:
    tree = PromptTree()
    trace = Trace("two turns", tree)
    question = tree.add(ROOT, 10)
    answer = tree.add(question, 6)
    trace.add(question, 6, answer=answer)
    trace.add(tree.add(answer, 4), 5)
    # 15 of 16 tokens were computed: 15 pages of one token, and 3 of four.
    assert single_infinite(trace, [0, 1], 1) == 15 / 30
    assert single_infinite(trace, [0, 1], 4) == 12 / 30
    assert single_infinite(trace, [0, 1], 16) == 0


def test_a_page_belongs_to_the_node_in_which_it_ends() -> None:
    tree = PromptTree()
    trace = Trace("branches", tree)
    system = tree.add(ROOT, 21)
    trace.add(tree.add(system, 20), 1)
    trace.add(tree.add(system, 20), 1)
    # The page from 16 to 32 begins in what is shared and is not: 16 tokens are, in pages of 16.
    assert single_infinite(trace, [0, 1], 16) == 16 / 82
    assert single_infinite(trace, [0, 1], 10) == 20 / 82


def test_belady_keeps_what_comes_next_and_lets_pass_what_does_not_come() -> None:
    trace = chain("ax", "bx", "cx", "ax", "bx")
    # Room for two: c comes once and is let pass, a and b are hit. LRU keeps b and c, then c and a.
    assert hit_bounds(trace, range(5), 1, 2) == HitBounds(2 / 10, 0.0, 2 / 10)


def test_a_page_that_comes_next_as_a_last_page_is_not_worth_keeping() -> None:
    tree = PromptTree()
    trace = Trace("ends at a page", tree)
    long = tree.add(ROOT, 4)
    longer = tree.add(long, 1)
    other = tree.add(ROOT, 5)
    for prompt in (longer, other, long, other):
        trace.add(prompt, 1)
    # One page of 4. `long` computes its page anew whether it is there or not, so the page is `other`'s.
    assert hit_bounds(trace, range(4), 4, 4).pooled_belady == 4 / 19


def test_a_request_that_is_taken_up_twice_counts_once_and_at_the_end() -> None:
    trace = chain("abc", "abd")
    assert single_infinite(trace, [0, 1, 0], 1) == (2 + 2) / 6


def test_a_prefix_counts_only_from_its_first_token_on_and_an_answer_from_its_end_on() -> None:
    tree = PromptTree()
    trace = Trace("answers", tree)
    question = tree.add(ROOT, 10)
    answer = tree.add(question, 10)
    again = tree.add(answer, 10)
    trace.add(question, 10, answer=answer)
    trace.add(again, 1)

    def rate(asked_s: float) -> float:
        return causal_infinite(trace, 1, [0.0, asked_s], [5.0, 99.0], [9.0, 99.0])

    assert [rate(asked_s) for asked_s in (4.9, 5.0, 8.9, 9.0)] == [0, 10 / 40, 10 / 40, 19 / 40]


@pytest.mark.parametrize("seed", range(60))
def test_causal_hits_equal_a_search_through_all_that_had_ended(seed: int) -> None:
    chance = random.Random(seed)
    trace = random_trace(chance, requests=30, nodes=12)
    page_tokens = chance.choice((1, 2, 3))
    asked = [chance.uniform(0, 100) for _ in range(len(trace))]
    asked[3] = nan
    first = [at + chance.uniform(0.01, 9) for at in asked]
    ended = [at + chance.uniform(0.01, 9) for at in first]
    ended[5] = nan
    hits = total = 0
    for row, at in enumerate(asked):
        pages, counted = pages_of(trace, row, page_tokens)
        known: set[Page] = set()
        for other in range(len(trace)):
            kept, _ = pages_of(trace, other, page_tokens)
            if ended[other] <= at:
                known.update(kept)
            elif first[other] <= at:
                known.update(kept[: trace.prompt_tokens(other) // page_tokens])
        if at == at:
            hits += beginning(pages, counted, known) * page_tokens
            total += trace.prompt_tokens(row)
    assert causal_infinite(trace, page_tokens, asked, first, ended) == hits / total
    order = sorted((row for row in range(len(trace)) if row != 3), key=asked.__getitem__)
    assert hits / total <= single_infinite(trace, order, page_tokens)


def test_of_nothing_the_bounds_are_0() -> None:
    assert hit_bounds(Trace("empty", PromptTree()), [], 16, 1000) == HitBounds(0.0, 0.0, 0.0)


def test_a_pool_without_room_for_a_page_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no page"):
        hit_bounds(chain("ab"), [0], 16, 15)
    with pytest.raises(ValueError, match="at least one token"):
        Pages(chain("ab"), 0)
