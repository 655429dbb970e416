"""The policy that settings ask for, as the decision core takes it, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from warmroute.config.settings import Settings
from warmroute_policies.events import PolicySpec
from warmroute_policies.parameters import Value
from warmroute_policies.plugins import load_policy
from warmroute_policies.registry import INNER
from warmroute_policies.spelling import parse_policy

STICKY = "session_sticky"


class Asked(NamedTuple):
    """A policy as operators name it."""

    policy: str
    params: Mapping[str, Value]
    session_sticky: bool

    def view(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"policy": self.policy, "params": dict(self.params), "session_sticky": self.session_sticky}


def asked_of(settings: Settings) -> Asked:
    """What the settings say."""
    return Asked(settings.policy, settings.policy_param, settings.session_sticky)


def spec_of(asked: Asked, seed: int) -> PolicySpec:
    """All that is needed to make it."""
    name, params = asked.policy, dict(asked.params)
    if asked.session_sticky:  # what the operator wrote is meant for the policy that they named
        params = {"inner": name, **{f"{INNER}{key}": value for key, value in params.items()}}
        name = STICKY
    return PolicySpec(name, params, seed)


def policy_spec(settings: Settings) -> PolicySpec:
    """What the settings say of the live policy."""
    return spec_of(asked_of(settings), settings.seed)


def check_policies(settings: Settings) -> None:
    """Raises ConfigError for a policy that cannot be made, live or shadow."""
    for spec in (policy_spec(settings), *map(parse_policy, settings.shadow_policy)):
        load_policy(spec.name, spec.params, settings.seed)


def names_in(spec: PolicySpec) -> set[str]:
    """The policy's name and those of the rules inside, however deep."""
    inner = (value for key, value in spec.params.items() if key.split(".")[-1] == "inner")
    return {spec.name, *(str(value) for value in inner)}
