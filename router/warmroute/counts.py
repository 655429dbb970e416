"""The counts of tokens that engines report, under every name that they use, and where streams ask for them.

Apart from `usage`, which is compiled: msgspec reads the annotations here while the program runs.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

# What is no count of tokens is no report.
_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)] | None


class _Details(msgspec.Struct, gc=False):
    cached_tokens: _Count = None


class Counts(msgspec.Struct, gc=False):
    """An answer's `usage` or `meta_info`."""

    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    prompt_tokens_details: _Details | None = None
    cached_tokens: _Count = None
    input_tokens: _Count = None
    output_tokens: _Count = None
    input_tokens_details: _Details | None = None
    cache_read_input_tokens: _Count = None
    cache_creation_input_tokens: _Count = None


class StreamEvent(msgspec.Struct, gc=False):
    """An event of a chat's or a completion's stream, as far as it tells whether it holds counts alone."""

    choices: Any = None
    usage: Any = None


class AskedStream(msgspec.Struct, gc=False):
    """A request's body, as far as it says what a stream is to hold."""

    stream_options: msgspec.Raw = msgspec.Raw(b"")
