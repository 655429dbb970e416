"""Sessions of agents: who waits for whom and how long, and whose ids are whose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from warmroute_simulator.traces.files import TraceError
from warmroute_simulator.traces.formats import ReadOptions, read_trace
from warmroute_simulator.traces.trace import NOTHING, Trace

ReadLines = Callable[..., Trace]
TRACE = Path(__file__).parents[3] / "../shared/traces/agentic_coding/sessions_even.rle.jsonl.gz"
needs_trace = pytest.mark.skipif(not TRACE.exists(), reason="the public traces are not at hand")


def request(t: float, runs: list[int], tokens: int | None = None, **more: Any) -> dict[str, Any]:
    known = 64 * sum(runs[1::2])
    fields = {
        "t": t,
        "type": "n",
        "in": known + 5 if tokens is None else tokens,
        "out": 9,
        "hash_ids_rle": runs,
    }
    return {**fields, "api_time": 2.0, **more}


def marker(t: float, duration_s: float, requests: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"t": t, "type": "subagent", "duration_ms": 1000 * duration_s, "requests": requests, **more}


def session(requests: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"id": "s", "block_size": 64, "hash_id_scope": "local", "requests": requests, **more}


def shared_blocks(trace: Trace, first: int, second: int) -> int:
    paths = [trace.tree.path(trace.prompts[row]) for row in (first, second)]
    common = [one for one, other in zip(*paths, strict=False) if one == other]
    return trace.tree.ends[common[-1]] // 64 if common else 0


@pytest.fixture(scope="module")
def published() -> Trace:
    return read_trace(TRACE)


@needs_trace
def test_the_published_sessions_have_their_published_sums(published: Trace) -> None:
    rows = range(len(published))
    assert len(published) == 24_108
    assert published.session_count == 360
    assert sum(published.prompt_tokens(row) for row in rows) == 3_080_087_222
    assert published.closed_loop
    assert sum(after == NOTHING for after in published.after) == 360
    assert all(after < row for row, after in enumerate(published.after))
    assert all(other < row for row, others in published.also_after.items() for other in others)


@needs_trace
def test_a_shared_cache_finds_the_published_share_of_the_sessions_prompts(published: Trace) -> None:
    tree, seen = published.tree, {0}
    hit = 0
    for prompt in published.prompts:
        path = tree.path(prompt)
        known = [node for node in path if node in seen]
        hit += min(tree.ends[known[-1]], tree.ends[prompt] - 1) // 64 * 64 if known else 0
        seen.update(path)
    total = sum(tree.ends[prompt] for prompt in published.prompts)
    assert hit / total == pytest.approx(0.964, abs=0.001)


@needs_trace
def test_shared_prefixes_join_sessions_of_equal_sizes(published: Trace) -> None:
    joined = read_trace(TRACE, ReadOptions(share_prefixes=True))
    first = [row for row, after in enumerate(joined.after) if after == NOTHING]
    beginnings = {joined.tree.path(joined.prompts[row])[0] for row in first}
    assert len({published.tree.path(published.prompts[row])[0] for row in first}) == 360
    sizes = set()
    import gzip

    with gzip.open(TRACE) as lines:
        for line in lines:
            fields = json.loads(line)
            sizes.add((fields["tool_tokens"], fields["system_tokens"]))
    # Sessions whose first prompt is shorter than tools and system prompt together, or of another text.
    assert len(sizes) <= len(beginnings) <= 1.1 * len(sizes)


def test_requests_follow_each_other_after_the_think_time(read_lines: ReadLines) -> None:
    trace = read_lines(
        [
            session([request(0, [1, 3]), request(9, [1, 5], think_time=3.5), request(30, [1, 2, 9, 4])]),
            session([request(0, [1, 3])]),
        ]
    )
    assert list(trace.sessions) == [0, 0, 0, 1]
    assert list(trace.after) == [NOTHING, 0, 1, NOTHING]
    # The third tells no think time: it came 21 s after the second, which took 2 s.
    assert list(trace.think_s) == [0.0, 3.5, 19.0, 0.0]
    assert [shared_blocks(trace, 0, 1), shared_blocks(trace, 1, 2)] == [3, 2]
    assert shared_blocks(trace, 0, 3) == 0, "ids are local to a session"
    assert [trace.prompt_tokens(row) for row in range(3)] == [197, 325, 389]


def test_a_think_time_after_a_request_of_unknown_duration_is_at_most_what_passed(
    read_lines: ReadLines,
) -> None:
    trace = read_lines(
        [
            session(
                [
                    request(0, [1, 1], api_time=None),
                    request(8, [1, 2], think_time=3600.0, api_time=None),
                    request(20, [1, 3], think_time=5.0, api_time=None),
                    request(25, [1, 4]),
                ]
            )
        ]
    )
    assert list(trace.think_s) == [0.0, 8.0, 5.0, 5.0]


def test_the_agent_waits_for_sub_agents_that_run_beside_each_other(read_lines: ReadLines) -> None:
    # Recorded when they ended: both began at 4 s, as the agent's first answer came.
    helpers = [
        marker(14, 10, [request(0, [50, 2]), request(5, [50, 3], think_time=1.0)]),
        marker(34, 30, [request(0, [70, 2]), request(9, [70, 3], think_time=2.0)]),
    ]
    trace = read_lines([session([request(0, [1, 2], api_time=4.0), *helpers, request(36, [1, 4])])])
    assert list(trace.after) == [NOTHING, 0, 1, 0, 3, 2]
    assert trace.also_after == {5: (4,)}
    assert list(trace.think_s) == [0.0, 0.0, 1.0, 0.0, 2.0, 2.0]
    assert set(trace.sessions) == {0}


def test_a_sub_agent_that_began_after_another_had_ended_follows_it(read_lines: ReadLines) -> None:
    # Recorded when they began: had the first ended at 5 s, it would have begun before the agent's answer.
    helpers = [marker(5, 10, [request(0, [50, 2])]), marker(20, 6, [request(0, [70, 2])])]
    trace = read_lines([session([request(0, [1, 2], api_time=4.0), *helpers, request(29, [1, 4])])])
    assert list(trace.after) == [NOTHING, 0, 1, 1]
    assert trace.also_after == {3: (2,)}
    assert list(trace.think_s) == [0.0, 1.0, 5.0, 3.0]


@pytest.mark.parametrize("absolute", [False, True])
def test_times_inside_a_sub_agent_count_from_its_beginning_or_from_the_sessions(
    read_lines: ReadLines, absolute: bool
) -> None:
    offset = 100.0 if absolute else 0.0
    nested = [request(offset + 2, [50, 2]), request(offset + 10, [50, 3])]
    # The marker's time is that of the beginning: at 80 s, the agent's request had not been answered.
    trace = read_lines([session([request(90, [1, 2]), marker(100, 20, nested), request(130, [1, 3])])])
    assert list(trace.think_s) == [0.0, 10.0, 6.0, 10.0]


def test_sub_agents_may_have_sub_agents(read_lines: ReadLines) -> None:
    inner = marker(3, 5, [request(0, [90, 1])])
    outer = marker(10, 20, [request(0, [50, 2]), inner, request(9, [50, 3])])
    trace = read_lines([session([request(0, [1, 2]), outer, request(40, [1, 3])])])
    assert list(trace.after) == [NOTHING, 0, 1, 2, 3]
    assert list(trace.think_s) == [0.0, 8.0, 1.0, 1.0, 10.0]


def test_sub_agents_without_requests_change_nothing(read_lines: ReadLines) -> None:
    trace = read_lines(
        [session([request(0, [1, 2]), marker(9, 5, []), request(30, [1, 3], think_time=28.0)])]
    )
    assert list(trace.after) == [NOTHING, 0]
    assert trace.think_s[1] == 28.0


def test_equal_sizes_share_the_first_blocks_of_their_sessions(read_lines: ReadLines) -> None:
    sizes = {"tool_tokens": 100, "system_tokens": 100}  # three whole blocks
    lines = [
        session([request(0, [1, 5]), request(5, [1, 2, 20, 2]), request(9, [30, 4])], **sizes),
        session([request(0, [7, 6])], **sizes),
        session([request(0, [7, 6])], tool_tokens=164, system_tokens=36),
    ]
    apart = read_lines(lines)
    assert [shared_blocks(apart, 0, row) for row in (1, 2, 3, 4)] == [2, 0, 0, 0]
    trace = read_lines(lines, share_prefixes=True)
    assert [shared_blocks(trace, 0, row) for row in (1, 2, 3, 4)] == [2, 0, 3, 0]
    assert shared_blocks(trace, 1, 3) == 2


def test_listed_ids_and_global_ids_are_read_too(read_lines: ReadLines) -> None:
    listed = {"t": 0, "in": 130, "out": 4, "hash_ids": [4, 9]}
    trace = read_lines([session([listed], hash_id_scope="global")] * 2)
    assert shared_blocks(trace, 0, 1) == 2


def test_a_session_may_be_a_document_over_several_lines(read_lines: ReadLines) -> None:
    text = json.dumps(session([request(0, [1, 3]), request(9, [1, 5], think_time=3.5)]), indent=2)
    trace = read_lines([text], file="trace_0001.json")
    assert list(trace.after) == [NOTHING, 0]


def test_the_limit_may_cut_a_session(read_lines: ReadLines) -> None:
    line = session([request(0, [1, 3]), request(9, [1, 5]), request(12, [1, 6])])
    trace = read_lines([line, line], limit=4)
    assert list(trace.after) == [NOTHING, 0, 1, NOTHING]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"in": -3}, "field `requests[1].in`: expected a whole number of at least 1, not -3"),
        ({"in": None}, "field `requests[1].in`: expected it to be there"),
        ({"out": None}, "field `requests[1].out`: expected it to be there"),
        ({"hash_ids_rle": [1, 2, 3]}, "field `requests[1].hash_ids_rle`: expected pairs of start and length"),
        (
            {"hash_ids_rle": [1, 10**12]},
            "field `requests[1].hash_ids_rle`: expected fewer ids than 325 tokens",
        ),
        (
            {"hash_ids_rle": [1, 6]},
            "field `requests[1].hash_ids`: expected at most 5 ids for 325 tokens, not 6",
        ),
        ({"hash_ids_rle": [1, 2, 1, 1]}, "field `requests[1].hash_ids`: expected ids that stand for a block"),
    ],
)
def test_what_is_wrong_inside_a_session_is_named(
    read_lines: ReadLines, bad: dict[str, Any], message: str
) -> None:
    good = session([request(0, [1, 3])])
    wrong = session([request(0, [1, 3]), request(9, [1, 5]) | bad])
    with pytest.raises(TraceError) as caught:
        read_lines([good, wrong])
    assert str(caught.value).startswith(f"trace.jsonl line 2: {message}")
