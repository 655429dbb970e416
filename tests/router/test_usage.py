"""Token counts in answers: every engine's names, plain and streamed, and what only looks like them."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmroute.usage import TAIL_BYTES, find_usage
from warmroute_policies.types import Usage

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
}


def plain(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode()


def stream(*events: dict[str, Any] | str) -> bytes:
    """Server-sent events, in chunks as an engine writes them."""
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    written = [f"data: {text}\n\n".encode() for text in texts]
    return b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in written) + b"0\r\n\r\n"


OPENAI = {"prompt_tokens": 120, "completion_tokens": 7, "total_tokens": 127}
RESPONSES = {"input_tokens": 120, "output_tokens": 7, "total_tokens": 127}
ANTHROPIC = {"input_tokens": 20, "output_tokens": 7}
META = {
    "id": "x",
    "finish_reason": {"type": "length", "length": 7},
    "prompt_tokens": 120,
    "completion_tokens": 7,
}


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        (OPENAI, Usage(120, 7, None)),
        (OPENAI | {"prompt_tokens_details": None}, Usage(120, 7, None)),
        (OPENAI | {"prompt_tokens_details": {}}, Usage(120, 7, None)),
        (OPENAI | {"prompt_tokens_details": {"cached_tokens": None}}, Usage(120, 7, None)),
        (OPENAI | {"prompt_tokens_details": {"cached_tokens": 0}}, Usage(120, 7, 0)),
        (OPENAI | {"prompt_tokens_details": {"cached_tokens": 96, "audio_tokens": 0}}, Usage(120, 7, 96)),
        ({"prompt_tokens": 120}, Usage(120, None, None)),
        ({"prompt_tokens": 120, "completion_tokens": None}, Usage(120, None, None)),
        (RESPONSES, Usage(120, 7, None)),
        (RESPONSES | {"input_tokens_details": {"cached_tokens": 0}}, Usage(120, 7, 0)),
        (
            RESPONSES
            | {"input_tokens_details": {"cached_tokens": 96}, "output_tokens_details": {"reasoning": 1}},
            Usage(120, 7, 96),
        ),
        (ANTHROPIC, Usage(20, 7, None)),
        (ANTHROPIC | {"cache_read_input_tokens": None}, Usage(20, 7, None)),
        (ANTHROPIC | {"cache_read_input_tokens": 0}, Usage(20, 7, 0)),
        (ANTHROPIC | {"cache_read_input_tokens": 100}, Usage(120, 7, 100)),
        (
            ANTHROPIC
            | {
                "cache_read_input_tokens": 90,
                "cache_creation_input_tokens": 10,
                "cache_creation": {"ephemeral_5m_input_tokens": 10},
                "service_tier": "standard",
            },
            Usage(120, 7, 90),
        ),
    ],
)  # fmt: skip
def test_a_plain_answer_says_what_was_cached_and_not_reported_is_not_zero(
    usage: dict[str, Any], read: Usage
) -> None:
    assert find_usage(plain(CHAT | {"usage": usage})) == read
    assert find_usage(plain(CHAT | {"usage": usage, "prompt_logprobs": None, "more": [1, 2]})) == read
    assert find_usage(json.dumps(CHAT | {"usage": usage}, indent=4).encode()) == read


@pytest.mark.parametrize("cached", [None, 0, 96])
def test_sglangs_meta_info_says_it_too_plain_and_streamed(cached: int | None) -> None:
    meta = META | ({} if cached is None else {"cached_tokens": cached})
    assert find_usage(plain({"text": "hi", "output_ids": [1, 2], "meta_info": meta})) == Usage(120, 7, cached)
    before = {"text": "h", "meta_info": meta | {"completion_tokens": 1, "finish_reason": None}}
    streamed = stream(before, {"text": "hi", "meta_info": meta}, "[DONE]")
    assert find_usage(streamed) == Usage(120, 7, cached)


def test_the_last_counts_of_a_stream_win_and_null_is_passed_over() -> None:
    chunk = CHAT | {"usage": None}
    last = {"choices": [], "usage": OPENAI | {"prompt_tokens_details": {"cached_tokens": 96}}}
    assert find_usage(stream(chunk, chunk, last, "[DONE]")) == Usage(120, 7, 96)
    assert find_usage(stream(chunk, last, chunk, "[DONE]")) == Usage(120, 7, 96)
    running = [CHAT | {"usage": OPENAI | {"completion_tokens": n}} for n in range(1, 8)]
    assert find_usage(stream(*running, "[DONE]")) == Usage(120, 7, None)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"0\r\n\r\n",
        plain(CHAT),
        plain(CHAT | {"usage": None}),
        plain(CHAT | {"usage": []}),
        plain(CHAT | {"usage": "much"}),
        stream(CHAT, CHAT, "[DONE]"),
        stream(CHAT | {"usage": None}, "[DONE]"),
        b'{"usage": {"prompt_tokens": 12',
        b'{"usage"',
        b'"usage": ' + b"{" * 4000,
        b'"usage": {"x": ' + b"[" * 3000 + b"}",
    ],
)
def test_an_answer_without_counts_has_none(answer: bytes) -> None:
    assert find_usage(answer) is None
    assert find_usage(answer, answer) is None


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -1},
        {"prompt_tokens": "120"},
        {"prompt_tokens": 1.5},
        {"prompt_tokens": True},
        {"prompt_tokens": 10**30},
        {"prompt_tokens": 120, "prompt_tokens_details": {"cached_tokens": -5}},
        {"prompt_tokens": 120, "prompt_tokens_details": [1]},
    ],
)
def test_counts_that_are_no_counts_are_not_reported(usage: dict[str, Any]) -> None:
    assert find_usage(plain(CHAT | {"usage": usage})) is None


def test_text_that_looks_like_counts_is_not_taken_for_them() -> None:
    forged = '"usage": {"prompt_tokens": 1, "completion_tokens": 1} "meta_info": {"prompt_tokens": 1}'
    text = {"choices": [{"message": {"content": forged}, "delta": {"content": forged}}]}
    assert find_usage(plain(text)) is None
    assert find_usage(stream(text, "[DONE]"), stream(text)) is None
    assert find_usage(plain({"usage": OPENAI} | text)) == Usage(120, 7, None)
    assert find_usage(stream({"choices": [], "usage": OPENAI}, text, "[DONE]")) == Usage(120, 7, None)


START = {
    "type": "message_start",
    "message": {"id": "m", "content": [], "usage": {"input_tokens": 20, "output_tokens": 1}},
}
DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}
STOP = {"type": "message_stop"}


def start(**usage: int | None) -> dict[str, Any]:
    return {"type": "message_start", "message": {"usage": {"input_tokens": 20, "output_tokens": 1} | usage}}


@pytest.mark.parametrize(
    ("first", "last", "read"),
    [
        (start(), END, Usage(20, 7, None)),
        (start(cache_read_input_tokens=0), END, Usage(20, 7, 0)),
        (start(cache_read_input_tokens=100), END, Usage(120, 7, 100)),
        (start(cache_read_input_tokens=90, cache_creation_input_tokens=10), END, Usage(120, 7, 90)),
        # Newer servers repeat the prompt's part at the end, with or without the cached one.
        (start(cache_read_input_tokens=100), END | {"usage": ANTHROPIC}, Usage(120, 7, 100)),
        (
            start(cache_read_input_tokens=0),
            END | {"usage": ANTHROPIC | {"cache_read_input_tokens": 100}},
            Usage(120, 7, 100),
        ),
        (start(), END | {"usage": ANTHROPIC}, Usage(20, 7, None)),
        (DELTA, END, Usage(None, 7, None)),
    ],
)
def test_anthropics_stream_counts_the_prompt_at_its_start_and_the_answer_at_its_end(
    first: dict[str, Any], last: dict[str, Any], read: Usage
) -> None:
    long = stream(first, *[DELTA] * 200, last, STOP)
    assert find_usage(long[-TAIL_BYTES:], long[:TAIL_BYTES]) == read
    short = stream(first, DELTA, last, STOP)  # it came in one read
    assert find_usage(short, short) == read
    assert find_usage(long[-TAIL_BYTES:], stream(first)) == read


@settings(max_examples=200, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from((0, 96, None)))
def test_counts_are_found_wherever_the_engine_cuts_its_chunks(seed: int, cached: int | None) -> None:
    """Inside the object: a cut through the key itself hides it."""
    chance = random.Random(seed)
    usage = json.dumps(OPENAI | {"prompt_tokens_details": {"cached_tokens": cached}}).encode()
    body = plain(CHAT)[:-1] + b', "usage": ' + usage + b"}"
    begin = body.index(usage) + 1
    cuts = sorted(chance.randrange(begin, len(body)) for _ in range(chance.randrange(0, 4)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    written = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    assert find_usage(written + b"0\r\n\r\n") == Usage(120, 7, cached)


@pytest.mark.parametrize(
    "tail",
    [
        b'"usage":{' * 1800,
        b'"usage":{' * 1800 + b"}",
        b'"usage":' + b"{" * 16000,
        b'"usage":' + b"{{{}" * 4000,
        b'"usage":' + b"{}" * 8000,
        b'"usage":' + b'{"a":{"prompt_tokens":{"b":1}}}',
    ],
    ids=["keys", "keys and an end", "open", "deep", "empty", "too deep"],
)
def test_braces_that_are_no_object_report_nothing_and_end(tail: bytes) -> None:
    usage = find_usage(tail[-4 * TAIL_BYTES :])
    assert usage is None or usage == Usage(None, None, None)
