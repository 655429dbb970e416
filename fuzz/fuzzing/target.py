"""What a target is: something that plays a case from a chance, and says when the product did wrong.

A case is known by the run's seed and its own number, so that any of them can be played again alone.
"""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class Finding(Exception):
    """The product did what it must not. `data` is what it was given."""

    def __init__(self, text: str, data: bytes = b"") -> None:
        self.data = data
        super().__init__(text)


class Target(Protocol):
    """One part of the product."""

    def once(self, chance: random.Random) -> int:
        """Plays one case; how many inputs were tried. Raises Finding."""
        ...

    def settle(self) -> None:
        """Looks at what is left behind. Raises Finding."""
        ...


class Opens(Protocol):
    """Makes a target, which lives as long as the context; what it writes goes to a folder."""

    def __call__(self, folder: Path) -> contextlib.AbstractContextManager[Target]:
        """The target."""
        ...


@dataclass
class Outcome:
    """What a run brought."""

    cases: int = 0
    inputs: int = 0
    wall_s: float = 0.0
    findings: list[tuple[int, Finding]] = field(default_factory=list)
    """With the numbers of their cases."""


# Between two looks at what is left behind; a look takes a few requests.
_SETTLE_EVERY = 50

# Enough to see what is wrong; the same fault is found again and again.
_FINDINGS_MAX = 20


def chance_of(seed: int, number: int) -> random.Random:
    """The chance of one case."""
    return random.Random(f"{seed}/{number}")


def run(target: Target, seed: int, seconds: float, only: int | None = None) -> Outcome:
    """Plays cases for so long, or one of them alone."""
    outcome, began = Outcome(), time.monotonic()
    numbers = iter(range(1 << 62)) if only is None else iter((only,))
    for number in numbers:
        if only is None and time.monotonic() > began + seconds:
            break
        try:
            outcome.inputs += target.once(chance_of(seed, number))
            outcome.cases += 1
            if outcome.cases % _SETTLE_EVERY == 0:
                target.settle()
        except Finding as finding:
            outcome.findings.append((number, finding))
            if len(outcome.findings) >= _FINDINGS_MAX:
                break
    try:
        target.settle()
    except Finding as finding:
        outcome.findings.append((-1, finding))
    outcome.wall_s = time.monotonic() - began
    return outcome
