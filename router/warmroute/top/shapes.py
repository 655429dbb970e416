"""Bars, sparklines, and numbers in few characters."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

_LEVELS = "▁▂▃▄▅▆▇█"
_PARTS = " ▏▎▍▌▋▊▉█"

NONE = "–"
"""What is not known."""


def bar(share: float, width: int, style: str = "green") -> Text:
    """A bar of `width` characters, filled from the left; beyond 1 it is full."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    drawn = "█" * full + (_PARTS[rest] if rest else "")
    return Text(drawn.ljust(width), style=style, no_wrap=True)


def spark(points: Sequence[float | None], width: int, top: float | None = None, style: str = "") -> Text:
    """One character per value, the newest on the right, a dot where nothing came; with more values than
    `width`, the older ones are left out. `top` is the full height; None: the largest value's."""
    shown = list(points)[-width:]
    highest = top if top is not None else max((value for value in shown if value is not None), default=0.0)
    text = Text(" " * (width - len(shown)), no_wrap=True)
    for value in shown:
        if value is None:
            text.append("·", style="dim")
        else:
            level = round(value / highest * (len(_LEVELS) - 1)) if highest > 0 else 0
            text.append(_LEVELS[min(len(_LEVELS) - 1, max(0, level))], style=style)
    return text


def percent(share: float | None) -> str:
    """`87 %`"""
    return NONE if share is None else f"{share * 100:.0f} %"


def count(value: float | None) -> str:
    """At most five characters: `950`, `9.5k`, `12M`."""
    if value is None:
        return NONE
    for limit, unit in ((1e3, ""), (1e6, "k"), (1e9, "M"), (1e12, "G"), (1e15, "T")):
        if abs(value) < limit * 0.9995:
            scaled = value / (limit / 1e3)
            return f"{scaled:.1f}{unit}" if unit and scaled < 9.95 else f"{scaled:.0f}{unit}"
    return f"{value:.0e}"


def rate(value: float | None) -> str:
    """A number per second: small ones with a decimal."""
    if value is None:
        return NONE
    return f"{value:.1f}" if value < 9.95 else count(value)


def seconds(value: float | None) -> str:
    """`19 ms`, `1.2 s`, `3 min`, `5 h`, `2 d`."""
    if value is None:
        return NONE
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 9.95:
        return f"{value:.1f} s"
    for limit, length, unit in ((119.5, 1, "s"), (7170.0, 60, "min"), (172_000.0, 3600, "h")):
        if value < limit:
            return f"{value / length:.0f} {unit}"
    return f"{value / 86_400:.0f} d"


def short_url(url: str | None) -> str:
    """Without its scheme: all workers' are the same."""
    return NONE if url is None else url.removeprefix("http://")


def plain(text: str) -> str:
    """What comes from clients cannot move the cursor."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
