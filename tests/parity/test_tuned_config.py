"""What `simulator tune --out` writes is what `router --config` reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from warmroute.cli import main as router
from warmroute.config.core import balancer_config
from warmroute.config.sources import load
from warmroute_policies.plugins import load_policy
from warmroute_simulator.cli import main as simulator
from warmroute_simulator.study.space import defaults

CHAT = "generate:chat:requests=60,sessions_per_s=6"


@pytest.mark.parametrize("policy", ["cache_aware", "prefix_hash", "session_sticky", "studied:Leaning"])
def test_a_tuned_file_is_a_configuration_of_the_router(tmp_path: Path, policy: str) -> None:
    file = tmp_path / "router.yaml"
    small = ("--workers", "2", "--processes", "1", "--budget", "8", "--seeds", "2", "--load", "0.8")
    assert simulator(["tune", CHAT, "--policy", policy, *small, "--quiet", "--out", str(file)]) == 0
    assert router(["config", "--config", str(file), "--json", str(tmp_path / "settings.json")]) == 0
    settings = load({}, file).settings
    assert settings.policy == policy
    assert settings.kv_capacity_tokens == 441_000
    assert settings.latency_preset == "llama-3.1-8b-h100"
    assert set(settings.policy_param) <= set(defaults(policy))
    load_policy(settings.policy, settings.policy_param, settings.seed)
    balancer_config(settings)
