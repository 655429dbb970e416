"""Any file is read as what it is, and any change of a line is read or named, never a crash."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from warmroute_simulator.commands.inputs import add_trace_arguments, trace_of
from warmroute_simulator.traces.files import TraceError
from warmroute_simulator.traces.formats import FORMATS, ReadOptions, detect, read_trace
from warmroute_simulator.traces.trace import Trace

ReadLines = Callable[..., Trace]

AGENT = {"t": 3, "type": "n", "in": 200, "out": 9, "hash_ids_rle": [1, 3], "api_time": 2, "think_time": 1}
HELPER = {"t": 9, "type": "subagent", "duration_ms": 4000, "requests": [{**AGENT, "t": 0}], "tool_tokens": 70}

EXAMPLES: dict[str, list[Any]] = {
    "mooncake": [
        {"timestamp": 5, "input_length": 1_300, "output_length": 5, "hash_ids": [1, 2, 3]},
        {"timestamp": 9, "input_length": 600, "output_length": 5, "hash_ids": [1, 4], "session_id": "a"},
        {"input_length": 60, "output_length": 5, "hash_ids": [8], "session_id": "a", "delay": 100},
    ],
    "bailian": [
        {"chat_id": 1, "parent_chat_id": -1, "timestamp": 1.5, "input_length": 40, "output_length": 5,
         "hash_ids": [1, 2, 3], "type": "text", "turn": 1},
        {"chat_id": 2, "parent_chat_id": 1, "timestamp": 2, "input_length": 60, "output_length": 5,
         "hash_ids": [1, 2, 4, 5], "type": "text", "turn": 2},
    ],
    "agentic": [
        {"id": "a", "block_size": 64, "requests": [AGENT, HELPER, {**AGENT, "t": 20}], "tool_tokens": 70},
        {"id": "b", "block_size": 64, "requests": [AGENT, {"t": 7, "in": 130, "out": 3, "hash_ids": [1, 9]}]},
    ],
    "azure": ["TIMESTAMP,ContextTokens,GeneratedTokens", "2023-11-16 18:17:03.9799600,4808,10",
              "2023-11-16 18:17:04.0319600,3180,8"],
    "burstgpt": ["Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type",  # noqa: E501
                 "5,1,17.3,ChatGPT,472,18,490,Conversation log", "45,2,1.3,GPT-4,70,8,78,API log"],
    "texts": [
        {"timestamp": 1, "messages": [{"role": "user", "content": "?" * 90}], "completion": "!" * 30},
        {"timestamp": 2, "messages": [{"role": "user", "content": [{"type": "text", "text": "?"}]}]},
        {"timestamp": 3, "prompt": list(range(40)), "max_tokens": 5, "usage": {"completion_tokens": 4}},
    ],
    "vllm_bench": [
        {"request_id": "b0", "arrival_s": 0.1, "input_toks": 40, "output_toks": 5, "block_ids": [0, 1]},
        {"request_id": "b1", "arrival_s": 0.2, "input_toks": 50, "output_toks": 5, "block_ids": [0, 1, 2]},
    ],
    "chunks": [
        {"format": "warmroute-chunks", "version": 1, "closed_loop": True},
        {"chunks": [["a", 9], [4, 5]], "output_tokens": 3, "answer": "b", "session": 0},
        {"chunks": [["a", 9], [4, 5], ["b", 3], ["c", 2]], "output_tokens": 3, "after": [0], "think_s": 1.5},
    ],
    "journal": [
        {"e": "header", "version": 1, "policy": {"name": "random"}, "config": {}},
        {"e": "add", "worker": {"worker_id": "http://a"}, "now": 1.0},
        {"e": "route", "request_id": 1, "model": "m", "blocks": "AQAAAAAAAAACAAAAAAAAAA==", "bytes_len": 1100,
         "now": 2.0, "decision": {"request_id": 1, "worker": "http://a", "slot": 0, "reason": "x",
                                  "prompt_tokens": 275, "predicted_hit_tokens": 0, "reusable_tokens": 0}},
        {"e": "first_token", "request_id": 1, "now": 2.5},
        {"e": "finish", "request_id": 1, "outcome": "ok", "now": 3.0,
         "usage": {"prompt_tokens": 280, "completion_tokens": 20, "cached_tokens": 0}},
        {"e": "route", "request_id": 2, "model": "m", "blocks": "AQAAAAAAAAACAAAAAAAAAAMAAAAAAAAA",
         "bytes_len": 1600, "now": 4.0, "session": "s", "max_tokens": 9,
         "decision": {"request_id": 2, "worker": "http://a", "slot": 0, "reason": "x", "prompt_tokens": 400,
                      "predicted_hit_tokens": 0, "reusable_tokens": 0}},
    ],
}  # fmt: skip


def as_bytes(line: Any) -> bytes:
    return line.encode() if isinstance(line, str) else msgspec.json.encode(line)


def test_every_format_has_an_example_here() -> None:
    assert set(EXAMPLES) == set(FORMATS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_first_line_tells_the_format(name: str, tmp_path: Path, read_lines: ReadLines) -> None:
    path = tmp_path / "some.file"
    path.write_bytes(b"\n".join(as_bytes(line) for line in EXAMPLES[name]))
    assert detect(path) == name
    assert len(read_trace(path)) == len(read_trace(path, ReadOptions(format=name))) > 0


SPOILERS = (
    b"null", b"-1", b"0", b"1e400", b"-0.5", b'"x"', b"[]", b"{}", b"[[]]", b"true", b"1.5", b"NaN",
    b"99999999999999999999999", b"4294967296", b"-9223372036854775809",
    b"\xff", b'"', b"}", b",", b"\x00", b"[" * 3_000,
)  # fmt: skip


def spoiled(line: bytes, chance: random.Random) -> bytes:
    """The line with something small changed: a value, a piece, a byte, or its end cut off."""
    kind = chance.randrange(4)
    if kind == 0:
        places = [place for place, byte in enumerate(line) if byte in b":,["]
        start = chance.choice(places) + 1 if places else 0
        stop = min((place for place in range(start, len(line)) if line[place] in b",]}"), default=len(line))
        return line[:start] + chance.choice(SPOILERS) + line[stop:]
    start = chance.randrange(len(line))
    stop = min(len(line), start + chance.choice([1, 1, 2, 8, 1_000]))
    if kind == 1:
        return line[:start] + line[stop:]
    if kind == 2:
        return line[:start] + bytes([chance.randrange(256)]) + line[start + 1 :]
    return line[:start] + chance.choice(SPOILERS) + line[start:]


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_changed_line_is_read_or_named(name: str, skip_bad: bool, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    named, places = 0, []
    for seed in range(300):
        chance = random.Random(seed)
        lines = [as_bytes(line) for line in EXAMPLES[name]]
        number = chance.randrange(len(lines))
        lines[number] = spoiled(lines[number], chance).replace(b"\n", b" ")
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        options = ReadOptions(format=name, skip_bad=skip_bad, share_prefixes=seed % 2 == 0)
        try:
            trace = read_trace(path, options)
        except TraceError as error:
            named += 1
            # What is wrong may only show in a later line, which no longer fits.
            places.append((seed, error.line == 0 or number < error.line <= len(lines), len(str(error)) < 600))
            continue
        rows = range(len(trace))
        assert len(trace) > 0
        assert all(trace.prompt_tokens(row) >= 1 and trace.output_tokens[row] >= 1 for row in rows), seed
        assert all(after < row for row, after in enumerate(trace.after)), seed
        assert all(at >= 0 for at in (*trace.arrivals_s, *trace.think_s)), seed
        assert set(trace.sessions) <= {-1, *range(trace.session_count)}, seed
        assert all(0 < node < len(trace.tree) for node in trace.prompts), seed
    assert all(right and short for _, right, short in places), places
    assert skip_bad or named >= 30


@pytest.mark.parametrize("name", ["mooncake", "bailian", "agentic", "texts", "vllm_bench"])
def test_a_malformed_line_between_good_ones_is_skipped_and_told(name: str, read_lines: ReadLines) -> None:
    lines = EXAMPLES[name]
    whole = read_lines(lines)
    trace = read_lines([lines[0], "{nonsense", *lines[1:]], skip_bad=True)
    assert (len(trace), trace.skipped) == (len(whole), 1)
    assert any("malformed lines skipped: 1, such as trace.jsonl line 2: " in note for note in trace.notes)
    with pytest.raises(TraceError, match=r"line 2: expected a line of JSON, not \{nonsense"):
        read_lines([lines[0], "{nonsense", *lines[1:]])


def test_a_first_line_that_is_malformed_does_not_hide_the_format(read_lines: ReadLines) -> None:
    trace = read_lines(["nonsense", *EXAMPLES["mooncake"]], skip_bad=True)
    assert trace.skipped == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "trace.jsonl: expected at least one request, not an empty file"),
        ([{"a": 1, "b": 2}], "expected a line in one of the formats mooncake, .*, not fields `a`, `b`"),
        (["just words"], "not neither JSON nor a known header|neither JSON"),
        ([EXAMPLES["azure"][0]], "expected at least one request"),
    ],
)
def test_what_is_no_trace_is_refused(read_lines: ReadLines, lines: list[Any], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        read_lines(lines)


def test_options_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    for options, message in (
        ({"limit": 0}, "--limit must be at least 1"),
        ({"block_tokens": 0}, "--trace-block-tokens must be 1 to"),
        ({"bytes_per_token": 0.0}, "bytes per token"),
    ):
        with pytest.raises(ValueError, match=message):
            ReadOptions(**options)
    with pytest.raises(ValueError, match="--format must be auto or one of mooncake"):
        read_trace(tmp_path / "absent", ReadOptions(format="xml"))


def test_a_command_reads_the_trace_that_its_arguments_name(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"".join(as_bytes(line) + b"\n" for line in EXAMPLES["mooncake"]))
    parser = argparse.ArgumentParser()
    add_trace_arguments(parser)
    assert len(trace_of(parser.parse_args([str(path)]))) == 3
    assert len(trace_of(parser.parse_args([str(path), "--limit", "2", "--format", "mooncake"]))) == 2
    with pytest.raises(TraceError, match="blocks of 1024"):
        trace_of(parser.parse_args([str(path), "--trace-block-tokens", "1024"]))


def test_a_command_may_make_its_trace_up() -> None:
    parser = argparse.ArgumentParser()
    add_trace_arguments(parser)
    parser.add_argument("--seed", type=int, default=0)
    text = "generate:shared_prefix:groups=4,prompts_per_group=3,requests=24"
    first, second, third = (
        trace_of(parser.parse_args([text, "--limit", "10", "--seed", seed])) for seed in ("1", "1", "2")
    )
    assert len(first) == 10
    assert first.arrivals_s == second.arrivals_s != third.arrivals_s
