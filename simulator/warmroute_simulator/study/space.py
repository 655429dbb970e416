"""What `simulator tune` may change: parameters of a policy, each with a range and a scale.

A point of the space is a place between 0 and 1 for each parameter; equal steps on the parameter's scale are
equal steps of the place.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import expm1, log, log1p
from typing import Final

from warmroute_policies import plugins, registry
from warmroute_policies.errors import ConfigError
from warmroute_policies.events import PolicySpec
from warmroute_policies.parameters import Value, accepted

Point = tuple[float, ...]

_BEND: Final = 64.0
"""A logarithmic scale that begins at 0 is nearly linear below a 64th of its end."""


@dataclass(frozen=True, slots=True)
class Range:
    """A number between two others."""

    name: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    def value(self, place: float) -> Value:
        """What stands at a place between 0 and 1, to three digits: more is not known, and configurations are
        read by people."""
        low, high = self.low, self.high
        if not self.log:
            exact = low + (high - low) * place
        elif low:
            exact = low * (high / low) ** place
        else:
            exact = high * expm1(place * log1p(_BEND)) / _BEND
        exact = min(max(exact, low), high)
        return round(exact) if self.whole else min(max(float(f"{exact:.3g}"), low), high)

    def place(self, value: float) -> float:
        """The other way; a value beyond an end has the end's."""
        low, high = self.low, self.high
        value = min(max(value, low), high)
        if low == high:
            return 0.0
        if not self.log:
            return (value - low) / (high - low)
        if low:
            return log(value / low) / log(high / low)
        return log1p(value / high * _BEND) / log1p(_BEND)

    def __str__(self) -> str:
        return f"{self.name}={self.low:g}..{self.high:g}{':log' * self.log}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values."""

    name: str
    values: tuple[Value, ...]

    def value(self, place: float) -> Value:
        return self.values[min(int(place * len(self.values)), len(self.values) - 1)]

    def place(self, value: Value) -> float:
        """The middle of a value's stretch; of one that is not among them, the first's."""
        at = self.values.index(value) if value in self.values else 0
        return (at + 0.5) / len(self.values)

    def __str__(self) -> str:
        return f"{self.name}={'|'.join(str(value) for value in self.values)}"


Dimension = Range | Choice


@dataclass(frozen=True, slots=True)
class Space:
    """The policy as it was given, and what is varied of it."""

    policy: PolicySpec
    dimensions: tuple[Dimension, ...]

    def at(self, point: Point) -> PolicySpec:
        """The policy there; at the origin it is as it was given, also where that lies outside of a range."""
        if point == self.origin:
            return self.policy
        return PolicySpec(self.policy.name, {**self.policy.params, **self.values(point)})

    def values(self, point: Point) -> dict[str, Value]:
        """What is varied, there."""
        return {
            dimension.name: dimension.value(place)
            for dimension, place in zip(self.dimensions, point, strict=True)
        }

    def accepts(self, point: Point) -> bool:
        """Whether the policy takes these values; some exclude each other."""
        return accepts_policy(self.at(point))

    @property
    def origin(self) -> Point:
        """Where the policy as it was given lies; parameters that it does not name have their defaults."""
        known = defaults(self.policy.name) | dict(self.policy.params)
        places = []
        for dimension in self.dimensions:
            value = known.get(dimension.name)
            if isinstance(dimension, Choice):
                places.append(0.5 / len(dimension.values) if value is None else dimension.place(value))
            else:
                places.append(0.5 if value is None else dimension.place(float(value)))
        return tuple(places)


def defaults(name: str) -> dict[str, Value]:
    """Parameters of a policy that have a default which is a number, a truth value or a text."""
    if name in registry.available():
        found = registry.defaults(name)
    else:
        takes = accepted(plugins.find(name))
        found = {key: default for key, (_, default) in takes.items() if key != "seed"}
    return {key: value for key, value in found.items() if isinstance(value, str | float | int | bool)}


def accepts_policy(policy: PolicySpec) -> bool:
    """Whether a policy can be made; others than ours say no by ValueError."""
    try:
        plugins.load_policy(policy.name, policy.params)
    except (ConfigError, ValueError):
        return False
    return True
