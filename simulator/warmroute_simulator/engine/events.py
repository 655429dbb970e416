"""The values that pass between an engine and its driver. All times are seconds on the driver's clock."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec


class FinishReason(enum.StrEnum):
    LENGTH = "length"
    """The answer reached the client's token limit."""
    STOP = "stop"
    """The model ended the answer by itself."""


class EngineRequest(msgspec.Struct, frozen=True, gc=False):
    """One request as an engine sees it: lengths and block keys, never text."""

    request_id: int
    prompt_tokens: int
    output_tokens: int
    """How long the answer will be. 0: only the prefill (an embedding)."""
    block_keys: Sequence[int]
    """Chained keys of the whole blocks of prompt and answer together, so that the answer is cached too.
    Keys may end early; what has no key is never shared."""
    reason: FinishReason = FinishReason.LENGTH
    token_events: bool = False
    """True: every token is an event (a stream). False: only the first token and the end are, and a run
    of decode steps is one jump."""


class FirstToken(msgspec.Struct, frozen=True, gc=False):
    """The prefill is done and the first token is out. It is not repeated as a `Tokens` event."""

    request_id: int
    at: float
    cached_tokens: int


class Tokens(msgspec.Struct, frozen=True, gc=False):
    """`count` more tokens are out; only for requests with `token_events`."""

    request_id: int
    at: float
    count: int


class Finished(msgspec.Struct, frozen=True, gc=False):
    """The last token is out and the request's blocks are released."""

    request_id: int
    at: float
    reason: FinishReason
    cached_tokens: int
    output_tokens: int


Event = FirstToken | Tokens | Finished
