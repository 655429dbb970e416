"""`simulator bounds`, from the command line to the files and the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from warmroute_simulator.cli import main


def lines(path: Path, *, sessions: bool = False) -> Path:
    """Turns of eight conversations in Mooncake's format; with sessions: without a clock."""
    rows = []
    for turn in range(5):
        for talk in range(8):
            row: dict[str, Any] = {
                "timestamp": 1000 * (8 * turn + talk) + 1,
                "input_length": 512 * (turn + 2),
                "output_length": 40,
                "hash_ids": [0, *(100 * talk + block for block in range(1, turn + 2))],
            }
            if sessions:
                del row["timestamp"]
                row |= {"session_id": f"talk {talk}", "delay": 1000}
            rows.append(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def bounds(path: Path, *options: str) -> dict[str, Any]:
    out = path.with_suffix(".json")
    assert main(["bounds", str(path), "--quiet", "--json", str(out), *options]) == 0
    report: dict[str, Any] = json.loads(out.read_bytes())
    return report


def test_an_open_loop_trace_has_all_bounds(tmp_path: Path) -> None:
    trace = lines(tmp_path / "talks.jsonl")
    report = bounds(trace, "--workers", "2", "--kv-tokens", "8192")
    assert {key: report[key] for key in ("schema", "trace", "workers", "seed", "requests")} == {
        "schema": 1,
        "trace": "talks.jsonl",
        "workers": 2,
        "seed": 0,
        "requests": 40,
    }
    assert report["prompt_tokens"] == 8 * 512 * (2 + 3 + 4 + 5 + 6)
    assert report["pool_tokens"] == 16_384
    hits = report["bounds"]
    # A first turn shares one block with the others, and a later one all but its last.
    assert hits["single_infinite"] == (7 * 512 + 8 * 512 * (2 + 3 + 4 + 5)) / report["prompt_tokens"]
    assert hits["pooled_lru"] < hits["pooled_belady"] < hits["single_infinite"]
    assert report["ttft_floor_s"]["p50"] <= report["ttft_floor_s"]["p99"]
    assert report["pooled_server"]["ttft_mean_s"] == report["ttft_floor_s"]["mean"]
    assert report["pooled_server"]["goodput_share"] == 1


def test_played_a_thousand_times_as_fast_the_server_is_the_bound(tmp_path: Path) -> None:
    trace = lines(tmp_path / "talks.jsonl")
    report = bounds(trace, "--workers", "1", "--speed", "10000", "--slo-ttft", "0.2")
    assert report["speed"] == 10_000
    assert report["pooled_server"]["ttft_mean_s"] > 2 * report["ttft_floor_s"]["mean"]
    assert report["pooled_server"]["goodput_share"] < 1
    assert report["pooled_server"]["slo_ttft_s"] == 0.2


def test_a_closed_loop_trace_has_no_arrivals_for_a_pooled_server(tmp_path: Path) -> None:
    trace = lines(tmp_path / "sessions.jsonl", sessions=True)
    report = bounds(trace, "--lanes", "3")
    assert report["pooled_server"] is None
    assert "closed-loop" in report["notes"][-1]
    assert report == bounds(trace, "--lanes", "3")


def test_the_table_says_what_the_file_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = lines(tmp_path / "talks.jsonl")
    assert main(["bounds", str(trace), "--fleet", "2xllama-3.1-8b-h100", "--load", "0.5"]) == 0
    shown = capsys.readouterr().out
    assert "talks.jsonl · 2 workers" in shown
    for line in ("bound: one infinite cache", "bound: alone, on an idle worker", "bound: TTFT within 2.00 s"):
        assert line in shown
    assert "as fast as recorded" in shown


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--slo-ttft", "0"), "--slo-ttft must be above 0"),
        (("--speed", "-1"), "speed must be above 0"),
        (("--kv-tokens", "3"), "at least one block"),
        (("--workers", "0"), "1 to 1024 workers"),
    ],
)
def test_numbers_that_mean_nothing_end_with_2_and_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], complaint: str
) -> None:
    assert main(["bounds", str(lines(tmp_path / "talks.jsonl")), *options]) == 2
    assert complaint in capsys.readouterr().err
