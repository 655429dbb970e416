"""Settings as the values that the decision core takes.

Every latency preset in use is a worker class of its own, so that a fleet may mix accelerators.
"""

from __future__ import annotations

from collections.abc import Mapping

from warmroute.config.backends import Backend
from warmroute.config.presets import price_of
from warmroute.config.settings import Settings
from warmroute_policies.config import BalancerConfig
from warmroute_policies.latency import PRESETS, PrefillPrice
from warmroute_policies.types import WorkerSpec


def balancer_config(
    settings: Settings, learned_prices: Mapping[str, PrefillPrice] | None = None
) -> BalancerConfig:
    """What every policy shares. Later workers may name any built-in preset, so all of them have a price;
    `learned_prices` is what an earlier router learned."""
    fitted = {
        settings.latency_preset,
        *(backend.preset or settings.latency_preset for backend in settings.backend),
    }
    return BalancerConfig(
        prices={name: price_of(name) for name in sorted({*PRESETS, *fitted})},
        default_price=price_of(settings.latency_preset),
        bytes_per_token=settings.bytes_per_token,
        index_max_bytes=int(settings.index_max_bytes),
        replicas=settings.replicas,
        capacity_feedback=settings.capacity_feedback,
        learn_prices=settings.learn_prices,
        learned_prices=learned_prices or {},
        panic_threshold=settings.panic_threshold,
        slow_start_s=settings.slow_start_s,
        host_load_s=settings.kv_host_load_s,
        disk_load_s=settings.kv_disk_load_s,
        external_load_s=settings.kv_external_load_s,
        load_stale_s=settings.load_stale_s,
        load_smoothing_s=settings.load_smoothing_s,
        kv_pressure_gate=settings.kv_pressure_gate,
    )


def worker_spec(backend: Backend, settings: Settings) -> WorkerSpec:
    """A worker as the core knows it before the engine itself has told more."""
    return WorkerSpec(
        worker_id=backend.url,
        models=backend.model,
        weight=backend.weight,
        kv_capacity_tokens=backend.kv_capacity_tokens or settings.kv_capacity_tokens,
        worker_class=backend.preset or settings.latency_preset,
        max_inflight=backend.max_inflight or settings.max_inflight_per_worker,
    )
