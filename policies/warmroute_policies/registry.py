"""The built-in policies by name. Pure: third parties' policies are `plugins`' business, which imports them.

A policy is made from a name, parameters and a seed, and these three are all that a journal has to record
to make it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from warmroute_policies.algorithms.cache_aware import CacheAware
from warmroute_policies.algorithms.consistent_hash import ConsistentHash
from warmroute_policies.algorithms.least_requests import LeastRequests
from warmroute_policies.algorithms.power_of_two import PowerOfTwo
from warmroute_policies.algorithms.prefix_hash import PrefixHash
from warmroute_policies.algorithms.random import Random
from warmroute_policies.algorithms.round_robin import RoundRobin
from warmroute_policies.algorithms.session_sticky import SessionSticky
from warmroute_policies.config import (
    CacheAwareConfig,
    ConsistentHashConfig,
    PrefixHashConfig,
    SessionStickyConfig,
    parameters,
)
from warmroute_policies.errors import ConfigError
from warmroute_policies.parameters import Value, converted, suggestion
from warmroute_policies.peers.dynamo_kv import DynamoKv, DynamoKvConfig
from warmroute_policies.peers.least_prefill_work import LeastPrefillWork
from warmroute_policies.peers.llmd_sticky_until_saturated import (
    LlmdStickyUntilSaturated,
    LlmdStickyUntilSaturatedConfig,
)
from warmroute_policies.peers.llmd_weighted import LlmdWeighted, LlmdWeightedConfig
from warmroute_policies.peers.lmetric import LMetric, LMetricConfig
from warmroute_policies.peers.preble import Preble, PrebleConfig
from warmroute_policies.peers.ray_prefix_affinity import RayPrefixAffinity, RayPrefixAffinityConfig
from warmroute_policies.peers.sglang_cache_aware import SglangCacheAware, SglangCacheAwareConfig
from warmroute_policies.peers.vllm_router_kv import VllmRouterKv
from warmroute_policies.policy import Policy

INNER = "inner."
"""What the names of parameters of the rule inside `session_sticky` begin with."""


class MakePolicy(Protocol):
    """Makes a policy from its name."""

    def __call__(self, name: str, params: Mapping[str, Value], seed: int) -> Policy: ...


class _NoConfig:
    """The configuration of a policy that has no parameters."""


class _Entry(msgspec.Struct, frozen=True):
    config_type: type
    make: Callable[[Any, int], Policy]
    """From a value of the type, and the seed."""


_BUILT_IN: dict[str, _Entry] = {
    "random": _Entry(_NoConfig, lambda _, seed: Random(seed)),
    "round_robin": _Entry(_NoConfig, lambda _, seed: RoundRobin()),
    "least_requests": _Entry(_NoConfig, lambda _, seed: LeastRequests(seed)),
    "power_of_two": _Entry(_NoConfig, lambda _, seed: PowerOfTwo(seed)),
    "prefix_hash": _Entry(PrefixHashConfig, PrefixHash),
    "consistent_hash": _Entry(ConsistentHashConfig, ConsistentHash),
    "session_sticky": _Entry(SessionStickyConfig, lambda config, seed: SessionSticky(None, config, seed)),
    "sglang_cache_aware": _Entry(SglangCacheAwareConfig, SglangCacheAware),
    "ray_prefix_affinity": _Entry(RayPrefixAffinityConfig, RayPrefixAffinity),
    "llmd_weighted": _Entry(LlmdWeightedConfig, LlmdWeighted),
    "vllm_router_kv": _Entry(_NoConfig, lambda _, seed: VllmRouterKv(seed)),
    "lmetric": _Entry(LMetricConfig, LMetric),
    "preble": _Entry(PrebleConfig, lambda config, seed: Preble(config)),
    "dynamo_kv": _Entry(DynamoKvConfig, DynamoKv),
    "llmd_sticky_until_saturated": _Entry(LlmdStickyUntilSaturatedConfig, LlmdStickyUntilSaturated),
    "least_prefill_work": _Entry(_NoConfig, lambda _, seed: LeastPrefillWork()),
    "cache_aware": _Entry(CacheAwareConfig, lambda config, seed: CacheAware(config)),
}


def available() -> tuple[str, ...]:
    """The built-in names, from the simplest rule to the default one."""
    return tuple(_BUILT_IN)


def defaults(name: str) -> dict[str, object]:
    """Name and default of every parameter of a built-in policy. Raises ConfigError."""
    config_type = _entry(name).config_type
    return {} if config_type is _NoConfig else parameters(config_type)


def make_policy(
    name: str,
    params: Mapping[str, Value] | None = None,
    seed: int = 0,
    *,
    make_inner: MakePolicy | None = None,
) -> Policy:
    """A built-in policy; `make_inner` finds the rule inside `session_sticky`, by default among these.

    Raises ConfigError for an unknown name or parameter, or a value that is out of range.
    """
    entry, params = _entry(name), params or {}
    inner_params = {key.removeprefix(INNER): value for key, value in params.items() if key.startswith(INNER)}
    own = {key: value for key, value in params.items() if not key.startswith(INNER)}
    config = entry.config_type(**converted(name, entry.config_type, own))
    if isinstance(config, SessionStickyConfig):
        inner = (make_inner or make_policy)(config.inner, inner_params, seed)
        return SessionSticky(inner, config, seed)
    if inner_params:
        raise ConfigError(f"{name} has no rule inside, so it takes no `{INNER}{next(iter(inner_params))}`")
    return entry.make(config, seed)


def _entry(name: str) -> _Entry:
    entry = _BUILT_IN.get(name)
    if entry is None:
        raise ConfigError(f"there is no policy `{name}`{suggestion(name, _BUILT_IN)}")
    return entry
