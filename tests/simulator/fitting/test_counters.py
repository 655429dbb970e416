"""A metrics page before and after: means, made-up runs, and two speeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from warmroute_policies.latency import PRESETS
from warmroute_simulator.engine import EngineConfig
from warmroute_simulator.fitting import counters
from warmroute_simulator.fitting.counters import fit_counters, read_counters
from warmroute_simulator.traces.files import TraceError

from .conftest import made_up, page


def test_the_time_between_two_scrapes_is_their_difference(tmp_path: Path, truth: EngineConfig) -> None:
    requests = made_up(truth, 80, seed=1, rate=2.0).requests
    after, before = page(tmp_path / "after", requests), page(tmp_path / "before", requests[:30])
    counted = read_counters(after, before)
    late = requests[30:]
    assert (counted.requests, counted.engines, counted.kv_tokens) == (50, 1, 60_000)
    assert counted.prompt_tokens == pytest.approx(fmean(request.prompt_tokens for request in late))
    assert counted.ttft_s == pytest.approx(fmean(request.ttft_s for request in late))
    assert counted.e2e_s == pytest.approx(fmean(request.e2e_s for request in late))
    hits = sum(request.cached_tokens or 0 for request in late)
    assert counted.cached_share == pytest.approx(hits / sum(request.prompt_tokens for request in late))
    assert counted.prompt_buckets[-1][1] == 50


def test_a_made_up_run_has_the_rate_the_lengths_and_the_hits_of_the_page(
    tmp_path: Path, truth: EngineConfig
) -> None:
    requests = made_up(truth, 80, seed=2, rate=2.0).requests
    counted = read_counters(page(tmp_path / "page", requests), None)
    run = counters.made_up(counted, seconds=40.0)
    assert fmean(request.prompt_tokens for request in run) == pytest.approx(counted.prompt_tokens, rel=0.01)
    assert fmean(request.output_tokens for request in run) == pytest.approx(counted.output_tokens, rel=0.01)
    assert run[-1].arrival_s == pytest.approx(len(run) / 2.0, rel=0.15)
    under_500 = sum(request.prompt_tokens <= 500 for request in run) / len(run)
    assert under_500 == pytest.approx(sum(r.prompt_tokens <= 500 for r in requests) / 80, abs=0.05)


def test_two_speeds_are_read_off_a_page(tmp_path: Path, truth: EngineConfig) -> None:
    pytest.importorskip("scipy")
    measurement = made_up(truth, 300, seed=3, rate=2.0)
    seconds = measurement.requests[-1].arrival_s
    counted = read_counters(page(tmp_path / "page", measurement.requests), None)
    start = replace(truth, latency=PRESETS["llama-3.1-8b-h100"], request_overhead_s=0.0)
    found, told = fit_counters(counted, seconds, start)
    for compared in (told.ttft_s, told.tpot_s, told.e2e_s):
        assert compared is not None
        assert abs(compared.error) < 0.03
    assert found.config.latency.c1 == pytest.approx(truth.latency.c1, rel=0.3)
    assert found.config.latency.d0 == pytest.approx(truth.latency.d0, rel=0.3)


def test_a_page_without_what_is_needed_says_what_is(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("python_info 1.0\n")
    with pytest.raises(TraceError, match="samples called vllm"):
        read_counters(tmp_path / "other", None)
    (tmp_path / "fresh").write_text('vllm:prompt_tokens_total{engine="0"} 0.0\n')
    with pytest.raises(TraceError, match="time_to_first_token_seconds"):
        read_counters(tmp_path / "fresh", None)
    (tmp_path / "torn").write_text("vllm:prompt_tokens_total x\n")
    with pytest.raises(TraceError, match="line 1: field `vllm:prompt_tokens_total`: expected a number"):
        read_counters(tmp_path / "torn", None)
