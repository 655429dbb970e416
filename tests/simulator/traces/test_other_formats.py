"""Bailian's chats, a benchmark's plan, and tables of arrivals and lengths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from warmroute_simulator.traces.files import TraceError
from warmroute_simulator.traces.formats import read_trace
from warmroute_simulator.traces.trace import NO_SESSION, Trace

ReadLines = Callable[..., Trace]
SHARED = Path(__file__).parents[3] / "../shared"
needs_traces = pytest.mark.skipif(not SHARED.exists(), reason="the public traces are not at hand")


def chat(number: int, parent: int, timestamp: float, tokens: int, ids: list[int]) -> dict[str, Any]:
    fields = {"chat_id": number, "parent_chat_id": parent, "timestamp": timestamp, "turn": 1, "type": "text"}
    return {**fields, "input_length": tokens, "output_length": 8, "hash_ids": ids}


def test_turns_of_a_chat_are_one_session(read_lines: ReadLines) -> None:
    trace = read_lines(
        [
            chat(1, -1, 100.5, 40, [1, 2, 3]),
            chat(2, -1, 101.0, 16, [1]),
            chat(3, 1, 102.0, 60, [1, 2, 4, 5]),
            chat(4, 3, 103.0, 90, [1, 2, 4, 6, 7, 8]),
            chat(5, 1, 104.0, 40, [1, 2, 3]),
            chat(9, 77, 105.0, 16, [9]),
            chat(10, 77, 105.0, 16, [10]),
        ]
    )
    assert list(trace.sessions) == [0, 1, 0, 0, 0, 2, 2]
    assert list(trace.arrivals_s) == [0.0, 0.5, 1.5, 2.5, 3.5, 4.5, 4.5]
    assert not trace.closed_loop
    assert [trace.tree.ends[node] for node in trace.tree.path(trace.prompts[3])] == [16, 32, 48, 80, 90]
    assert trace.prompts[0] == trace.prompts[4]


def test_chats_whose_ids_are_no_chain_are_refused_and_can_be_chained(read_lines: ReadLines) -> None:
    lines = [chat(1, -1, 0, 48, [1, 2, 3]), chat(2, -1, 1, 48, [4, 2, 3])]
    with pytest.raises(TraceError, match="--contents"):
        read_lines(lines)
    trace = read_lines(lines, contents=True)
    assert trace.prompts[0] != trace.prompts[1]


@needs_traces
def test_a_benchmarks_plan_has_its_published_means() -> None:
    trace = read_trace(SHARED / "calibration/vllm_rtx4090_llama31_8b/workload.jsonl")
    assert len(trace) == 300
    assert mean(trace.prompt_tokens(row) for row in range(300)) == pytest.approx(857, abs=1)
    assert mean(trace.output_tokens) == pytest.approx(653, abs=1)
    assert trace.arrivals_s[-1] == pytest.approx(29.2, abs=0.1)
    assert trace.quantum_s == 0.0


@needs_traces
@pytest.mark.parametrize(
    ("name", "count", "tokens_in", "tokens_out", "span_s"),
    [("code", 8_819, 2_048, 28, 3_436), ("conv", 19_366, 1_155, 211, 3_502)],
)
def test_azures_tables_have_their_published_means(
    name: str, count: int, tokens_in: int, tokens_out: int, span_s: int
) -> None:
    trace = read_trace(SHARED / f"traces/azure_2023/AzureLLMInferenceTrace_{name}.csv.gz")
    assert len(trace) == count
    assert mean(trace.prompt_tokens(row) for row in range(count)) == pytest.approx(tokens_in, abs=0.5)
    assert mean(trace.output_tokens) == pytest.approx(tokens_out, abs=0.5)
    assert trace.arrivals_s[-1] == pytest.approx(span_s, abs=1)
    assert len(set(trace.prompts)) == count, "nobody shares anything"


AZURE = ["TIMESTAMP,ContextTokens,GeneratedTokens", "2023-11-16 18:17:03.9799600,4808,10"]
BURST = ["Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type"]


def test_dates_may_have_any_fraction_and_zone(read_lines: ReadLines) -> None:
    more = ["2023-11-16 18:17:04,1,2", "2023-11-16 19:17:05.5+01:00,3,0"]
    trace = read_lines([*AZURE, *more], file="azure.csv")
    assert list(trace.arrivals_s) == pytest.approx([0.0, 0.02004, 1.52004], abs=1e-6)
    assert list(trace.output_tokens) == [10, 2, 1]
    assert set(trace.sessions) == {NO_SESSION}


def test_bursts_have_sessions_and_leave_out_what_failed(read_lines: ReadLines) -> None:
    rows = ["5,a,1.5,ChatGPT,472,18,490,Conversation log", "45,,0,GPT-4,10,0,10,API log"]
    trace = read_lines([*BURST, *rows, "47,b,1,GPT-4,9,8,17,API log", "48,a,1,GPT-4,9,8,17,API log"])
    assert list(trace.sessions) == [0, 1, 0]
    assert list(trace.arrivals_s) == [0.0, 42.0, 43.0]
    assert "1 requests failed and are left out" in trace.notes
    older = ["Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type", "5,ChatGPT,472,18,490,x"]
    assert len(read_lines(older)) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "yesterday,1,2",
            "field `TIMESTAMP`: expected a date and time as 2023-11-16 18:17:03.9799600, not yesterday",
        ),
        (
            "2023-11-16 18:17:03,-3,2",
            "field `ContextTokens`: expected a whole number of 1 to 100000000, not -3",
        ),
        (
            "2023-11-16 18:17:03,3,",
            "field `GeneratedTokens`: expected a whole number of 0 to 100000000, not nothing",
        ),
        ("2023-11-16 18:17:03,3", "expected 3 values, as in the header, not 2"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(read_lines: ReadLines, row: str, message: str) -> None:
    with pytest.raises(TraceError) as caught:
        read_lines([*AZURE, row], file="azure.csv")
    assert str(caught.value) == f"azure.csv line 3: {message}"
    assert read_lines([*AZURE, row], file="azure.csv", skip_bad=True).skipped == 1
