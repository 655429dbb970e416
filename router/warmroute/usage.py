"""Token counts in a worker's answer, found without parsing the answer.

Engines put the counts into one small object near the end (`usage`, or SGLang's `meta_info`); Anthropic's
stream says the prompt's part in its first event. Only the first piece and the tail of an answer are
searched. A quote inside generated text is escaped there, so text cannot look like the object's key.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from warmroute.counts import Counts
from warmroute_policies.types import Usage

# Enough for a final chunk with its usage and the end marker, or the end of a plain answer.
TAIL_BYTES: Final = 4096

# An object with at most one level of objects inside; of a deeper one a part, which is no JSON. Looking for
# one kind of brace at a time takes a memory search: 0.7 µs in place of 1.8. Nothing is tried twice where a
# closing brace ends what is searched, so opening ones without end cost no more than their number.
_OBJECT: Final = re.compile(rb"\s*:\s*(\{(?>[^}]*\{[^}]*\})*+[^}]*\})")

# An engine may pass a text through chunks of its own cut: their framing may stand inside the object. JSON
# has no bare line ends within its texts.
_CHUNK_CUT: Final = re.compile(rb"\r\n[0-9a-fA-F]{1,16}\r\n")

_DECODE: Final = msgspec.json.Decoder(Counts).decode


def find_usage(tail: bytes, head: bytes = b"") -> Usage | None:
    """The counts that an answer reports; None when it reports none.

    `tail` is the end of the answer; `head` its first piece, for streams that count the prompt there.
    """
    counts = _last(tail, b'"usage"') or _last(tail, b'"meta_info"')
    if counts is None:
        return None
    if counts.prompt_tokens is not None:
        details = counts.prompt_tokens_details
        cached = counts.cached_tokens if details is None else details.cached_tokens
        return Usage(counts.prompt_tokens, counts.completion_tokens, cached)
    if head and counts.cache_read_input_tokens is None:
        first = _first(head)
        if first is not None and (counts.input_tokens is None or first.cache_read_input_tokens is not None):
            return _input_output(first, counts.output_tokens)
    return _input_output(counts, counts.output_tokens)


def _input_output(counts: Counts, output_tokens: int | None) -> Usage:
    """The newer names. Anthropic counts cached tokens beside `input_tokens`, OpenAI among them."""
    if counts.input_tokens is None:
        return Usage(None, output_tokens, None)
    if counts.cache_read_input_tokens is None:
        details = counts.input_tokens_details
        return Usage(counts.input_tokens, output_tokens, None if details is None else details.cached_tokens)
    cached = counts.cache_read_input_tokens
    prompt = counts.input_tokens + cached + (counts.cache_creation_input_tokens or 0)
    return Usage(prompt, output_tokens, cached)


def _first(data: bytes) -> Counts | None:
    """The first object behind `usage`: a short stream may be here as a whole."""
    at = data.find(b'"usage"')
    return None if at < 0 else _counts(data, at + len(b'"usage"'))


def _last(data: bytes, key: bytes) -> Counts | None:
    """The last object behind `key`; chunks that say `null` are passed over."""
    at = data.rfind(key)
    while at >= 0:
        counts = _counts(data, at + len(key))
        if counts is not None:
            return counts
        at = data.rfind(key, 0, at)
    return None


def _counts(data: bytes, at: int) -> Counts | None:
    """The object that begins at `at`, if it is one; a key of that name may stand elsewhere in the answer."""
    found = _OBJECT.match(data, at, data.rfind(b"}") + 1)
    if found is None:
        return None
    written = found[1]
    if written.find(b"\r\n") >= 0:  # `in` takes bytes for a number first, and fails at that
        written = _CHUNK_CUT.sub(b"", written)
    try:
        return _DECODE(written)
    except msgspec.DecodeError:
        return None
