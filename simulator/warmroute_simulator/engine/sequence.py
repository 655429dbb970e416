"""A request inside an engine: how much of it is computed, and how much of it is out."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import final

from warmroute_simulator.engine.cache import Lease
from warmroute_simulator.engine.events import EngineRequest


@final
class Sequence:
    """State of one request. A token's KV exists once the token has been the input of a step, so the last
    token of an answer never has any: `computed` ends at prompt + output − 1.

    While a sequence decodes, `computed`, `held` and `generated` stand still and the batch counts for it
    (`decode_batch`); they are true again when it has left the batch.
    """

    __slots__ = (
        "alive", "cached_tokens", "computed", "decoding", "ends_at", "generated", "held", "lease",
        "named_tokens", "offset", "output_tokens", "prompt", "prompt_tokens", "ready_at", "request",
        "request_id", "submitted_at", "token_events",
    )  # fmt: skip

    lease: Lease
    """What it has of the cache, from its admission on."""

    def __init__(self, request: EngineRequest, submitted_at: float, ready_at: float) -> None:
        self.request = request
        self.request_id: int = request.request_id
        self.submitted_at = submitted_at
        self.ready_at = ready_at
        """From then on the scheduler knows of it."""
        self.prompt: SequenceOf[int] = request.prompt
        self.prompt_tokens: int = request.prompt_tokens
        self.output_tokens: int = request.output_tokens
        self.token_events: bool = request.token_events
        self.computed = 0
        """Tokens whose KV is in the cache, at settled steps."""
        self.held = 0
        """Tokens that the sequence has blocks for: `computed` plus what the step in flight computes."""
        self.generated = 0
        self.cached_tokens = -1
        """Prefix hit at the first admission; −1 before it."""
        self.named_tokens = 0
        """Tokens whose blocks others can meet; what is behind them is nobody else's."""
        self.alive = True
        self.decoding = False
        self.offset = 0
        self.ends_at = 0

    @property
    def known(self) -> int:
        """Tokens that exist: the prompt and what has been generated."""
        return self.prompt_tokens + self.generated
