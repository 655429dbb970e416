"""What a peer's command line looks like: which flags it has, how many values each takes, and its defaults.

Facts about other programs, written down once: what the router does with a flag stands in `answers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spelling:
    """How one peer writes one flag."""

    values: str
    """How many follow it: `0`, `1`, `*` (any number) or `+` (at least one)."""
    grows: bool
    """Every use adds to the ones before; else the last use counts."""
    default: str
    """As text; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One program and its flags."""

    name: str
    version: str
    flags: Mapping[str, Spelling]


def spellings(text: str) -> dict[str, Spelling]:
    """A line per flag: name, values (an ellipsis behind them where uses add up), default (`-` for none)."""
    found = {}
    for line in text.splitlines():
        flag, values, default = line.split(" ", 2)
        found[flag] = Spelling(values[0], values.endswith("…"), "" if default == "-" else default)
    return found
