"""A real vLLM run, whose KV cache is full almost all the time: the first half of it predicts the second."""

from __future__ import annotations

from pathlib import Path

import pytest

from warmroute_simulator.engine.presets import load_preset
from warmroute_simulator.fitting.agreement import agreement
from warmroute_simulator.fitting.parameters import SCALES
from warmroute_simulator.fitting.replay import Replay
from warmroute_simulator.fitting.rows import read_rows
from warmroute_simulator.fitting.search import fit

RUN = Path(__file__).parents[3] / "../shared/calibration/vllm_rtx4090_llama31_8b"


@pytest.mark.skipif(not RUN.is_dir(), reason="the measured run is not part of the repository")
def test_two_speeds_and_the_real_capacity_predict_the_second_half_of_a_real_run() -> None:
    pytest.importorskip("scipy")
    measurement = read_rows(RUN / "requests.jsonl", RUN / "workload.jsonl")
    requests, half = measurement.requests, len(measurement.requests) // 2
    start = load_preset("llama-3.1-8b-l40s").engine(kv_tokens=41_408, step_tokens=2048)
    found = fit(measurement.overlapping(half), half, start, SCALES)
    simulated = Replay(requests, start.block_tokens).run(found.config)
    told = agreement(requests, simulated, range(half, len(requests)))
    for compared, bar in (
        (told.ttft_s, 0.10),
        (told.tpot_s, 0.05),
        (told.e2e_s, 0.05),
        (told.output_tokens_per_s, 0.02),
    ):
        assert compared is not None
        assert abs(compared.error) <= bar
    # Memory decides in this run: sequences are preempted again and again.
    assert simulated.preemptions > 100
