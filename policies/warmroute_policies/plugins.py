"""Policies of third parties: `package.module:Class`, or an entry point of the group `warmroute.policies`.

Here and not in `registry` because importing runs code from outside. A plugin is a class, or any callable,
that returns a policy; its keyword parameters are the policy's parameters, and `seed` is passed to one that
takes it. Built-in names win over entry points: installing a package does not change what `random` is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from warmroute_policies import registry
from warmroute_policies.errors import ConfigError
from warmroute_policies.parameters import Value, accepted, converted, suggestion
from warmroute_policies.policy import Policy

GROUP = "warmroute.policies"

_METHODS = ("decide", "observe", "explain")


def load_policy(name: str, params: Mapping[str, Value] | None = None, seed: int = 0) -> Policy:
    """A policy by built-in name, entry point, or `package.module:Class`.

    Raises ConfigError when there is none, when it cannot be imported, or when it is not a policy.
    """
    if name in registry.available():
        return registry.make_policy(name, params, seed, make_inner=load_policy)
    return build(name, find(name), params or {}, seed)


def available() -> dict[str, str]:
    """Every name that `load_policy` knows, and where it comes from (`built in`, or the entry point)."""
    plugins = {point.name: f"{point.value}" for point in _installed().values()}
    return plugins | dict.fromkeys(registry.available(), "built in")


def find(name: str) -> Callable[..., object]:
    """The class or callable that an entry point or `package.module:Class` names. Raises ConfigError."""
    if ":" in name:
        module_name, _, attribute = name.partition(":")
        try:
            found = import_module(module_name)
        except Exception as error:  # somebody else's code runs
            raise ConfigError(f"policy `{name}`: cannot import `{module_name}`: {_told(error)}") from error
        for part in attribute.split("."):
            try:
                found = getattr(found, part)
            except AttributeError as error:
                raise ConfigError(f"policy `{name}`: `{module_name}` has no `{attribute}`") from error
    else:
        installed = _installed()
        if name not in installed:
            raise ConfigError(
                f"there is no policy `{name}`{suggestion(name, available())}; "
                f"your own is `package.module:Class` or an entry point of the group {GROUP}"
            )
        try:
            found = installed[name].load()
        except Exception as error:  # as above
            text = f"policy `{name}`: cannot load {installed[name].value}: {_told(error)}"
            raise ConfigError(text) from error
    if not callable(found):
        raise ConfigError(f"policy `{name}` is not a class or a function that makes one")
    return cast("Callable[..., object]", found)


def build(name: str, make: Callable[..., object], params: Mapping[str, Value], seed: int) -> Policy:
    """Calls `make` with its parameters converted. Raises ConfigError when what comes back is no policy."""
    given = dict(params)
    if "seed" in accepted(make):
        given.setdefault("seed", seed)
    wanted = converted(f"policy `{name}`", make, given)
    try:
        policy = make(**wanted)
    except ConfigError:
        raise
    except Exception as error:  # somebody else's code, too
        raise ConfigError(f"policy `{name}` cannot be made: {_told(error)}") from error
    missing = [method for method in _METHODS if not callable(getattr(policy, method, None))]
    if missing:
        raise ConfigError(f"policy `{name}` lacks the method `{missing[0]}`")
    if not isinstance(getattr(policy, "name", None), str):
        raise ConfigError(f"policy `{name}` lacks the attribute `name`, a string")
    return cast("Policy", policy)


def _told(error: Exception) -> str:
    """What is an ImportError, or a ValueError about a parameter, says all; of others the kind matters."""
    known = isinstance(error, (ImportError, ValueError)) and str(error)
    return str(error) if known else f"{type(error).__name__}: {error}"


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
