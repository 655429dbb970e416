"""Token buckets, against a naive model that keeps the whole history, and against what they promise."""

from __future__ import annotations

from math import inf
from random import Random

import pytest

from warmroute_policies.admission.buckets import PROMPT_TOKENS, REQUESTS, Buckets, Rate

BURST_S = 4.0


class NaiveBucket:
    """A level, filled step by step."""

    def __init__(self, per_s: float) -> None:
        self.per_s, self.burst = per_s, max(1.0, per_s * BURST_S)
        self.level = self.burst

    def pass_time(self, seconds: float) -> None:
        self.level = min(self.burst, self.level + seconds * self.per_s)

    def holds(self, needed: float) -> bool:
        return self.level >= min(needed, self.burst) - 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_buckets_pass_what_the_naive_ones_pass(seed: int) -> None:
    chance = Random(seed)
    rate = Rate(chance.choice((0.5, 2.0, inf)), chance.choice((10.0, 1000.0)))
    buckets = Buckets(rate, {}, BURST_S)
    naive = {
        name: (NaiveBucket(rate.requests_per_s), NaiveBucket(rate.prompt_tokens_per_s)) for name in "abc"
    }
    now = 0.0
    passed = 0
    for step in range(3000):
        gap = chance.choice((0.0, 0.1, 1.0, 3.0))
        now += gap
        for pair in naive.values():
            for bucket in pair:
                bucket.pass_time(gap)
        name, tokens = chance.choice("abc"), chance.choice((1, 5, 100, 5000))
        requests, prompt = naive[name]
        may = requests.holds(1.0) and prompt.holds(tokens)
        exceeded = buckets.take(name, tokens, now)
        assert (exceeded is None) == may, f"seed {seed}, step {step}"
        if may:
            passed += 1
            requests.level -= 1
            prompt.level -= tokens
            if chance.random() < 0.3:
                more = chance.randrange(-tokens, tokens + 1)
                buckets.settle(name, more, now)
                prompt.level = min(prompt.burst, prompt.level - more)
            elif chance.random() < 0.1:
                buckets.give_back(name, tokens, now)
                requests.level = min(requests.burst, requests.level + 1)
                prompt.level = min(prompt.burst, prompt.level + tokens)
    assert passed > 50


@pytest.mark.parametrize("seed", range(10))
def test_whoever_waits_as_long_as_told_passes_and_not_much_sooner(seed: int) -> None:
    chance = Random(seed)
    buckets = Buckets(Rate(2.0, 100.0), {}, BURST_S)
    now, refused = 0.0, 0
    for step in range(500):
        now += chance.uniform(0.0, 0.5)
        tokens = chance.choice((1, 60, 900))
        exceeded = buckets.take("t", tokens, now)
        if exceeded is not None:
            refused += 1
            assert exceeded.wait_s > 0, f"seed {seed}, step {step}"
            assert buckets.take("t", tokens, now + exceeded.wait_s * 0.98) is not None
            now += exceeded.wait_s
            assert buckets.take("t", tokens, now) is None, f"seed {seed}, step {step}"
    assert refused > 50


@pytest.mark.parametrize("seed", range(5))
def test_over_any_time_a_tenant_gets_at_most_the_burst_and_the_rate(seed: int) -> None:
    chance = Random(seed)
    buckets = Buckets(Rate(3.0, 200.0), {}, BURST_S)
    taken: list[tuple[float, int]] = []
    now = 0.0
    for _ in range(1000):
        now += chance.expovariate(10.0)
        tokens = chance.randrange(1, 500)
        if buckets.take("t", tokens, now) is None:
            taken.append((now, tokens))
    for start in range(0, len(taken), 7):
        tokens_so_far = 0
        for place in range(start, len(taken)):
            seconds = taken[place][0] - taken[start][0]
            tokens_so_far += taken[place][1]
            assert place - start + 1 <= 3.0 * (BURST_S + seconds) + 1e-6, f"seed {seed}"
            assert tokens_so_far <= 200.0 * (BURST_S + seconds) + 500, f"seed {seed}"


def test_a_refusal_takes_nothing_and_names_what_takes_longest() -> None:
    buckets = Buckets(Rate(1.0, 10.0), {}, 1.0)
    assert buckets.take("t", 5, 0.0) is None
    exceeded = buckets.take("t", 10, 0.0)
    assert exceeded is not None
    assert (exceeded.what, exceeded.wait_s) == (REQUESTS, 1.0)
    assert buckets.left("t", 0.0) == (0.0, 5.0)
    buckets.give_back("t", 0, 0.0)
    exceeded = buckets.take("t", 10, 0.0)
    assert exceeded is not None
    assert (exceeded.what, exceeded.wait_s) == (PROMPT_TOKENS, 0.5)


def test_a_prompt_beyond_the_burst_passes_when_the_bucket_is_full_and_leaves_a_debt() -> None:
    buckets = Buckets(Rate(inf, 100.0), {}, 1.0)
    assert buckets.take("t", 1000, 0.0) is None
    exceeded = buckets.take("t", 1, 5.0)
    assert exceeded is not None
    assert exceeded.left == -400.0
    assert buckets.take("t", 1000, 9.9) is not None
    assert buckets.take("t", 1000, 10.0) is None


def test_tenants_have_buckets_and_limits_of_their_own() -> None:
    buckets = Buckets(Rate(1.0), {"big": Rate(100.0), "free": Rate()}, 1.0)
    assert [buckets.take("small", 1, 0.0) is None for _ in range(2)] == [True, False]
    assert all(buckets.take("big", 1, 0.0) is None for _ in range(100))
    assert buckets.take("big", 1, 0.0) is not None
    assert all(buckets.take("free", 10**9, 0.0) is None for _ in range(1000))
    assert buckets.take("another", 1, 0.0) is None


def test_full_buckets_are_not_remembered_and_the_others_have_a_bound() -> None:
    buckets = Buckets(Rate(1.0), {}, 1.0, remembered_max=100)
    for number in range(1000):
        buckets.take(f"t{number}", 1, 0.0)
    assert len(buckets) == 100
    for number in range(150):
        buckets.take(f"later{number}", 1, 10.0 + number)
    assert len(buckets) < 5


def test_time_that_goes_backwards_fills_nothing() -> None:
    buckets = Buckets(Rate(1.0), {}, 1.0)
    assert buckets.take("t", 1, 10.0) is None
    assert buckets.take("t", 1, 5.0) is not None


def test_whoever_asks_late_as_of_when_it_came_brings_no_time_back() -> None:
    buckets = Buckets(Rate(1.0, inf), {}, 10.0)
    passed = 0
    for _ in range(50):
        passed += buckets.take("t", 1, 100.0) is None
        passed += buckets.take("t", 1, 95.0) is None
    assert passed == 10, "the burst, and nothing of the five seconds"
