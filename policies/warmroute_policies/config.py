"""Parameters of the core and their defaults. A default lives here and nowhere else in the core.

Frozen values with units in their names; a parameter that is out of range is refused when it is made.
The defaults' reasons stand beside them; those of a formula's constants in the module of the formula.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from warmroute_policies.errors import ConfigError
from warmroute_policies.latency import DEFAULT_PRESET, PRESETS, PrefillPrice


def require(condition: bool, text: str) -> None:
    """Raises ConfigError with the text unless the condition holds."""
    if not condition:
        raise ConfigError(text)


def _require_bound(load_factor: float, slack_requests: float) -> None:
    """With a factor below 1 every worker could be over the bound at once."""
    require(load_factor >= 1, "load_factor must be at least 1")
    require(slack_requests >= 0, "slack_requests must not be negative")


@dataclass(frozen=True, slots=True)
class BalancerConfig:
    """What every policy shares: how prompts are measured, how much is remembered."""

    prices: Mapping[str, PrefillPrice] = field(default_factory=dict)
    """Prefill price by worker class; a class that is missing has `default_price`."""
    default_price: PrefillPrice = PRESETS[DEFAULT_PRESET].price
    bytes_per_token: float = 4.0
    """Before the first answer has told; English and code are near 4 for current tokenizers."""
    index_max_bytes: int = 1 << 30
    sessions_max: int = 100_000
    replicas: int = 1
    """Routers in front of the same workers, this one counted: each believes in its share of their caches."""
    capacity_feedback: bool = True
    learn_prices: bool = True
    """Prices follow the times to first token; they begin at `learned_prices`."""
    slow_start_s: float = 0.0
    """Off: the books count every request at dispatch, so a burst is spread as it comes. Engines that compile
    at their first requests want some ten seconds."""
    panic_threshold: float = 0.0
    """Off: a quick 503 sends a client elsewhere; only the operator knows whether there is an elsewhere."""
    load_stale_s: float = 10.0
    """Others' work is forgotten when engines tell nothing for this long: twice the rarest question."""
    load_smoothing_s: float = 3.0
    """How slowly others' work is believed; `foreign` has the reason and what it was chosen by."""
    kv_pressure_gate: float | None = None
    """Off: whoever is sent away computes its prefix again elsewhere, and the price of memory spreads a
    router's own requests before caches are full."""
    learned_prices: Mapping[str, PrefillPrice] = field(default_factory=dict)
    """By worker class, what was learned earlier; a class that is missing begins at its price above."""
    host_load_s: float = 3e-6
    """Seconds to bring one token's KV from host memory to where it is computed with: 128 KB, as an 8B model's
    are, over PCIe at some 45 GB/s."""
    disk_load_s: float = 3e-5
    """... from a local disk, at some 4.5 GB/s."""
    external_load_s: float = 1.5e-5
    """... from a store behind a network of 100 Gbit/s."""

    def __post_init__(self) -> None:
        require(self.bytes_per_token > 0, "bytes_per_token must be above 0")
        require(self.index_max_bytes >= 1 << 20, "index_max_bytes must be at least 1 MiB")
        require(self.replicas >= 1, "replicas must be at least 1")
        require(self.sessions_max >= 1, "sessions_max must be at least 1")
        require(self.slow_start_s >= 0, "slow_start_s must not be negative")
        require(0 <= self.panic_threshold <= 1, "panic_threshold must be between 0 and 1")
        require(min(self.load_s()) >= 0, "host_load_s, disk_load_s and external_load_s must not be negative")
        require(self.load_stale_s > 0, "load_stale_s must be above 0")
        require(self.load_smoothing_s >= 0, "load_smoothing_s must not be negative")
        require(
            self.kv_pressure_gate is None or 0 < self.kv_pressure_gate <= 1,
            "kv_pressure_gate must be above 0 and at most 1",
        )

    def load_s(self) -> tuple[float, float, float, float]:
        """By `known.Tier`, what loading a token's KV takes, in seconds."""
        return 0.0, self.host_load_s, self.disk_load_s, self.external_load_s


