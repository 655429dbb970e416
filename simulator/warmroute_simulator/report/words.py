"""How numbers are written for people, the same way on a terminal and on a page.

Three significant digits say all that a simulation knows. A number that was not measured is a dash.
"""

from __future__ import annotations

from math import isfinite
from typing import Final

DASH: Final = "–"
MINUS: Final = "−"


def three_digits(value: float) -> str:
    """1234.5 → "1,234", 12.345 → "12.3", 0.012345 → "0.0123"."""
    size = abs(float(f"{value:.3g}"))  # 9.996 is written as 10.0
    if size >= 100 or value == 0:
        text = f"{value:,.0f}"
    elif size >= 10:
        text = f"{value:.1f}"
    elif size >= 1:
        text = f"{value:.2f}"
    else:
        text = f"{value:.3g}" if size >= 1e-4 else f"{value:.1g}"
    return text.replace("-", MINUS)


def seconds(value: float | None) -> str:
    """0.0123 → "12.3 ms", 0.92 → "0.92 s", 95 → "95.0 s", 300 → "5.00 min", 7200 → "2.00 h"."""
    if value is None or not isfinite(value):
        return DASH
    size = abs(value)
    if size >= 6000:
        return f"{three_digits(value / 3600)} h"
    if size >= 200:
        return f"{three_digits(value / 60)} min"
    if size >= 1 or value == 0:
        return f"{three_digits(value)} s"
    if size >= 0.1:
        return f"{value:.2f} s".replace("-", MINUS)
    return f"{three_digits(value * 1000)} ms"


def percent(share: float | None) -> str:
    """0.3412 → "34.1 %"."""
    if share is None or not isfinite(share):
        return DASH
    return f"{100 * share:.1f} %".replace("-", MINUS)


def points(value: float | None) -> str:
    """3.21 → "+3.2", with the sign that it has: a difference of two percentages."""
    if value is None or not isfinite(value):
        return DASH
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def count(value: float | None) -> str:
    """12031 → "12,031", 3456789 → "3.46M", 1.2e10 → "12.0G"."""
    if value is None or not isfinite(value):
        return DASH
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{three_digits(value / size)}{letter}"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}".replace("-", MINUS)
    return three_digits(value)


def ratio(value: float | None) -> str:
    """1.0934 → "1.09"."""
    return DASH if value is None or not isfinite(value) else f"{value:.2f}".replace("-", MINUS)
