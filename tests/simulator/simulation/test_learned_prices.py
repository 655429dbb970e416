"""A router that begins with wrong prices comes to route like one that was told the truth."""

from __future__ import annotations

import dataclasses

import pytest

from warmroute_policies.config import BalancerConfig
from warmroute_policies.events import PolicySpec
from warmroute_policies.latency import PRESETS, PrefillPrice
from warmroute_simulator.engine import EngineConfig
from warmroute_simulator.generators.registry import generate
from warmroute_simulator.simulation.config import RunConfig
from warmroute_simulator.simulation.fleet import WorkerPlan
from warmroute_simulator.simulation.load import at_load
from warmroute_simulator.simulation.run import Simulation

PRESET = "llama-3.1-8b-h100"
TRUE = PRESETS[PRESET].price
TRACES = ["chat:requests=1200", "shared_prefix:requests=1200"]
LEARNING = 200
"""Requests that are left out: the first few samples, and caches that fill."""


def played(spec: str, price_error: float, *, learn_prices: bool = True) -> tuple[float, PrefillPrice]:
    """Mean time to first token once prices are learned, and what a worker is believed to cost at the end."""
    trace = generate(spec, 1)
    fleet = tuple(WorkerPlan(f"w{number}", EngineConfig(), PRESET) for number in range(4))
    balancer = BalancerConfig(learn_prices=learn_prices)
    config = RunConfig(fleet, PolicySpec("cache_aware"), balancer, price_error=price_error)
    config = dataclasses.replace(config, arrivals=at_load(config.arrivals, 0.7, trace, fleet))
    simulation = Simulation(trace, config, None, frozenset())
    records, beliefs = simulation.run(), simulation.routers[0].balancer.fleet
    ttft_s = [first - came for first, came in zip(records.first_token_s, records.arrived_s, strict=True)]
    later_s = ttft_s[LEARNING:]
    return sum(later_s) / len(later_s), PrefillPrice(beliefs.linear_s[0], beliefs.quadratic_s[0])


@pytest.mark.parametrize("spec", TRACES)
@pytest.mark.parametrize("price_error", [3.0, 1 / 3])
def test_prices_wrong_by_a_factor_of_three_cost_nothing_once_learned(spec: str, price_error: float) -> None:
    told_s, _ = played(spec, 1.0, learn_prices=False)
    learned_s, _ = played(spec, price_error)
    assert learned_s == pytest.approx(told_s, rel=0.1)


@pytest.mark.parametrize("spec", TRACES)
@pytest.mark.parametrize(("price_error", "within"), [(1.0, 0.15), (3.0, 0.25), (1 / 3, 0.25)])
def test_right_prices_stay_right_and_wrong_ones_become_so(
    spec: str, price_error: float, within: float
) -> None:
    _, price = played(spec, price_error)
    for missing, prompt in [(500, 500), (1000, 4000), (4000, 8000)]:
        expected = pytest.approx(TRUE.seconds(missing, prompt), rel=within)
        assert price.seconds(missing, prompt) == expected, f"{missing} of {prompt}"


def test_a_router_that_may_not_learn_keeps_what_it_was_told() -> None:
    _, price = played(TRACES[0], 3.0, learn_prices=False)
    assert price.linear_s == pytest.approx(3 * TRUE.linear_s)
