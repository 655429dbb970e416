"""The wish for counts is written into a body that is otherwise the client's, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmroute.inject import with_usage

EXAMPLES = settings(max_examples=200, derandomize=True)

ASKS = {"include_usage": True}

KEYS = st.sampled_from(
    ["model", "stream", "stream_option", "x", "é", 'quoted "stream_options"', 'ends like "stream_options']
)
TEXTS = st.sampled_from(
    [
        "hello",
        '"stream_options": {"include_usage": false}',
        'ends like it "stream_options',
        "\\",
        "日本",
        "stream_options",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
OPTIONS = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "include_usage": st.sampled_from([False, None]),
        "continuous_usage_stats": st.sampled_from([False, None]),
        "other": VALUES,
    },
)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """A request for a stream, and one of the ways to write it."""
    members = list(draw(st.dictionaries(KEYS, VALUES, max_size=5)).items())
    members.append(("stream", True))
    if draw(st.booleans()):
        members.insert(draw(st.integers(0, len(members))), ("stream_options", draw(OPTIONS)))
    asked = dict(members)
    text = json.dumps(asked, indent=draw(st.sampled_from([None, 1])), ensure_ascii=draw(st.booleans()))
    return asked, draw(st.sampled_from([b"", b" \n"])) + text.encode() + draw(st.sampled_from([b"", b"\n"]))


@EXAMPLES
@given(bodies())
def test_a_body_gains_the_wish_and_nothing_else(drawn: tuple[dict[str, Any], bytes]) -> None:
    asked, text = drawn
    changed = with_usage(text)
    assert changed is not None
    assert json.loads(changed) == asked | {"stream_options": (asked.get("stream_options") or {}) | ASKS}
    if "stream_options" not in asked:
        assert changed.replace(b'"stream_options":{"include_usage":true},', b"", 1) == text
    assert with_usage(memoryview(text)) == changed
    assert with_usage(changed) is None, "who asks is left alone"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"stream":true}', b'{"stream_options":{"include_usage":true},"stream":true}'),
        (
            b'{ "a" : 1, "stream_options" : null ,"b":2.50}',
            b'{ "a" : 1, "stream_options" : {"include_usage":true} ,"b":2.50}',
        ),
        (
            b'{"stream_options": {"x": 1.50, "include_usage":false}, "stream": true}',
            b'{"stream_options": {"x":1.50,"include_usage":true}, "stream": true}',
        ),
        (
            b'{"tools":[{"stream_options":{}}],"stream":true}',
            b'{"stream_options":{"include_usage":true},"tools":[{"stream_options":{}}],"stream":true}',
        ),
    ],
)
def test_only_the_option_is_written(before: bytes, after: bytes) -> None:
    assert with_usage(before) == after


@pytest.mark.parametrize(
    "body",
    [
        b'{"stream_options":{"include_usage":true},"stream":true}',
        b'{"stream_options":{"include_usage":false},"stream":true,"stream_options":{"include_usage":false}}',
        b'{"stream_options":{"include_usage":false},"stream":true,"stream_options":{"include_usage":true}}',
        b'{"stream\\u005foptions":{"include_usage":false},"stream":true}',
        b'{"stream\\u005Foptions":{"include_usage":true},"stream":true}',
        b'{"stream\\u005foptions":{"a":1},"x":{"stream_options":{"a":1}},"stream":true}',
        b'{"stream_options":{"include_usage":false,"continuous_usage_stats":true},"stream":true}',
        b'{"stream_options":{"include_usage":"maybe"},"stream":true}',
        b'{"stream_options":[],"stream":true}',
        b'{"x":{"stream_options":null},"stream_options":null,"stream":true}',
    ],
    ids=range(10),
)
def test_a_body_that_asks_or_is_not_plain_is_left_alone(body: bytes) -> None:
    assert with_usage(body) is None
