"""A run of our own engine, measured: what a fit must be able to read off."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from warmroute_policies.latency import LatencyCoefficients
from warmroute_simulator.engine import EngineConfig
from warmroute_simulator.fitting.measured import MeasuredRequest, Measurement
from warmroute_simulator.fitting.replay import Replay

TRUTH = LatencyCoefficients(w0=21.0, c0=8.0, c1=60.0, c2=2.5, d0=18.0, d1=0.06, d2=0.15)
"""A GPU some three times slower than the preset that fits start from."""


def made_up(config: EngineConfig, requests: int, seed: int, rate: float, workers: int = 1) -> Measurement:
    """Poisson arrivals, lengths and hits at random, and times as the engine says."""
    chance = random.Random(seed)
    asked, now = [], 0.0
    for number in range(requests):
        now += chance.expovariate(rate)
        prompt = chance.randint(50, 3000)
        cached = chance.choice((0, 0, prompt // 2))
        asked.append(
            MeasuredRequest(
                now, prompt, chance.randint(10, 250), 1.0,
                cached_tokens=cached, worker=f"w{number % workers}",
            )
        )  # fmt: skip
    simulated = Replay(asked, config.block_tokens).run(config)
    done = [
        replace(request, ttft_s=simulated.ttft_s[row], e2e_s=simulated.e2e_s[row])
        for row, request in enumerate(asked)
    ]
    return Measurement("made up", done)


@pytest.fixture
def truth() -> EngineConfig:
    """The engine that is measured."""
    return EngineConfig(latency=TRUTH, kv_tokens=60_000, step_tokens=2048, request_overhead_s=0.012)
