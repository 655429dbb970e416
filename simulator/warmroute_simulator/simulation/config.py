"""All that a run is made of, beside the trace."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from math import gcd, inf

from warmroute_policies.config import BalancerConfig, ResilienceConfig
from warmroute_policies.events import PolicySpec
from warmroute_simulator.simulation.arrivals import ArrivalPlan
from warmroute_simulator.simulation.fleet import WorkerPlan
from warmroute_simulator.simulation.scenario import Happening
from warmroute_simulator.simulation.told import LoadSignals


class Spread(enum.StrEnum):
    """How clients choose among router replicas."""

    RANDOM = "random"
    SESSION = "session"
    """All requests of a session go to one replica; those without a session at random."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Raises ValueError for a fleet of nobody, for delays below 0, without a router, and for errors that are
    no factors."""

    fleet: tuple[WorkerPlan, ...]
    policy: PolicySpec
    balancer: BalancerConfig = field(default_factory=BalancerConfig)
    """Prices of the fleet's worker classes are added to it."""
    resilience: ResilienceConfig = field(default_factory=ResilienceConfig)
    """When routers give up on a worker or on a request; the live router's defaults."""
    arrivals: ArrivalPlan = field(default_factory=ArrivalPlan)
    scenario: tuple[Happening, ...] = ()
    seed: int = 0
    network_s: float = 0.0
    """One way between a router and a worker."""
    feedback_s: float = 0.0
    """How much later than that a router's books learn of first tokens and ends."""
    routers: int = 1
    spread: Spread = Spread.RANDOM
    signals: LoadSignals | None = None
    """What engines tell routers of their load; None: nothing, as without `load_poll`."""
    price_error: float = 1.0
    """What routers believe of prefill prices over the truth."""
    capacity_error: float = 1.0
    """What workers declare of their KV capacity over the truth."""
    kv_events: bool = False
    """Workers tell routers what their caches hold (exact mode)."""

    def __post_init__(self) -> None:
        if not self.fleet:
            raise ValueError("a fleet needs at least one worker")
        if self.network_s < 0 or self.feedback_s < 0:
            raise ValueError("delays must not be negative")
        if self.routers < 1:
            raise ValueError("there must be at least one router")
        if not (0 < self.price_error < inf and 0 < self.capacity_error < inf):
            raise ValueError("errors of prices and of capacity are factors above 0")

    @property
    def page_tokens(self) -> int:
        """The largest page that divides those of all workers: whatever is cached is whole pages of it."""
        return gcd(*(worker.engine.block_tokens for worker in self.fleet))
