"""Which settings can change while the router runs, and what becomes of the others.

`LIVE` names the settings whose value is read where it is used, or that `Gateway.reconfigure` and `reload`
hand on to what was made of it. Any other keeps its value until a restart, whole: what is in effect never
mixes two values of one setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from warmroute.config.settings import FIELDS, Settings
from warmroute.config.show import plain_value

LIVE: Final = frozenset(
    {
        "api_key", "admin_api_key", "engine_call_timeout_s", "max_body_bytes", "max_buffered_bytes",
        "max_connections", "max_client_buffer_bytes",
        "backend", "worker_allow", "model_discovery", "kv_capacity_tokens", "idle_connections_per_worker",
        "upstream_keepalive_s", "discovery_drain_s", "discovery_max_workers",
        "kv_events_max_blocks", "kv_events_replay_timeout_s", "kv_events_verify_s", "kv_events_stall_s",
        "policy", "policy_param", "session_sticky", "session_header", "seed",
        "connect_timeout_s", "first_byte_timeout_s", "idle_timeout_s", "total_timeout_s", "head_timeout_s",
        "body_timeout_s", "keepalive_timeout_s", "shutdown_grace_s", "shutdown_idle_s",
        "health_path", "health_interval_s", "health_timeout_s", "health_rise", "health_fall",
        "eject_after_failures", "eject_for_s",
        "retries", "retry_budget_ratio", "retry_budget_min_per_s",
        "log_level", "access_log",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """From the settings in effect to those that were read. Keys are masked."""

    effective: Settings
    """The settings in effect, with what can change while the router runs."""
    changed: Mapping[str, tuple[Any, Any]]
    """Setting to its value before and after, as JSON has them."""
    needs_restart: tuple[str, ...]
    """Settings whose new value waits for a restart."""


def difference(before: Settings, read: Settings) -> Difference:
    """What a reload does, and what it leaves."""
    differs = [name for name in FIELDS if getattr(before, name) != getattr(read, name)]
    live = [name for name in differs if name in LIVE]
    return Difference(
        before.model_copy(update={name: getattr(read, name) for name in live}),
        {
            name: (plain_value(name, getattr(before, name)), plain_value(name, getattr(read, name)))
            for name in live
        },
        tuple(name for name in differs if name not in LIVE),
    )
