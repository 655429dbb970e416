"""Requests as they went in reality: what a fit compares the simulation with."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isnan, nan


@dataclass(frozen=True, slots=True)
class MeasuredRequest:
    """One request that was answered. Times are seconds."""

    arrival_s: float
    """Since the first request of the run."""
    prompt_tokens: int
    output_tokens: int
    """At least 1."""
    e2e_s: float
    """From arrival to the last token."""
    ttft_s: float = nan
    """From arrival to the first token; `nan`: nobody saw it."""
    cached_tokens: int | None = None
    """Of the prompt, found in the engine's cache; None: not known."""
    worker: str = ""
    """Requests of one worker met each other, those of different workers did not."""
    blocks: tuple[int, ...] | None = None
    """Chained ids of the prompt's full blocks: equal ids mean equal prompts up to that block."""

    @property
    def tpot_s(self) -> float:
        """Time per output token after the first; `nan` where there is none or the first was not seen."""
        if self.output_tokens < 2:
            return nan
        return (self.e2e_s - self.ttft_s) / (self.output_tokens - 1)


@dataclass(slots=True)
class Measurement:
    """One run. State: the requests in the order of their arrival, and what a reader should know of them."""

    source: str
    requests: list[MeasuredRequest]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.requests.sort(key=lambda request: request.arrival_s)

    def overlapping(self, fitted: int) -> list[MeasuredRequest]:
        """Reads. The first `fitted` requests and those that came before the last of these had ended: all who
        can have delayed them."""
        last_end = max(request.arrival_s + request.e2e_s for request in self.requests[:fitted])
        return [
            request
            for row, request in enumerate(self.requests)
            if row < fitted or request.arrival_s < last_end
        ]

    @property
    def knows_blocks(self) -> bool:
        return all(request.blocks is not None for request in self.requests)

    @property
    def knows_hits(self) -> bool:
        return any(request.cached_tokens is not None for request in self.requests)

    @property
    def first_tokens_seen(self) -> int:
        return sum(not isnan(request.ttft_s) for request in self.requests)
