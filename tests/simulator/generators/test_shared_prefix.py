"""Groups of prompts that begin alike."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from statistics import fmean, pstdev

import pytest

from warmroute_policies.errors import ConfigError
from warmroute_simulator.generators.registry import generate
from warmroute_simulator.generators.summary import summarise
from warmroute_simulator.traces.trace import Trace


def groups_of(trace: Trace) -> list[int]:
    return [trace.tree.path(prompt)[0] for prompt in trace.prompts]


def test_a_shuffled_list_comes_whole_before_it_comes_again() -> None:
    trace = generate("shared_prefix:groups=4,prompts_per_group=3,order=shuffled,requests=24", seed=5)
    first, second = list(trace.prompts[:12]), list(trace.prompts[12:])
    assert first == second
    assert len(set(first)) == 12
    groups = groups_of(trace)
    assert set(Counter(groups).values()) == {6}
    assert groups[:12] != sorted(groups[:12])


def test_reuse_is_what_can_be_counted_by_hand() -> None:
    """Four groups of three prompts, each twice: 4 × 1000 and 12 × 100 of 24 × 1100 tokens are new."""
    spec = "shared_prefix:groups=4,prompts_per_group=3,prefix_tokens=1000,question_tokens=100,order=shuffled"
    once, twice = (summarise(generate(f"{spec},requests={requests}", seed=1)) for requests in (12, 24))
    assert once.prompt_tokens == 13_200
    assert once.reused_tokens == 8 * 1000
    assert twice.reused_tokens == 26_400 - 4_000 - 1_200
    assert twice.output_tokens == 24 * 200


def test_new_questions_never_repeat() -> None:
    trace = generate("shared_prefix:groups=3,prompts_per_group=0,requests=300", seed=2)
    assert len(set(trace.prompts)) == 300
    assert len(set(groups_of(trace))) == 3
    assert summarise(trace).reused_tokens == 297 * 6_144


def test_a_prefix_is_as_long_each_time_it_comes() -> None:
    trace = generate(
        "shared_prefix:groups=5,prompts_per_group=4,prefix_tokens=10-900,question_tokens=5-50,requests=400",
        seed=3,
    )
    assert len(trace.tree) == 1 + 5 + 20
    lengths = [trace.tree.ends[node] for node in set(groups_of(trace))]
    assert len(set(lengths)) > 1
    assert all(10 <= length <= 900 for length in lengths)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_groups_come_as_often_as_zipf_says(seed: int) -> None:
    trace = generate("shared_prefix:groups=30,zipf_exponent=1,requests=30000", seed)
    shares = sorted((count / 30_000 for count in Counter(groups_of(trace)).values()), reverse=True)
    whole = sum(1 / rank for rank in range(1, 31))
    for rank in (1, 2, 3, 10):
        assert shares[rank - 1] == pytest.approx(1 / rank / whole, rel=0.12), f"seed {seed}"


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    trace = generate("shared_prefix:rate_per_s=35,requests=20000", seed=4)
    gaps = [late - early for early, late in pairwise(trace.arrivals_s)]
    assert fmean(gaps) == pytest.approx(1 / 35, rel=0.03)
    assert pstdev(gaps) == pytest.approx(1 / 35, rel=0.05)  # as long as the mean: exponential


def test_a_duration_ends_the_trace_and_a_number_does_too() -> None:
    trace = generate("shared_prefix:rate_per_s=35,duration_s=300", seed=0)
    assert len(trace) == pytest.approx(35 * 300, rel=0.04)
    assert trace.arrivals_s[-1] < 300
    assert len(generate("shared_prefix:rate_per_s=35,duration_s=300,requests=70", seed=0)) == 70
    assert len(generate("shared_prefix", seed=0)) == 10_000


def test_another_rate_brings_the_same_requests_at_other_times() -> None:
    slow = generate("shared_prefix:rate_per_s=5,requests=500", seed=9)
    fast = generate("shared_prefix:rate_per_s=10,requests=500", seed=9)
    assert slow.prompts == fast.prompts
    assert list(slow.arrivals_s) == pytest.approx([2 * at_s for at_s in fast.arrivals_s])


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("groups=0", "groups must be at least 1"),
        ("groups=10000000,prompts_per_group=2", "must not exceed 10,000,000"),
        ("order=sorted", "there is no order `sorted`"),
        ("order=shuffled,zipf_exponent=1", "zipf_exponent must be 0"),
        ("order=shuffled,prompts_per_group=0", "prompts_per_group"),
        ("rate_per_s=0", "rate_per_s must be above 0"),
        ("requests=0", "requests must be at least 1"),
        ("duration_s=0", "duration_s must be above 0"),
        ("zipf_exponent=4", "between 0 and 3"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(params: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"shared_prefix: .*{said}"):
        generate(f"shared_prefix:{params}", 0)
