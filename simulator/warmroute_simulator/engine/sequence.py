"""A request inside an engine: how much of it is computed, and how much of it is out."""

from __future__ import annotations

from dataclasses import dataclass

from warmroute_simulator.engine.events import EngineRequest


@dataclass(slots=True, eq=False)
class Sequence:
    """State of one request. A token's KV exists once the token has been the input of a step, so the last
    token of an answer never has any: `computed` ends at prompt + output − 1."""

    request: EngineRequest
    submitted_at: float
    computed: int = 0
    """Tokens whose KV is in the cache or being computed by the step in flight, at settled steps."""
    held: int = 0
    """Tokens that the sequence has blocks for: `computed` plus what the step in flight computes."""
    generated: int = 0
    cached_tokens: int = -1
    """Prefix hit at the first admission; −1 before it."""
    alive: bool = True

    @property
    def known(self) -> int:
        """Tokens that exist: the prompt and what has been generated."""
        return self.request.prompt_tokens + self.generated
