"""The simulator's own format loses nothing, and reads what people write by hand."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from warmroute_simulator.traces import chunks
from warmroute_simulator.traces.files import TraceError
from warmroute_simulator.traces.formats import read_trace
from warmroute_simulator.traces.prompts import ROOT, PromptTree
from warmroute_simulator.traces.trace import NO_SESSION, NOTHING, Trace

ReadLines = Callable[..., Trace]


def drawn(chance: random.Random) -> Trace:
    """A trace of anything that a trace can say."""
    tree = PromptTree()
    closed = chance.random() < 0.5
    trace = Trace("drawn", tree, closed, chance.choice([0.0, 3.0]), notes=["as drawn"] * chance.randrange(2))
    sessions = chance.randrange(1, 6)
    nodes = [tree.add(ROOT, chance.randrange(1, 50)) for _ in range(3)]
    arrival_s = 0.0
    for row in range(chance.randrange(sessions, 60)):
        arrival_s += chance.random()
        prompt = chance.choice(nodes)
        if row and chance.random() < 0.5:
            former = chance.randrange(row)
            if trace.answers[former] == trace.prompts[former]:
                trace.answers[former] = tree.add(trace.prompts[former], trace.output_tokens[former])
            prompt = tree.add(trace.answers[former], chance.randrange(1, 9))
        elif chance.random() < 0.7:
            prompt = tree.add(prompt, chance.randrange(1, 9))
        nodes.append(prompt)
        waits = chance.sample(range(row), min(row, chance.randrange(4))) if closed else []
        trace.add(
            prompt,
            chance.randrange(1, 100),
            arrival_s=0.0 if closed else arrival_s,
            session=row if row < sessions else chance.choice([NO_SESSION, *range(sessions)]),
            after=waits[0] if waits else NOTHING,
            think_s=chance.random() if closed else 0.0,
            also_after=waits[1:],
        )
    order = list(range(sessions))
    chance.shuffle(order)
    trace.sessions = array("i", [order[number] if number >= 0 else number for number in trace.sessions])
    return trace


def told(trace: Trace) -> Iterator[tuple[Any, ...]]:
    """All that a trace says, with nodes named by what leads to them."""
    names: dict[tuple[int, int], int] = {}
    renamed: dict[int, int] = {ROOT: ROOT}
    yield trace.name, trace.closed_loop, trace.quantum_s, trace.notes
    for row in range(len(trace)):
        for node in trace.tree.path(trace.answers[row]):
            renamed.setdefault(node, len(renamed))
            names[renamed[node], trace.tree.ends[node]] = renamed[trace.tree.parents[node]]
        yield (
            renamed[trace.prompts[row]],
            renamed[trace.answers[row]],
            trace.output_tokens[row],
            trace.arrivals_s[row],
            trace.sessions[row],
            trace.after[row],
            trace.think_s[row],
            trace.also_after.get(row),
        )
    yield tuple(names.items())


@pytest.mark.parametrize("seed", range(40))
def test_what_is_written_is_read_as_it_was(seed: int, tmp_path: Path) -> None:
    trace = drawn(random.Random(seed))
    path = tmp_path / ("trace.jsonl.gz" if seed % 2 else "trace.jsonl")
    chunks.write(trace, path)
    again = read_trace(path)
    assert list(told(again)) == list(told(trace)), f"seed {seed}"
    second = tmp_path / "second.jsonl"
    chunks.write(again, second)
    assert list(told(read_trace(second))) == list(told(trace))


def test_a_content_may_stand_anywhere_and_is_shared_only_behind_the_same_beginning(
    read_lines: ReadLines,
) -> None:
    trace = read_lines(
        [
            {"chunks": [["system", 100], ["document", 50]], "output_tokens": 5},
            {"at_s": 1.5, "chunks": [["system", 100], ["other", 7], ["document", 50]], "output_tokens": 5},
            {"at_s": 2, "chunks": [["document", 50], ["system", 100]], "output_tokens": 5},
            {"at_s": 3, "chunks": [["system", 100], ["document", 50], [17, 1]], "output_tokens": 5},
        ]
    )
    paths = [trace.tree.path(prompt) for prompt in trace.prompts]
    assert paths[0][0] == paths[1][0]
    assert len({*paths[0], *paths[1], *paths[2]}) == 2 + 2 + 2
    assert paths[3][:2] == paths[0]
    assert not trace.closed_loop
    assert list(trace.arrivals_s) == [0.0, 1.5, 2.0, 3.0]


def test_an_answer_is_the_chunk_behind_its_prompt_in_a_later_one(read_lines: ReadLines) -> None:
    trace = read_lines(
        [
            {"chunks": [["q1", 40]], "output_tokens": 20, "answer": "a1", "session": "s"},
            {"chunks": [["q1", 40]], "output_tokens": 30, "answer": "never", "session": "s"},
            {"chunks": [["q1", 40], ["a1", 20], ["q2", 9]], "output_tokens": 3, "after": 0, "think_s": 2.5},
        ]
    )
    assert trace.closed_loop
    assert trace.answers[0] == trace.tree.path(trace.prompts[2])[1]
    assert trace.answers[1] == trace.prompts[1]
    assert (trace.after[2], trace.think_s[2]) == (0, 2.5)


def test_several_may_be_waited_for(read_lines: ReadLines) -> None:
    request = {"chunks": [["q", 4]], "output_tokens": 2}
    trace = read_lines([request, request, {**request, "after": [1, 0]}])
    assert trace.after[2] == 1
    assert trace.also_after == {2: (0,)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunks": []}, "field `chunks`: expected at least one chunk, not []"),
        ({"chunks": [["a", 0]]}, "field `chunks[0][1]`: expected a whole number of at least 1, not 0"),
        ({"chunks": [["a"]]}, r'field `chunks[0]`: expected a list of length 2, not ["a"]'),
        ({"after": 1}, "field `after`: expected the number of an earlier request, 0 to 0, not 1"),
        ({"after": -1}, "field `after`: expected the number of an earlier request, 0 to 0, not -1"),
        ({"output_tokens": "5"}, 'field `output_tokens`: expected a whole number, not "5"'),
        ({"think_s": -2}, "field `think_s`: expected a number of at least 0, not -2"),
    ],
)
def test_what_is_wrong_is_named(read_lines: ReadLines, change: dict[str, Any], message: str) -> None:
    good = {"chunks": [["a", 3]], "output_tokens": 2}
    with pytest.raises(TraceError) as caught:
        read_lines([good, good | change])
    assert str(caught.value) == f"trace.jsonl line 2: {message}"
    trace = read_lines([good, good | change, good], skip_bad=True)
    assert (len(trace), trace.skipped) == (2, 1)
    assert f"malformed lines skipped: 1, such as trace.jsonl line 2: {message}" in trace.notes


def test_what_waits_for_a_skipped_request_is_skipped(read_lines: ReadLines) -> None:
    good = {"chunks": [["a", 3]], "output_tokens": 2}
    trace = read_lines([good, "{}", {**good, "after": 1}, {**good, "after": 0}], skip_bad=True)
    assert (len(trace), trace.skipped) == (2, 2)
    assert trace.after[1] == 0


def test_a_header_of_another_version_is_refused(read_lines: ReadLines) -> None:
    with pytest.raises(
        TraceError, match="line 1: field `version`: expected 1, which is what this release reads"
    ):
        read_lines([{"format": "warmroute-chunks", "version": 2}, {"chunks": [[1, 1]], "output_tokens": 1}])
