"""The quantile of the last values, beside a naive one."""

from __future__ import annotations

from math import ceil
from random import Random

import pytest

from warmroute_policies.quantiles import LEAST, WINDOW, RecentQuantile


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("seed", range(3))
def test_the_quantile_is_one_of_the_last_windows_and_never_far_behind(share: float, seed: int) -> None:
    chance, quantile = Random(seed), RecentQuantile(share)
    seen: list[float] = []
    naive: list[float] = []
    for _ in range(3 * WINDOW):
        value = chance.lognormvariate(0.0, 1.0)
        quantile.add(value)
        seen.append(value)
        window = seen[-WINDOW:]
        naive.append(sorted(window)[ceil(share * len(window)) - 1])
        if len(seen) < LEAST:
            assert quantile.value() is None
        else:
            assert quantile.value() in naive[-WINDOW // 8 :], f"seed {seed}"


def test_a_fleet_that_changed_is_followed_within_a_window() -> None:
    quantile = RecentQuantile(0.95)
    for _ in range(WINDOW):
        quantile.add(0.1)
    for _ in range(WINDOW + WINDOW // 8):
        quantile.add(3.0)
    assert quantile.value() == 3.0
