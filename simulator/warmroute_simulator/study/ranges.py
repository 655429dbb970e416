"""Which parameters `simulator tune` varies, and how far: as it was told, or from the policy's own defaults.

    miss_price=0.5..8:log     a number, spread evenly over its logarithm
    rent_price=0..8:log       the same from 0 on: even steps near 0, ever larger ones above
    ring_points=20..300       a whole number where the parameter is one
    inner=random|cache_aware  one of several

A parameter without a given range gets one from its default: eight times less to eight times more on a
logarithmic scale, from 0 to 1 when it is 0, both when it is a truth value. Where the policy refuses an end
of such a range it is drawn in.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from math import isfinite
from typing import Final

from warmroute_policies import plugins, registry
from warmroute_policies.errors import ConfigError
from warmroute_policies.events import PolicySpec
from warmroute_policies.parameters import Value, accepted, convert, suggestion
from warmroute_simulator.study.space import Choice, Dimension, Range, Space, accepts_policy, defaults

FACTOR: Final = 8.0
"""Three doublings either way: what is worth more is another policy."""
_NARROWINGS: Final = 20
"""Halvings when an end of a range is drawn in: to a millionth of the range."""


def space_of(policy: PolicySpec, ranges: str | None = None) -> Space:
    """What to search: the ranges given, else every parameter of the policy that it was not given a value for.

    Raises ConfigError for a range that is none or that the policy refuses, or when there is nothing to vary.
    """
    policy, types = typed(policy), _types(policy.name)
    if ranges:
        dimensions = [_given(text, types, policy) for text in _separated(ranges)]
        names = [dimension.name for dimension in dimensions]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"--params names `{twice}` twice")
    else:
        known = defaults(policy.name)
        derived = (
            _derived(name, default, types.get(name), policy)
            for name, default in known.items()
            if name not in policy.params
        )
        dimensions = [dimension for dimension in derived if dimension is not None]
    if not dimensions:
        raise ConfigError(f"policy `{policy.name}` has no parameter whose range is known: give --params")
    return Space(policy, tuple(dimensions))


def _types(name: str) -> dict[str, object]:
    """What parameters are, where a policy says so."""
    if name in registry.available():
        return {key: type(value) for key, value in registry.defaults(name).items()}
    return {
        key: (type(default) if kind is object and default is not Parameter.empty else kind)
        for key, (kind, default) in accepted(plugins.find(name)).items()
        if key != "seed"
    }


def typed(policy: PolicySpec) -> PolicySpec:
    """Parameters that were given as text, as what they are. Raises ConfigError."""
    types = _types(policy.name)
    params = {
        name: _value(f"policy `{policy.name}`: `{name}`", types[name], value)
        if isinstance(value, str) and name in types
        else value
        for name, value in policy.params.items()
    }
    return PolicySpec(policy.name, params)


def _separated(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _given(text: str, types: Mapping[str, object], policy: PolicySpec) -> Dimension:
    name, equals, rest = text.partition("=")
    name = name.strip()
    if not (equals and name and rest):
        raise ConfigError(
            f"--params {text!r}: expected name=LOW..HIGH, name=LOW..HIGH:log or name=one|another"
        )
    if name not in types and not name.startswith(registry.INNER):
        raise ConfigError(f"policy `{policy.name}` has no parameter `{name}`{suggestion(name, types)}")
    kind = types.get(name, float)
    if ".." not in rest:
        what = f"--params: `{name}`"
        values = tuple(_value(what, kind, choice.strip()) for choice in rest.split("|"))
        dimension: Dimension = Choice(name, values)
        ends: Sequence[Value] = values
    else:
        dimension = _range(text, name, rest, kind)
        ends = (dimension.low, dimension.high)
        if dimension.whole:
            ends = tuple(round(end) for end in ends)
    for end in ends:
        _refuse(_replaced(policy, name, end), text)
    return dimension


def _range(text: str, name: str, rest: str, kind: object) -> Range:
    body, _, scale = rest.partition(":")
    if scale not in ("", "log", "linear"):
        raise ConfigError(f"--params {text!r}: a scale is `log` or `linear`, not {scale!r}")
    low_text, _, high_text = body.partition("..")
    try:
        low, high = float(low_text), float(high_text)
    except ValueError:
        raise ConfigError(f"--params {text!r}: expected two numbers, as in {name}=0.5..8") from None
    if not (isfinite(low) and isfinite(high) and low < high):
        raise ConfigError(f"--params {text!r}: the first number must be below the second")
    if scale == "log" and low < 0:
        raise ConfigError(f"--params {text!r}: a logarithmic scale begins at 0 or above")
    return Range(name, low, high, scale == "log", _is_whole(kind))


def _is_whole(kind: object) -> bool:
    kinds = typing.get_args(kind) or (kind,)
    return int in kinds and float not in kinds


def _value(what: str, kind: object, text: str) -> Value:
    """As what it is; `none` stays a text, as configurations have it."""
    value = convert(what, kind, text)
    return value if isinstance(value, str | float | int | bool) else text


def _derived(name: str, default: Value, kind: object, policy: PolicySpec) -> Dimension | None:
    """None for texts and for infinity: nobody knows what else could stand there."""
    if isinstance(default, bool):
        return Choice(name, (default, not default))
    if isinstance(default, str) or not isfinite(default):
        return None
    whole = _is_whole(kind)
    if default == 0:
        return _drawn_in(Range(name, 0.0, 1.0, log=not whole, whole=whole), 0.0, policy)
    if default < 0:
        ends = (default * FACTOR, default / FACTOR)
        return _drawn_in(Range(name, *ends, whole=whole), default, policy)
    low = max(1.0, round(default / FACTOR)) if whole else default / FACTOR
    return _drawn_in(Range(name, low, default * FACTOR, log=True, whole=whole), default, policy)


def _drawn_in(found: Range, default: float, policy: PolicySpec) -> Range:
    """The range between the farthest values on either side of the default that the policy takes."""

    def taken(value: float) -> bool:
        return accepts_policy(_replaced(policy, found.name, round(value) if found.whole else value))

    return Range(
        found.name,
        _farthest(default, found.low, taken),
        _farthest(default, found.high, taken),
        found.log,
        found.whole,
    )


def _farthest(good: float, far: float, taken: Callable[[float], bool]) -> float:
    if taken(far):
        return far
    for _ in range(_NARROWINGS):
        middle = (good + far) / 2
        good, far = (middle, far) if taken(middle) else (good, middle)
    rounded = float(f"{good:.3g}")
    return rounded if taken(rounded) else good


def _replaced(policy: PolicySpec, name: str, value: Value) -> PolicySpec:
    """The policy with one parameter changed."""
    return PolicySpec(policy.name, {**policy.params, name: value})


def _refuse(policy: PolicySpec, text: str) -> None:
    try:
        plugins.load_policy(policy.name, policy.params)
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"--params {text!r}: {error}") from None
