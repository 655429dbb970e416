"""A run of our own engine, measured: what a fit must be able to read off."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

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


BOUNDS = (200, 500, 1000, 2000, 5000)


def page(path: Path, requests: Sequence[MeasuredRequest], prefix: str = "vllm") -> Path:
    """What an engine's page says when it has done these requests."""
    label = '{engine="0",model_name="m"'
    lines = [
        "# HELP vllm:prompt_tokens_total Tokens.",
        "python_info 1.0",
        f'{prefix}:cache_config_info{label},block_size="16",num_gpu_blocks="3750"}} 1.0',
    ]

    def histogram(name: str, values: list[float], bounds: Sequence[float] = ()) -> None:
        lines.append(f"{prefix}:{name}_count{label}}} {float(len(values))}")
        lines.append(f"{prefix}:{name}_sum{label}}} {sum(values)}")
        for bound in (*bounds, float("inf")) if bounds else ():
            told = "+Inf" if bound == float("inf") else f"{bound:.1f}"
            lines.append(f'{prefix}:{name}_bucket{label},le="{told}"}} {sum(v <= bound for v in values)}')

    histogram("time_to_first_token_seconds", [request.ttft_s for request in requests])
    histogram("e2e_request_latency_seconds", [request.e2e_s for request in requests])
    tokens = [request.tpot_s for request in requests for _ in range(request.output_tokens - 1)]
    histogram("inter_token_latency_seconds", tokens)
    histogram("request_prompt_tokens", [float(request.prompt_tokens) for request in requests], BOUNDS)
    for name, total in (
        ("prompt_tokens_total", sum(request.prompt_tokens for request in requests)),
        ("generation_tokens_total", sum(request.output_tokens for request in requests)),
        ("prefix_cache_queries_total", sum(request.prompt_tokens for request in requests)),
        ("prefix_cache_hits_total", sum(request.cached_tokens or 0 for request in requests)),
    ):
        lines.append(f"{prefix}:{name}{label}}} {float(total)}")
    path.write_text("\n".join(lines) + "\n")
    return path
