"""Zipf's law, against the frequencies that it predicts."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from warmroute_policies.errors import ConfigError
from warmroute_simulator.generators.popularity import Popularity, require_exponent

DRAWS = 50_000


@pytest.mark.parametrize("exponent", [0.0, 0.8, 1.0, 2.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_items_come_as_often_as_their_rank_says(exponent: float, seed: int) -> None:
    items, chance = Popularity(20, exponent), Random(seed)
    seen = Counter(items.draw(chance) for _ in range(DRAWS))
    weights = [(rank + 1) ** -exponent for rank in range(20)]
    expected = [DRAWS * weight / sum(weights) for weight in weights]
    chi_square = sum((seen[item] - mean) ** 2 / mean for item, mean in enumerate(expected))
    assert chi_square < 43.8, f"seed {seed}"  # 99.9th percentile at 19 degrees of freedom
    assert set(seen) <= set(range(20))


def test_one_item_is_always_drawn() -> None:
    assert {Popularity(1, exponent).draw(Random(0)) for exponent in (0.0, 1.0)} == {0}


@pytest.mark.parametrize("exponent", [-0.1, 3.1, float("nan")])
def test_an_exponent_outside_the_law_is_refused(exponent: float) -> None:
    with pytest.raises(ConfigError, match="zipf"):
        require_exponent("zipf", exponent)
