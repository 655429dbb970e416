"""`simulator fit` from file to preset, and presets as files."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from warmroute_policies.latency import DEFAULT_PRESET, PRESETS
from warmroute_simulator.cli import main
from warmroute_simulator.engine import EngineConfig
from warmroute_simulator.engine.presets import Preset, load_preset, save_preset

from .conftest import TRUTH, made_up, page

pytest.importorskip("scipy")

LIMITS = ("--kv-tokens", "60000", "--max-num-batched-tokens", "2048")


@pytest.fixture
def run(tmp_path: Path, truth: EngineConfig) -> Path:
    """A CSV of a run, as somebody would have it."""
    lines = ["arrival_s,prompt_tokens,cached_tokens,output_tokens,ttft_s,e2e_s"]
    lines += [
        f"{request.arrival_s},{request.prompt_tokens},{request.cached_tokens},"
        f"{request.output_tokens},{request.ttft_s},{request.e2e_s}"
        for request in made_up(truth, 60, seed=8, rate=3.0).requests
    ]
    path = tmp_path / "run.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_run_becomes_a_preset_that_every_command_takes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "mine.json", tmp_path / "fit.json"
    assert main(["fit", str(run), *LIMITS, "--out", str(out), "--json", str(report), "--model", "m"]) == 0
    preset = load_preset(str(out))
    assert (preset.name, preset.model, preset.kv_tokens, preset.step_tokens) == ("mine", "m", 60_000, 2048)
    assert preset.engine(max_num_seqs=7).max_num_seqs == 7
    assert preset.latency.c1 == pytest.approx(TRUTH.c1, rel=0.1)
    told = json.loads(report.read_bytes())
    assert told["schema"] == 1
    assert told["fitted"]["requests"] == told["held_back"]["requests"] == 30
    assert abs(told["held_back"]["e2e_s"]["error"]) < 0.05
    assert told["preset"] == json.loads(out.read_bytes())
    assert set(preset.provenance["errors"]["held_back"]) == {"ttft", "tpot", "e2e", "throughput"}
    shown = capsys.readouterr().out
    assert "held back: 30 requests" in shown
    assert "ms per request" in shown


def test_a_metrics_page_is_known_by_its_first_line(
    tmp_path: Path, truth: EngineConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    measurement = made_up(truth, 100, seed=9, rate=2.0)
    file = page(tmp_path / "page.txt", measurement.requests)
    seconds = str(measurement.requests[-1].arrival_s)
    out = tmp_path / "p.json"
    arguments = ["fit", str(file), "--seconds", seconds, "--max-num-batched-tokens", "2048"]
    assert main([*arguments, "--out", str(out)]) == 0
    assert load_preset(out).kv_tokens == 60_000
    assert "note: coarse" in capsys.readouterr().out


def test_wrong_limits_are_suspected_when_nothing_comes_near(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # An engine of two sequences cannot have answered so many at once.
    assert main(["fit", str(run), *LIMITS, "--max-num-seqs", "1"]) == 0
    assert "no coefficients come near" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hold-back", "1"], "--hold-back must be"),
        (["--fit", "c9"], "nothing to adjust is called `c9`"),
        (["--start-preset", "llama"], "no preset `llama`"),
        (["--kv-tokens", "1000"], "can never fit"),
        (["--format", "metrics"], "--seconds must"),
        (["--format", "journal"], "run.csv"),
    ],
)
def test_usage_errors_exit_with_2(
    run: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", str(run), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_built_in_presets_know_their_scheduler() -> None:
    for name in PRESETS:
        preset = load_preset(name)
        assert preset.kind == ("sglang" if "sglang" in name else "vllm")
        assert preset.engine().latency == PRESETS[name]
        assert preset.deployment.kv_tokens == preset.kv_tokens
    assert load_preset(DEFAULT_PRESET).engine() == EngineConfig()


def test_a_preset_survives_its_file(tmp_path: Path) -> None:
    preset = Preset(
        name="x", model="m", kind="sglang", latency=TRUTH, kv_tokens=1600, max_num_seqs=9,
        request_overhead_s=0.25, provenance={"source": "somewhere"},
    )  # fmt: skip
    save_preset(preset, tmp_path / "x.json")
    assert load_preset(tmp_path / "x.json") == preset


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "trt"}, "Invalid enum value 'trt'"),
        ({"kv_token": 5}, "unknown field `kv_token`"),
        ({"latency": {"w0": 1}}, "missing required field `c0`"),
        ({"latency": msgspec.to_builtins(TRUTH) | {"d1": -1.0}}, "latency.d1 must be a number from 0 on"),
        ({"kv_tokens": 3}, "at least one block"),
        ({"schema": 2}, "schema 2"),
    ],
)
def test_a_preset_file_that_is_none_says_why(tmp_path: Path, change: dict[str, object], message: str) -> None:
    good = {"name": "x", "model": "m", "latency": msgspec.to_builtins(TRUTH), "kv_tokens": 1600}
    path = tmp_path / "x.json"
    path.write_text(json.dumps(good | change))
    with pytest.raises(ValueError, match=r"x\.json: ") as error:
        load_preset(path)
    assert message in str(error.value)
    with pytest.raises(ValueError, match="no preset file"):
        load_preset(tmp_path / "missing.json")
