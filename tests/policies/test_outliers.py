"""Who is an outlier and who is not: beside a naive count, and in healthy fleets that are noisy."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmroute_policies.outliers import Outliers

WINDOW_S = 30.0
LEAST = 20


def detector(error_rate: float = 0.5, slow_factor: float = 4.0) -> Outliers:
    return Outliers(error_rate, slow_factor, WINDOW_S, LEAST)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 12), st.integers(0, 12)), max_size=80
)


@given(EVENTS)
@settings(max_examples=200)
def test_error_rates_are_those_of_a_naive_count_over_the_window(
    events: list[tuple[str, int, int]],
) -> None:
    outliers, answered, failed = detector(slow_factor=0.0), Counter[str](), Counter[str]()
    history: list[tuple[float, str, int, int]] = []
    for second, (worker, more, fewer) in enumerate(events):
        now = float(second)
        answered[worker] += more
        failed[worker] += fewer
        history.append((now, worker, more, fewer))
        for name in ("a", "b", "c"):
            outliers.counted(name, answered[name], failed[name], now)
        bad = {}
        for name in ("a", "b", "c"):
            # The first sample of all is where the count begins.
            within = [entry for entry in history if entry[1] == name and max(0.0, now - WINDOW_S) < entry[0]]
            good, wrong = sum(entry[2] for entry in within), sum(entry[3] for entry in within)
            if good + wrong >= LEAST and wrong / (good + wrong) >= 0.5:
                bad[name] = wrong / (good + wrong)
        found = outliers.find(("a", "b", "c"), now)
        assert {name for name, why in found if why == "errors"} == set(bad)
        rates = [bad[name] for name, _ in found]
        assert rates == sorted(rates, reverse=True), "the worst comes first"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("workers", [3, 8, 40])
def test_a_healthy_noisy_fleet_has_no_outliers(seed: int, workers: int) -> None:
    # Times vary by a factor of e at one sigma, predictions are wrong by up to two by worker, hardware by ten,
    # and one request in fifty fails.
    chance, outliers = Random(seed), detector()
    names = [f"w{number}" for number in range(workers)]
    wrong = {name: chance.uniform(0.7, 1.4) for name in names}
    speed = {name: chance.choice([0.1, 1.0]) for name in names}
    answered, failed = Counter[str](), Counter[str]()
    for second in range(300):
        for name in names:
            for _ in range(chance.randrange(4)):
                predicted_s = chance.choice([0.0, 0.05, 0.4, 3.0]) / speed[name]
                seconds = (predicted_s + 0.02) * wrong[name] * chance.lognormvariate(0.0, 1.0)
                outliers.first_byte(name, seconds, predicted_s, float(second))
                answered[name] += 1
                failed[name] += chance.random() < 0.02
            outliers.counted(name, answered[name], failed[name], float(second))
        assert outliers.find(names, float(second)) == [], f"seed {seed}, second {second}"


@pytest.mark.parametrize("seed", range(10))
def test_a_worker_ten_times_slower_than_predicted_is_found_and_nobody_else(seed: int) -> None:
    chance, outliers = Random(seed), detector()
    names = [f"w{number}" for number in range(6)]
    found: list[tuple[str, str]] = []
    for second in range(60):
        for name in names:
            for _ in range(2):
                slower = 10.0 if name == "w3" else 1.0
                seconds = 0.4 * slower * chance.lognormvariate(0.0, 0.7)
                outliers.first_byte(name, seconds, 0.4, float(second))
        found = outliers.find(names, float(second))
        if found:
            break
    assert found == [("w3", "slow")], f"seed {seed}"


def test_when_all_are_slow_or_only_two_are_known_nobody_is_slower_than_the_rest() -> None:
    outliers = detector()
    for number in range(LEAST):
        for name in ("a", "b", "c"):
            outliers.first_byte(name, 50.0, 0.1, float(number))
    assert outliers.find(("a", "b", "c"), 20.0) == []
    outliers.forget("c")
    for number in range(LEAST):
        outliers.first_byte("a", 500.0, 0.1, 20.0 + number)
    assert outliers.find(("a", "b", "c"), 40.0) == []


def test_times_of_long_ago_and_few_ones_say_nothing() -> None:
    outliers = detector()
    for number in range(LEAST):
        for name, seconds in (("a", 0.1), ("b", 0.1), ("c", 9.0)):
            outliers.first_byte(name, seconds, 0.1, float(number))
    assert outliers.find(("a", "b", "c"), 20.0) == [("c", "slow")]
    assert outliers.find(("a", "b", "c"), 20.0 + 2 * WINDOW_S) == []
    few = detector()
    for name, seconds in (("a", 0.1), ("b", 0.1), ("c", 9.0)):
        for _ in range(LEAST - 1):
            few.first_byte(name, seconds, 0.1, 0.0)
    assert few.find(("a", "b", "c"), 0.0) == []


def test_what_is_off_is_not_looked_at_and_what_was_forgotten_begins_anew() -> None:
    off = detector(error_rate=0.0, slow_factor=0.0)
    on = detector()
    for outliers in (off, on):
        outliers.counted("a", 0, 0, 0.0)
        outliers.counted("a", 0, 100, 1.0)
    assert off.find(("a",), 1.0) == []
    assert on.find(("a",), 1.0) == [("a", "errors")]
    on.forget("a")
    on.counted("a", 0, 100, 2.0)
    assert on.find(("a",), 2.0) == []
