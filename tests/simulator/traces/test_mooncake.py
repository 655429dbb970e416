"""Mooncake's lines: lengths, shared blocks, arrivals on a grid; AIPerf's sessions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from warmroute_simulator.traces.files import TraceError
from warmroute_simulator.traces.formats import read_trace
from warmroute_simulator.traces.trace import NO_SESSION, NOTHING, Trace

ReadLines = Callable[..., Trace]
TRACE = Path(__file__).parents[3] / "../shared/traces/mooncake/conversation_trace.jsonl.gz"


def line(
    timestamp: float | None, tokens: int, ids: list[int], output: int = 5, **more: object
) -> dict[str, object]:
    fields = {"input_length": tokens, "output_length": output, "hash_ids": ids, **more}
    return fields if timestamp is None else {"timestamp": timestamp, **fields}


def path_ends(trace: Trace, row: int) -> list[int]:
    return [trace.tree.ends[node] for node in trace.tree.path(trace.prompts[row])]


@pytest.mark.skipif(not TRACE.exists(), reason="the public traces are not at hand")
def test_the_published_trace_has_its_published_sums() -> None:
    trace = read_trace(TRACE)
    rows = range(len(trace))
    assert len(trace) == 12_031
    assert sum(trace.prompt_tokens(row) for row in rows) == 144_793_823
    assert sum(trace.output_tokens) == 4_122_048
    assert trace.quantum_s == 3.0
    assert not trace.closed_loop
    assert trace.arrivals_s[0] == 0.0
    assert trace.arrivals_s[-1] == pytest.approx(3_537, abs=1)
    assert any("begin with the same 512 tokens" in note for note in trace.notes)


def test_prompts_share_blocks_of_512_tokens(read_lines: ReadLines) -> None:
    trace = read_lines([line(0, 1_300, [7, 8, 9]), line(500, 1_025, [7, 8, 10]), line(2_000, 600, [7, 11])])
    assert [path_ends(trace, row) for row in range(3)] == [[512, 1024, 1300], [512, 1024, 1025], [512, 600]]
    assert trace.tree.path(trace.prompts[0])[:2] == trace.tree.path(trace.prompts[1])[:2]
    assert list(trace.arrivals_s) == [0.0, 0.5, 2.0]
    assert trace.answers == trace.prompts
    assert set(trace.sessions) == {NO_SESSION}


def test_another_block_size_is_an_option_and_is_named_when_it_would_fit(read_lines: ReadLines) -> None:
    lines = [line(0, 100, list(range(7)))]
    with pytest.raises(TraceError) as caught:
        read_lines(lines)
    assert str(caught.value) == (
        "trace.jsonl line 1: field `hash_ids`: expected at most 1 ids for 100 tokens in blocks of 512,"
        " not 7 (--trace-block-tokens 16 would fit)"
    )
    assert len(read_lines(lines, block_tokens=16)) == 1


def test_tokens_without_ids_are_the_prompts_own_and_are_told(read_lines: ReadLines) -> None:
    trace = read_lines([line(0, 2_000, [1]), line(1, 2_000, [1])])
    assert [path_ends(trace, row) for row in (0, 1)] == [[512, 2000], [512, 2000]]
    assert trace.prompts[0] != trace.prompts[1]
    assert any("fewer blocks" in note for note in trace.notes)


def test_ids_of_contents_are_refused_until_they_are_chained(read_lines: ReadLines) -> None:
    # The same document behind two system prompts, at the same depth: only the contents are equal.
    lines = [line(0, 1_024, [1, 5]), line(1, 1_024, [2, 5]), line(2, 1_536, [1, 5, 6])]
    with pytest.raises(TraceError, match=r"line 2: field `hash_ids`: .* give --contents"):
        read_lines(lines, skip_bad=True)
    trace = read_lines(lines, contents=True)
    paths = [trace.tree.path(prompt) for prompt in trace.prompts]
    assert not set(paths[0]) & set(paths[1])
    assert paths[2][: len(paths[0])] == paths[0]


def test_lines_out_of_order_are_sorted_and_told(read_lines: ReadLines) -> None:
    trace = read_lines([line(9_000, 10, [1]), line(4_000, 20, [2], output=6), line(5_000, 30, [3])])
    assert list(trace.arrivals_s) == [0.0, 1.0, 5.0]
    assert [trace.prompt_tokens(row) for row in range(3)] == [20, 30, 10]
    assert trace.output_tokens[0] == 6
    assert any("not in order (1 went back" in note for note in trace.notes)


def test_turns_with_delays_follow_the_former_answer(read_lines: ReadLines) -> None:
    trace = read_lines(
        [
            line(1_000, 600, [1, 2], output=50, session_id="a"),
            line(2_000, 100, [], session_id="b"),
            line(None, 30, [3], output=7, session_id="a", delay=1_500),
            line(None, 20, [], session_id="a", delay=500),
        ]
    )
    assert trace.closed_loop
    assert list(trace.sessions) == [0, 1, 0, 0]
    assert list(trace.after) == [NOTHING, NOTHING, 0, 2]
    assert list(trace.think_s) == [0.0, 0.0, 1.5, 0.5]
    assert list(trace.arrivals_s) == [0.0, 1.0, 0.0, 0.0]
    # A turn holds what it adds: the former prompt and its answer come before it.
    assert path_ends(trace, 2) == [512, 600, 650, 680]
    assert path_ends(trace, 3) == [512, 600, 650, 680, 687, 707]
    assert trace.answers[0] in trace.tree.path(trace.prompts[3])
    assert trace.answers[3] == trace.prompts[3]


def test_a_turn_whose_ids_begin_with_the_former_turns_holds_the_whole_prompt(read_lines: ReadLines) -> None:
    trace = read_lines(
        [line(0, 1_024, [1, 2], session_id=4), line(None, 1_500, [1, 2, 3], session_id=4, delay=10)]
    )
    assert path_ends(trace, 1) == [1024, 1500]
    assert trace.answers == trace.prompts


def test_sessions_with_timestamps_throughout_are_an_open_loop(read_lines: ReadLines) -> None:
    trace = read_lines([line(0, 100, [1], session_id="a"), line(700, 10, [2], session_id="a", delay=5)])
    assert not trace.closed_loop
    assert list(trace.after) == [NOTHING, NOTHING]
    assert list(trace.arrivals_s) == [0.0, 0.7]
    assert list(trace.sessions) == [0, 0]
    assert path_ends(trace, 1) == [100, 105, 115]


def test_without_any_times_each_request_is_a_session(read_lines: ReadLines) -> None:
    trace = read_lines([line(None, 100, [1]), line(None, 100, [1])])
    assert trace.closed_loop
    assert list(trace.sessions) == [0, 1]
    with pytest.raises(TraceError, match="line 2: field `timestamp`: expected one in every line or in none"):
        read_lines([line(None, 100, [1]), line(5, 100, [1])])


def test_a_grid_of_arrivals_is_found_and_chance_is_not_taken_for_one(read_lines: ReadLines) -> None:
    on_grid = [line(3_000 * (number // 4) + number // 4 % 2, 10, [1]) for number in range(80)]
    assert read_lines(on_grid).quantum_s == 3.0
    off_grid = [line(round(1_000 * (number // 4) ** 1.3), 10, [1]) for number in range(80)]
    assert read_lines(off_grid).quantum_s == 0.0
    few = [line(3_000 * number, 10, [1]) for number in range(80)]
    assert read_lines(few).quantum_s == 0.0, "nobody shares a moment: there is nothing to spread"


def test_a_strange_rate_makes_one_ask_for_the_unit(read_lines: ReadLines) -> None:
    seconds = [line(number / 100, 10, [1]) for number in range(200)]
    assert any("unit of time" in note for note in read_lines(seconds).notes)
    milliseconds = [line(number * 100, 10, [1]) for number in range(200)]
    assert not any("unit of time" in note for note in read_lines(milliseconds).notes)


def test_the_limit_counts_requests(read_lines: ReadLines) -> None:
    lines = [line(number, 10, [number]) for number in range(9)]
    assert len(read_lines(lines, limit=4)) == 4
    assert len(read_lines([*lines, "nonsense"], limit=9)) == 9
