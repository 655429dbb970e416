"""How long things are: prompts and answers in tokens, conversations in turns, pauses in seconds.

One textual form for all of them, so that a distribution fits into a flag and into a YAML file:

    6000                          always that
    200-8000                      every value between alike
    lognormal(2000,0.8,200,8000)  median, sigma of the logarithm, least, most; 2000·e^±0.8 are 16th and 84th
                                  percentile. What is drawn outside the bounds becomes the bound.

There is always a largest value: a limit such as an engine's context can be checked before anything is drawn.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import erf, exp, inf, isfinite, log, sqrt
from random import Random
from typing import ClassVar, Final, Self

from warmroute_policies.errors import ConfigError

_NUMBER: Final = r"(\d+(?:\.\d+)?|\.\d+)"
_CONSTANT: Final = re.compile(_NUMBER)
_UNIFORM: Final = re.compile(rf"{_NUMBER}\s*-\s*{_NUMBER}")
_LOGNORMAL: Final = re.compile(rf"lognormal\(\s*{_NUMBER}\s*" + rf",\s*{_NUMBER}\s*" * 3 + r"\)")

# The longest thing that can be asked for. No model's window is longer, and the sum of a hundred such texts
# still fits the prompt tree's 32-bit columns.
LONGEST: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class _Spread:
    """Uniform between `low` and `high` when `sigma` is 0, else lognormal with these as bounds."""

    FORMS: ClassVar[str] = "6000, 200-8000 or lognormal(MEDIAN,SIGMA,LOW,HIGH)"

    low: float
    high: float
    median: float = 0.0
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if not (self.low <= self.high and isfinite(self.high)):
            raise ConfigError(f"{self} has a largest value below its smallest")
        if self.high > LONGEST:
            raise ConfigError(f"{self} exceeds {LONGEST}")
        if self.sigma and not self.low <= self.median <= self.high:
            raise ConfigError(f"{self} has its median outside its bounds")

    @classmethod
    def parse(cls, given: object) -> Self:
        """From its textual form, or a number. Raises ConfigError that says which forms there are."""
        if isinstance(given, cls):
            return given
        text = given.strip() if isinstance(given, str) else ""
        if isinstance(given, (int, float)) and not isinstance(given, bool):
            text = str(given)
        if match := _CONSTANT.fullmatch(text):
            return cls(float(text), float(text))
        if match := _UNIFORM.fullmatch(text):
            return cls(float(match[1]), float(match[2]))
        if match := _LOGNORMAL.fullmatch(text):
            median, sigma, low, high = map(float, match.groups())
            if sigma == 0:
                raise ConfigError(f"{text} has a sigma of 0; write {median:g}")
            return cls(low, high, median, sigma)
        raise ConfigError(f"expected {cls.FORMS}, not {given!r}")

    def __str__(self) -> str:
        if self.sigma:
            return f"lognormal({self.median:.12g},{self.sigma:.12g},{self.low:.12g},{self.high:.12g})"
        return f"{self.low:.12g}" if self.low == self.high else f"{self.low:.12g}-{self.high:.12g}"

    @property
    def mean(self) -> float:
        """Expected value, of the continuous distribution where whole numbers are drawn."""
        if not self.sigma:
            return (self.low + self.high) / 2
        # E[max(low, min(high, X))]: the mass beyond each bound sits on it, between them stands the partial
        # expectation of a lognormal variable.
        mu, sigma = log(self.median), self.sigma
        low = (log(self.low) - mu) / sigma if self.low else -inf
        high = (log(self.high) - mu) / sigma
        inside = exp(mu + sigma * sigma / 2) * (_below(high - sigma) - _below(low - sigma))
        return self.low * _below(low) + self.high * (1 - _below(high)) + inside

    def _real(self, chance: Random) -> float:
        if self.sigma:
            value = self.median * exp(self.sigma * chance.gauss(0.0, 1.0))
            return self.low if value < self.low else min(value, self.high)
        return self.low + (self.high - self.low) * chance.random()


class Lengths(_Spread):
    """Whole numbers from 1 on: tokens, turns, steps."""

    __slots__ = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low < 1 or self.low % 1 or self.high % 1:
            raise ConfigError(f"{self} must lie between whole numbers from 1 on")

    @property
    def most(self) -> int:
        return int(self.high)

    def draw(self, chance: Random) -> int:
        """Writes `chance` alone. One length."""
        if self.low == self.high:
            return int(self.low)
        if self.sigma:
            return int(self._real(chance) + 0.5)
        return int(self.low + (self.high - self.low + 1) * chance.random())


class Durations(_Spread):
    """Seconds, from 0 on."""

    __slots__ = ()

    def draw(self, chance: Random) -> float:
        """Writes `chance` alone. One duration."""
        return self.low if self.low == self.high else self._real(chance)


def _below(z: float) -> float:
    """Share of a standard normal variable below z."""
    return (1 + erf(z / sqrt(2))) / 2
