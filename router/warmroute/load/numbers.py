"""What is a count in an engine's answer, and what is none.

Rules kept. Anything may stand there. What cannot be a count is not told; it is never taken for zero, and
never added to what is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Final

COUNT_MAX: Final = 10**9
"""Of requests and of tokens that wait: more is a wrong number, and would be believed for seconds."""

RANKS_MAX: Final = 1024
"""Data-parallel ranks behind one URL. The largest deployments have some hundred."""


def count(value: object) -> int | None:
    """A number of requests or tokens; None: it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= COUNT_MAX:  # nan compares with nothing
        return None
    return int(value)


def share(value: object) -> float | None:
    """A share of a whole, from 0 to 1; None: it is none. A little above 1 is rounding."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1.01:
        return None
    return min(1.0, float(value))


def decimal(text: str | bytes) -> float | None:
    """A number as text; None: it is none, or none that is finite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


def total(values: Iterable[int | None]) -> int | None:
    """The sum; None where there is nothing, or any of them is not told: the others alone would be too few."""
    result, any_told = 0, False
    for value in values:
        if value is None:
            return None
        result, any_told = result + value, True
    return min(result, COUNT_MAX) if any_told else None


def mean(values: Sequence[float | None]) -> float | None:
    """The mean; None as for `total`."""
    told = [value for value in values if value is not None]
    return sum(told) / len(told) if told and len(told) == len(values) else None


def both(first: int | None, second: int | None) -> int | None:
    """Their sum; None where either is not told."""
    return None if first is None or second is None else first + second
