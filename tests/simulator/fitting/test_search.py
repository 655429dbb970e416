"""What our own engine did is fitted back: the held-back part is predicted, the coefficients are found."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from warmroute_policies.latency import PRESETS
from warmroute_simulator.engine import EngineConfig, EngineKind
from warmroute_simulator.fitting.agreement import agreement
from warmroute_simulator.fitting.parameters import ALL, OVERHEADS, named
from warmroute_simulator.fitting.replay import Replay
from warmroute_simulator.fitting.search import fit, most_simulations

from .conftest import made_up

pytest.importorskip("scipy")


@pytest.mark.parametrize(("kind", "seed"), [("vllm", 1), ("sglang", 2)])
def test_known_coefficients_predict_what_was_held_back(
    truth: EngineConfig, kind: EngineKind, seed: int
) -> None:
    print("seed", seed)
    truth = replace(truth, kind=kind)
    measurement = made_up(truth, 120, seed, rate=2.0)
    start = replace(truth, latency=PRESETS["llama-3.1-8b-h100"], request_overhead_s=0.0)
    requests = measurement.requests
    found = fit(measurement.overlapping(60), 60, start)
    assert found.simulations <= most_simulations(ALL)
    told = agreement(requests, Replay(requests, 16).run(found.config), range(60, 120))
    for compared in (told.ttft_s, told.tpot_s, told.e2e_s, told.output_tokens_per_s):
        assert compared is not None
        assert abs(compared.error) < 0.03
    # What this run shows clearly: the price of a token of prefill, and of a step.
    assert found.config.latency.c1 == pytest.approx(truth.latency.c1, rel=0.1)
    assert found.config.latency.d0 == pytest.approx(truth.latency.d0, rel=0.1)


def test_the_same_measurement_gives_the_same_fit(truth: EngineConfig) -> None:
    measurement = made_up(truth, 30, seed=4, rate=2.0, workers=2)
    start = replace(truth, latency=PRESETS["llama-3.1-8b-h100"])
    assert fit(measurement.requests, 30, start) == fit(measurement.requests, 30, start)


def test_host_time_is_found_where_the_coefficients_are_known(truth: EngineConfig) -> None:
    slow = replace(truth, step_overhead_s=0.004, request_overhead_s=0.05)
    measurement = made_up(slow, 60, seed=5, rate=2.0)
    found = fit(measurement.requests, 60, truth, OVERHEADS)
    assert found.config.step_overhead_s == pytest.approx(0.004, rel=0.1)
    assert found.config.request_overhead_s == pytest.approx(0.05, rel=0.1)
    assert found.config.latency == truth.latency


def test_only_what_is_named_is_adjusted(truth: EngineConfig) -> None:
    measurement = made_up(truth, 40, seed=6, rate=2.0)
    changed = msgspec.structs.replace(truth.latency, c1=truth.latency.c1 * 1.5)
    found = fit(measurement.requests, 40, replace(truth, latency=changed), named("c1"))
    assert found.config.latency.c1 == pytest.approx(truth.latency.c1, rel=0.05)
    assert found.config.latency.d0 == truth.latency.d0


def test_answers_that_were_no_streams_tell_decoding(truth: EngineConfig) -> None:
    measurement = made_up(truth, 60, seed=7, rate=3.0)
    whole = [replace(request, ttft_s=float("nan")) for request in measurement.requests]
    start = replace(truth, latency=PRESETS["llama-3.1-8b-h100"])
    found = fit(whole, 60, start)
    told = agreement(measurement.requests, Replay(whole, 16).run(found.config), range(60))
    assert told.e2e_s is not None
    assert abs(told.e2e_s.error) < 0.02
