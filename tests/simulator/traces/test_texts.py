"""Requests with texts: their lengths, what they share, and the many ways to say when and how long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from warmroute_simulator.traces.files import TraceError
from warmroute_simulator.traces.trace import NOTHING, Trace

ReadLines = Callable[..., Trace]
SYSTEM = {"role": "system", "content": "You answer in the words of a sailor, whatever is asked. " * 5}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def shared_tokens(trace: Trace, first: int, second: int) -> int:
    paths = [trace.tree.path(trace.prompts[row]) for row in (first, second)]
    common = [one for one, other in zip(*paths, strict=False) if one == other]
    return trace.tree.ends[common[-1]] if common else 0


def test_texts_share_whole_blocks_of_16_tokens_of_4_bytes(read_lines: ReadLines) -> None:
    common = "x" * 200
    trace = read_lines(
        [{"prompt": common + "a" * 100, "max_tokens": 3}, {"prompt": common + "b" * 9, "max_tokens": 4}]
    )
    assert [trace.prompt_tokens(row) for row in (0, 1)] == [75, 52]
    assert shared_tokens(trace, 0, 1) == 48
    assert list(trace.output_tokens) == [3, 4]
    larger = read_lines([{"prompt": common, "max_tokens": 3}], bytes_per_token=2.5)
    assert larger.prompt_tokens(0) == 80


def test_equal_prompts_are_one_to_their_ends(read_lines: ReadLines) -> None:
    request = {"messages": [SYSTEM, user("Where to?")], "max_tokens": 9}
    trace = read_lines([request, request, {"messages": [SYSTEM, user("Where from?")]}])
    assert trace.prompts[0] == trace.prompts[1] != trace.prompts[2]
    assert shared_tokens(trace, 0, 2) >= 16 * (len(str(SYSTEM["content"])) // 64)


def test_a_turn_goes_on_from_the_recorded_answer(read_lines: ReadLines) -> None:
    first, answer = [SYSTEM, user("Where to?")], "To Valparaíso, round the Horn."
    trace = read_lines(
        [
            {"messages": first, "completion": answer, "timestamp": 3},
            {
                "messages": [*first, assistant(answer), user("Round the Horn?")],
                "max_tokens": 7,
                "timestamp": 9,
            },
            {"messages": [*first, assistant("To bed."), user("Round the Horn?")], "timestamp": 12},
        ]
    )
    prompt, answered = trace.prompts[0], trace.answers[0]
    assert trace.tree.parents[answered] == prompt
    assert (
        trace.output_tokens[0]
        == trace.tree.ends[answered] - trace.tree.ends[prompt]
        == len(answer.encode()) // 4
    )
    assert answered in trace.tree.path(trace.prompts[1])
    assert answered not in trace.tree.path(trace.prompts[2])
    assert list(trace.arrivals_s) == [0.0, 6.0, 9.0]


def test_a_last_message_of_the_assistant_is_the_answer(read_lines: ReadLines) -> None:
    trace = read_lines([{"messages": [user("?"), assistant("x" * 80)]}, {"messages": [user("?")]}])
    assert trace.prompts[0] == trace.prompts[1]
    assert list(trace.output_tokens) == [20, 128]
    assert "1 requests tell nothing of their answers; 128 tokens are assumed" in trace.notes


RESPONSE = {"choices": [{"message": assistant("x" * 40)}]}


@pytest.mark.parametrize(
    ("said", "tokens"),
    [
        ({"output_tokens": 5, "max_tokens": 50}, 5),
        ({"completion_tokens": 6}, 6),
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 7}}, 7),
        ({"response": RESPONSE}, 10),
        ({"response": {"status_code": 200, "body": {**RESPONSE, "usage": {"completion_tokens": 8}}}}, 8),
        ({"response": {"choices": [{"text": "x" * 36}]}}, 9),
        ({"answer": "x" * 44, "max_tokens": 3}, 11),
        ({"max_completion_tokens": 12}, 12),
        ({"output_tokens": 0}, 1),
    ],
)
def test_the_answers_length_is_what_was_counted_else_recorded_else_allowed(
    read_lines: ReadLines, said: dict[str, Any], tokens: int
) -> None:
    assert read_lines([{"messages": [user("?")], **said}]).output_tokens[0] == tokens


def test_a_batch_files_lines_have_the_request_in_a_body(read_lines: ReadLines) -> None:
    body = {"model": "m", "messages": [user("?")], "max_tokens": 6}
    trace = read_lines([{"custom_id": "r1", "method": "POST", "url": "/v1/chat/completions", "body": body}])
    assert trace.output_tokens[0] == 6


def test_token_ids_are_counted_exactly(read_lines: ReadLines) -> None:
    tokens = list(range(100, 150))
    trace = read_lines([{"prompt": tokens, "max_tokens": 2}, {"prompt": [*tokens[:40], 7], "max_tokens": 2}])
    assert [trace.prompt_tokens(row) for row in (0, 1)] == [50, 41]
    assert shared_tokens(trace, 0, 1) == 32


@pytest.mark.parametrize(
    "times",
    [
        [{"timestamp": 100.5}, {"timestamp": 102}],
        [{"timestamp": 1_700_000_000_500}, {"timestamp": 1_700_000_002_000}],
        [{"arrival": "2026-01-01T10:00:00.5Z"}, {"arrival": "2026-01-01 11:00:02+01:00"}],
        [{"created": 1_700_000_000.5}, {"arrival_s": 1_700_000_002}],
    ],
)
def test_times_are_seconds_or_milliseconds_since_1970_or_dates(
    read_lines: ReadLines, times: list[dict[str, Any]]
) -> None:
    trace = read_lines([{"prompt": "?", "max_tokens": 1, **time} for time in times])
    assert list(trace.arrivals_s) == pytest.approx([0.0, 1.5])
    assert not trace.closed_loop


def test_without_times_turns_follow_each_other(read_lines: ReadLines) -> None:
    lines = [{"prompt": "a", "session_id": "s"}, {"prompt": "b"}, {"prompt": "c", "session_id": "s"}]
    trace = read_lines(lines)
    assert trace.closed_loop
    assert list(trace.sessions) == [0, 1, 0]
    assert list(trace.after) == [NOTHING, NOTHING, 0]
    with pytest.raises(
        TraceError, match="line 4: field `timestamp`: expected a time in every line or in none"
    ):
        read_lines([*lines, {"prompt": "d", "timestamp": 4}])


def test_images_count_by_what_they_hold_and_not_by_their_size(read_lines: ReadLines) -> None:
    def ask(image: str) -> dict[str, Any]:
        parts = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": "what is it?"}]
        return {"messages": [user(parts)], "max_tokens": 1}

    trace = read_lines([ask("data:" + "A" * 50_000), ask("data:" + "B" * 9), ask("data:" + "B" * 9)])
    assert trace.prompt_tokens(0) == trace.prompt_tokens(1)
    assert 256 <= trace.prompt_tokens(0) < 280
    assert trace.prompts[0] != trace.prompts[1] == trace.prompts[2]


def test_tools_stand_at_the_head(read_lines: ReadLines) -> None:
    tools = [{"type": "function", "function": {"name": "look", "description": "x" * 300}}]
    trace = read_lines([{"messages": [user(text)], "tools": tools, "max_tokens": 1} for text in ("a", "b")])
    assert shared_tokens(trace, 0, 1) > 64


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            {"messages": [user(7)]},
            "field `messages[0].content`: expected a text, a list of parts or null, not int",
        ),
        ({"prompt": [-1]}, "field `prompt[0]`: expected a whole number of at least 0, not -1"),
        (
            {"prompt": "?", "timestamp": "soon"},
            "field `timestamp`: expected seconds, or a date and time, not soon",
        ),
        ({"messages": None}, "field `messages`: expected `messages` or `prompt`, a text or token ids"),
    ],
)
def test_what_is_wrong_in_a_text_is_named(read_lines: ReadLines, line: dict[str, Any], message: str) -> None:
    with pytest.raises(TraceError) as caught:
        read_lines([{"prompt": "?", "timestamp": 1}, {"timestamp": 2, **line}])
    assert str(caught.value) == f"trace.jsonl line 2: {message}"
