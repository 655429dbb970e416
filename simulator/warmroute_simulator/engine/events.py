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
    prompt: Sequence[int]
    """What the cache knows prompt and answer by: chained keys of the whole blocks of both, or the path to
    the answer's node in a trace's tree. It may end early; what it does not name is never shared."""
    reason: FinishReason = FinishReason.LENGTH
    token_events: bool = False
    """True: every token is an event (a stream). False: only the first token and the end are, and a run
    of decode steps is one jump."""


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """The request was taken up for the first time, in the step that starts now."""

    request_id: int
    at: float
    cached_tokens: int
    lost_tokens: int
    """Tokens behind the hit that were cached here before and are no longer, as far as the cache can tell."""


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


Event = Admitted | FirstToken | Tokens | Finished
