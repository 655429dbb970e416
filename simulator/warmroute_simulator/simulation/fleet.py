"""The workers of a run: which hardware, how much KV cache, under which names the router prices them."""

from __future__ import annotations

from dataclasses import dataclass

from warmroute_policies.latency import PrefillPrice
from warmroute_simulator.engine import EngineConfig


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """One worker of a fleet."""

    worker_id: str
    engine: EngineConfig
    worker_class: str
    """Workers of one class have equal latencies; the preset's name."""
    weight: float = 1.0
    max_model_len: int | None = None
    """Longest prompt and answer together; None: what the KV cache holds."""

    context_tokens: int | None = None
    """What the model itself is made for. Nothing is refused for it; `max_model_len` does that."""

    @property
    def longest_tokens(self) -> int:
        """What it accepts at most."""
        capacity = self.engine.capacity_blocks * self.engine.block_tokens
        return capacity if self.max_model_len is None else min(capacity, self.max_model_len)

    @property
    def price(self) -> PrefillPrice:
        """The truth; what routers believe of it is `RunConfig.price_error` times as much."""
        return self.engine.latency.price
