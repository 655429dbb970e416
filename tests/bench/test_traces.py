"""What is read of a recording, and what a seed changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from routing_lib.traces import made_up, recorded
from warmroute_simulator.traces.files import TraceError


def session(name: str, prompts: list[int]) -> str:
    requests = [
        {"t": 0.0, "type": "n", "in": tokens, "out": 10, "think_time": 1.0, "hash_ids_rle": [1, tokens // 64]}
        for tokens in prompts
    ]
    return json.dumps(
        {
            "id": name,
            "block_size": 64,
            "hash_id_scope": "local",
            "tool_tokens": 640,
            "system_tokens": 0,
            "requests": requests,
        }
    )


@pytest.fixture
def agents(tmp_path: Path) -> Path:
    sessions = [
        session("a", [1000, 1500]),
        session("b", [1000, 9000]),
        session("c", [800]),
        session("d", [900]),
    ]
    (tmp_path / "agents.jsonl").write_text("\n".join(sessions) + "\n")
    return tmp_path


def test_the_first_sessions_that_fit_into_a_cache_are_played_whole(agents: Path) -> None:
    source = recorded(agents, "agents.jsonl", requests=3, sessions=2, longest_tokens=5_000)
    trace = source.read(0)
    assert trace.closed_loop
    assert [trace.prompt_tokens(row) for row in range(len(trace))] == [1000, 1500, 800]
    assert list(trace.sessions) == [0, 0, 1]
    assert source.key(0) == source.key(1)


def test_sessions_with_equal_tools_share_them(agents: Path) -> None:
    trace = recorded(agents, "agents.jsonl", requests=4, sessions=4).read(0)
    first, last = trace.tree.path(trace.prompts[0]), trace.tree.path(trace.prompts[-1])
    assert first[0] == last[0]
    assert trace.tree.ends[first[0]] == 640


def test_an_exact_clock_is_blurred_so_that_seeds_differ(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.680590,374,44\n2023-11-16 18:15:50.995183,396,109\n"
    )
    assert recorded(tmp_path, "table.csv", requests=2, spread_s=1.0).read(0).quantum_s == 1.0
    assert recorded(tmp_path, "table.csv", requests=2).read(0).quantum_s == 0.0


def test_a_made_up_trace_is_another_one_with_each_seed() -> None:
    source = made_up("shared_prefix:groups=3", 40)
    assert source.text == "shared_prefix:groups=3,requests=40"
    one, again, other = source.read(0), source.read(0), source.read(1)
    assert list(one.arrivals_s) == list(again.arrivals_s) != list(other.arrivals_s)
    assert source.key(0) != source.key(1)
    assert len(one) == 40


def test_what_is_played_of_a_recording_is_in_its_name_and_where_it_lies_is_not(tmp_path: Path) -> None:
    ways = [
        recorded(tmp_path, "a.csv", requests=1),
        recorded(tmp_path, "a.csv", requests=1, spread_s=1.0),
        recorded(tmp_path, "a.csv", requests=1, sessions=5),
        recorded(tmp_path, "a.csv", requests=1, sessions=5, longest_tokens=10),
    ]
    assert len({way.text for way in ways}) == len(ways)
    assert recorded(tmp_path / "elsewhere", "a.csv", requests=1).text == ways[0].text


def test_a_recording_that_is_not_there_is_not_present(tmp_path: Path) -> None:
    source = recorded(tmp_path, "a.csv", requests=1)
    assert not source.present
    assert made_up("rag", 10).present
    with pytest.raises((OSError, TraceError)):
        source.read(0)
