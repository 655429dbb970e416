"""Measured requests from files with whatever columns."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path

import pytest

from warmroute_simulator.fitting.rows import read_rows
from warmroute_simulator.traces.files import TraceError


def written(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def test_a_csv_with_durations_in_seconds(tmp_path: Path) -> None:
    file = written(
        tmp_path / "run.csv",
        "arrival_s,prompt_tokens,cached_tokens,output_tokens,ttft_s,e2e_s,worker",
        "12.5,100,32,11,0.5,1.5,a",
        "10.0,200,,1,0.25,0.25,b",
    )
    measurement = read_rows(file)
    second, first = measurement.requests[1], measurement.requests[0]
    assert (first.arrival_s, first.prompt_tokens, first.cached_tokens, first.worker) == (0.0, 200, None, "b")
    assert (second.arrival_s, second.cached_tokens, second.worker) == (2.5, 32, "a")
    assert second.tpot_s == pytest.approx(0.1)
    assert isnan(first.tpot_s)
    assert measurement.knows_hits
    assert not measurement.knows_blocks


def test_moments_on_an_engines_clock_and_prompts_from_another_file(tmp_path: Path) -> None:
    file = written(
        tmp_path / "requests.jsonl",
        {"request_id": "b-0", "input_toks": 64, "output_toks": 5, "arrival_time": 1.7e9, "queued_ts": 100.0,
         "scheduled_ts": 100.1, "first_token_ts": 100.5, "last_token_ts": 100.9},
        {"request_id": "b-1", "input_toks": 40, "output_toks": 5, "arrival_time": 1.7e9, "queued_ts": 101.0,
         "scheduled_ts": 101.1, "first_token_ts": 101.25, "last_token_ts": 102.25},
    )  # fmt: skip
    prompts = written(
        tmp_path / "workload.jsonl",
        {"request_id": "b-0", "block_ids": [0, 1, 2, 3]},
        {"request_id": "b-1", "block_ids": [0, 1]},
    )
    first, second = read_rows(file, prompts).requests
    assert (first.ttft_s, first.e2e_s) == pytest.approx((0.5, 0.9))
    assert (second.arrival_s, second.tpot_s) == pytest.approx((1.0, 0.25))
    assert (first.blocks, second.blocks) == ((0, 1, 2, 3), (0, 1))


def test_milliseconds_and_time_per_token(tmp_path: Path) -> None:
    file = written(
        tmp_path / "run.jsonl",
        {"timestamp_ms": 5000, "isl": 10, "osl": 5, "ttft_ms": 200, "tpot_ms": 50, "hash_ids": [4]},
    )
    [request] = read_rows(file).requests
    assert (request.ttft_s, request.e2e_s) == pytest.approx((0.2, 0.4))
    assert request.blocks == (4,)


def test_requests_without_an_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    file = written(
        tmp_path / "run.jsonl",
        {"arrival": 0, "prompt_tokens": 10, "output_tokens": 5, "e2e": 1.0},
        {"arrival": 1, "prompt_tokens": 10, "output_tokens": 0, "e2e": 1.0},
        {"arrival": 2, "prompt_tokens": 10, "output_tokens": 5, "e2e": None},
    )
    measurement = read_rows(file)
    assert len(measurement.requests) == 1
    assert measurement.first_tokens_seen == 0
    assert measurement.notes == ["2 requests without an answer are left out"]


GOOD = {"arrival": 0, "prompt_tokens": 10, "output_tokens": 5, "ttft": 0.5, "e2e": 1.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_tokens": 0}, "line 2: field `prompt_tokens`: expected a whole number of at least 1, not 0"),
        ({"prompt_tokens": 1.5}, "line 2: field `prompt_tokens`"),
        ({"arrival": "soon"}, "line 2: field `arrival`: expected a number, not 'soon'"),
        ({"arrival": True}, "line 2: field `arrival`"),
        ({"e2e": "inf"}, "line 2: field `e2e`"),
        ({"ttft": -3}, "line 2: field `ttft`: expected tokens that come after the request does"),
        ({"e2e": 0}, "line 2: expected tokens that come after"),
    ],
)
def test_a_malformed_request_is_named_by_line_and_field(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    file = written(tmp_path / "run.jsonl", GOOD, GOOD | change)
    with pytest.raises(TraceError, match=r"run\.jsonl " + message.replace("`", "[`]")):
        read_rows(file)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "an empty file"),
        (["arrival,prompt_tokens,output_tokens,e2e", "1,2,3"], "line 2: expected 4 columns, not 3"),
        (["a,b", "1,2"], "field `arrival`: expected a column such as arrival, arrived, queued_ts"),
        (["arrival,isl,osl", "1,2,3"], "field `e2e`: expected a column such as"),
        ([GOOD, "{"], "line 2: expected a JSON object"),
        ([GOOD | {"output_tokens": 0}], "expected at least one request that was answered"),
        ([GOOD | {"block_ids": "x"}], "field `block_ids`: expected a list of whole numbers"),
    ],
)
def test_a_file_that_is_no_measurement_says_why(tmp_path: Path, lines: list[object], message: str) -> None:
    with pytest.raises(TraceError) as error:
        read_rows(written(tmp_path / "run.jsonl", *lines))
    assert message in str(error.value)


def test_prompts_of_another_run_are_an_error(tmp_path: Path) -> None:
    file = written(tmp_path / "run.jsonl", GOOD | {"request_id": "a"})
    prompts = written(tmp_path / "prompts.jsonl", {"request_id": "b", "block_ids": []})
    with pytest.raises(TraceError, match="an id that the prompts' file has, not 'a'"):
        read_rows(file, prompts)
    with pytest.raises(TraceError, match="request_id"):
        read_rows(written(tmp_path / "nameless.jsonl", GOOD), prompts)