@dataclass(frozen=True, slots=True)
class ResilienceConfig:
    """When a router stops trusting a worker, how often it tries again, and how long it waits."""

    retries: int = 2
    """Further workers to try when one fails before the first byte has reached the client."""
    retry_budget_ratio: float = 0.2
    """Retries allowed per request, over the whole router."""
    retry_budget_min_per_s: float = 3.0
    hedge_min_s: float = 0.1
    """Below it nobody notices, and a hedge costs another prefill."""
    hedge_budget_ratio: float = 0.05
    """Twice what the slowest twentieth asks for would double the load of an overload's beginning."""
    eject_after_failures: int = 5
    """Requests in a row that fail by the worker's fault before it is ejected."""
    eject_for_s: float = 10.0
    """An ejected worker gets one probing request after this time."""
    eject_error_rate: float = 0.5
    """Share of failures by which a worker is ejected that also succeeds: a fault of every second request is
    no chance."""
    eject_slow_factor: float = 0.0
    """Off: what is slow for a reason that the books do not know would be ejected. 4 spares noisy fleets."""
    eject_window_s: float = 30.0
    eject_min_requests: int = 20
    """Of fewer, half may fail, or be slow, by chance."""
    max_ejected_share: float = 0.5
    """The other half would break under the whole of the load sooner than an outlier does under its part."""
    health_interval_s: float = 10.0
    """Between two checks of one worker."""
    health_rise: int = 2
    """Good checks in a row that make a worker healthy again."""
    health_fall: int = 3
    first_byte_timeout_s: float = 600.0
    """A queue and a long prefill fit."""
    total_timeout_s: float = 1800.0


@dataclass(frozen=True, slots=True)
class CacheAwareConfig:
    """Prices of `cache_aware`; the module's docstring has the formula."""

    miss_price: float = 2.0
    """θ: what a second of avoidable prefill costs, in seconds of delay."""
    backlog_price: float = 8.0
    """ω: by how much `miss_price` grows for every second that waits on the least busy worker."""
    rent_price: float = 2.0
    """φ: price of room in a cache that is in use, beside one that has room. As θ: what is displaced is
    computed again, like any miss."""
    home_price: float = 16.0
    """η: by how much `miss_price` grows at most, for a prompt that is held where all others are fresh. As
    much as a backlog adds at most. On Mooncake's trace half of it loses a third of the hits that it wins,
    and twice as much wins no more."""
    memory_s: float = 1.0
    """g: delay by a KV cache that requests in flight fill; with the square of the share that they fill."""
    decode_s: float = 0.004
    """d: delay that one more request in flight adds."""

    def __post_init__(self) -> None:
        require(self.miss_price >= 0, "miss_price must not be negative")
        require(self.backlog_price >= 0, "backlog_price must not be negative")
        require(self.rent_price >= 0, "rent_price must not be negative")
        require(self.home_price >= 0, "home_price must not be negative")
        require(self.memory_s >= 0, "memory_s must not be negative")
        require(self.decode_s > 0, "decode_s must be above 0: it is also the tie-break")


@dataclass(frozen=True, slots=True)
class PrefixHashConfig:
    """Parameters of `prefix_hash`; `algorithms.ring` has the bound."""

    prefix_tokens: int = 256
    """K: length of the prompt's head. Sources use 256 tokens; so do providers that hash prompts."""
    load_factor: float = 1.25
    """c: a worker may have this many times its share of the requests in flight ..."""
    slack_requests: float = 10.0
    """s: ... and this many more."""
    ring_points: int = 150
    """Points per worker: shares of the ring differ by about 1/√150 = 8 %."""

    def __post_init__(self) -> None:
        require(self.prefix_tokens >= 1, "prefix_tokens must be at least 1")
        _require_bound(self.load_factor, self.slack_requests)
        require(1 <= self.ring_points <= 10_000, "ring_points must be between 1 and 10000")


@dataclass(frozen=True, slots=True)
class ConsistentHashConfig:
    """Parameters of `consistent_hash`; `algorithms.ring` has the bound."""

    prefix_tokens: int = 256
    """Length of the prompt's head, the key of requests without a session."""
    load_factor: float = 1.25
    slack_requests: float = 8.0
    """Several requests of one prefix in flight are normal and cheap: they share its prefill."""
    ring_points: int = 160

    def __post_init__(self) -> None:
        require(self.prefix_tokens >= 1, "prefix_tokens must be at least 1")
        _require_bound(self.load_factor, self.slack_requests)
        require(1 <= self.ring_points <= 10_000, "ring_points must be between 1 and 10000")


@dataclass(frozen=True, slots=True)
class SessionStickyConfig:
    """Parameters of `session_sticky`; `algorithms.ring` has the bound."""

    inner: str = "least_requests"
    """The rule for new sessions, and for those whose worker is gone or too busy. Its own parameters are
    given as `inner.NAME`."""
    load_factor: float = 1.5
    """Higher than for hashing: to leave costs a session its whole prefix."""
    slack_requests: float = 8.0

    def __post_init__(self) -> None:
        _require_bound(self.load_factor, self.slack_requests)


def parameters(config_type: type) -> dict[str, object]:
    """Name and default of every parameter of a policy's configuration."""
    return {f.name: f.default for f in dataclasses.fields(config_type)}
