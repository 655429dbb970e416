"""Axes of plots: where a value stands between the two ends, and which values are worth a label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from statistics import NormalDist
from typing import Final

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400
_CLOCK_STEPS: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(step * _MINUTE for step in (1, 2, 5, 10, 15, 30)),
    *(step * _HOUR for step in (1, 2, 3, 6, 12, 24)),
)
"""Seconds between ticks that people count in."""
_LOG_TICKS: Final = 7
"""At most; more would touch."""


@dataclass(frozen=True, slots=True)
class Axis:
    """`place` gives 0 at one end and 1 at the other."""

    place: Callable[[float], float]
    ticks: Sequence[tuple[float, str]]
    label: str = ""


def linear(low: float, high: float, text: Callable[[float], str], label: str = "", ticks: int = 5) -> Axis:
    """From `low` to `high`, or a little further: ends are ticks, and these are round."""
    step = _round_step((high - low) / ticks) if high > low else 1.0
    first = floor(low / step + 1e-9)
    last = max(ceil(high / step - 1e-9), first + 1)
    values = [position * step for position in range(first, last + 1)]
    start, end = values[0], values[-1]
    return Axis(
        lambda value: (value - start) / (end - start), [(value, text(value)) for value in values], label
    )


def clock(high_s: float, label: str = "", ticks: int = 6) -> Axis:
    """Seconds from 0 to `high_s`, labelled in steps of a clock; it ends where the data end."""
    high_s = max(high_s, 1e-9)
    step = next((step for step in _CLOCK_STEPS if high_s / step <= ticks), None)
    if step is None:
        step = ceil(high_s / ticks / _DAY) * _DAY
    values = [position * step for position in range(int(high_s / step + 1e-9) + 1)]
    return Axis(lambda value: value / high_s, [(value, clock_text(value)) for value in values], label)


def logarithmic(low: float, high: float, text: Callable[[float], str], label: str = "") -> Axis:
    """Both above 0. Ticks at powers of ten, and at 2 and 5 times these where that are not many."""
    start, end = log10(low), log10(max(high, low))
    if end - start < 0.5:  # nothing to spread: half a decade around it
        start, end = (start + end) / 2 - 0.25, (start + end) / 2 + 0.25
    factors = (1, 2, 5) if end - start < 2.2 else (1,)
    values = [
        factor * 10.0**power
        for power in range(floor(start), ceil(end) + 1)
        for factor in factors
        if start - 1e-9 <= power + log10(factor) <= end + 1e-9
    ]
    values = values[:: ceil(len(values) / _LOG_TICKS) or 1]
    return Axis(
        lambda value: (log10(max(value, 1e-12)) - start) / (end - start),
        [(value, text(value)) for value in values],
        label,
    )


def normal(low: float, high: float, ticks: Sequence[tuple[float, str]], label: str = "") -> Axis:
    """Shares between 0 and 1, the ends stretched as a normal distribution thins out there."""
    inverse = NormalDist().inv_cdf
    bottom, top = inverse(low), inverse(high)
    return Axis(lambda value: (inverse(value) - bottom) / (top - bottom), ticks, label)


def clock_text(seconds: float) -> str:
    """5400 → "1.5 h"."""
    if seconds == 0:
        return "0"
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def short_seconds(seconds: float) -> str:
    """0.02 → "20 ms", 100 → "100 s"."""
    return f"{seconds:g} s" if seconds >= 1 or seconds == 0 else f"{1000 * seconds:g} ms"


def plain(value: float) -> str:
    """2.0 → "2"."""
    return f"{value:,.6g}"


def percent(share: float) -> str:
    """0.05 → "5 %"."""
    return f"{100 * share:.3g} %"


def _round_step(step: float) -> float:
    """1, 2 or 5 times a power of ten, not below `step`."""
    power = 10.0 ** floor(log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))
