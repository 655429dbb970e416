"""What happens to the fleet while a trace runs: workers die, start, slow down, lose their cache, join, drain.

    TIME:KIND:WORKER[:NUMBER]      600:die:2   660:start:2   300:slow:0:2.5   10%:flush:1

TIME is in seconds of virtual time, or in per cent of the trace's length; of a closed-loop trace, whose length
depends on who serves it, of the same run without the scenario. Ready-made scenarios are
lists of these.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from math import isfinite

from warmroute_policies.parameters import suggestion


class Kind(enum.StrEnum):
    """What may happen to a worker."""

    DIE = "die"
    """The process ends with all its requests; routers learn of it by failures and by health checks."""
    START = "start"
    """A new process with an empty cache. A worker whose first happening is a start is absent until then."""
    SLOW = "slow"
    """Every step takes NUMBER times as long; 1 ends it."""
    FLUSH = "flush"
    """The engine's prefix cache is emptied; no router is told."""
    DRAIN = "drain"
    """Routers send it nothing new."""
    UNDRAIN = "undrain"
    UNHEALTHY = "unhealthy"
    """Its health checks fail although it works: routers send it nothing new."""
    HEALTHY = "healthy"


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happens to one worker."""

    kind: Kind
    worker: int
    at_s: float = 0.0
    at_share: float | None = None
    """Share of the trace's length, 0 to 1, in place of `at_s`."""
    factor: float = 1.0

    @property
    def text(self) -> str:
        """What `parse_happening` reads."""
        time = f"{self.at_s:g}" if self.at_share is None else f"{100 * self.at_share:g}%"
        factor = f":{self.factor:g}" if self.kind is Kind.SLOW else ""
        return f"{time}:{self.kind}:{self.worker}{factor}"

    def moment(self, span_s: float) -> float:
        """Seconds since the beginning, for a trace of that length."""
        return self.at_s if self.at_share is None else self.at_share * span_s


SCENARIOS: dict[str, tuple[str, tuple[str, ...]]] = {
    "steady": ("nothing happens; caches are empty at first, as always", ()),
    "scale-up": ("the last worker joins at half time, empty", ("50%:start:-1",)),
    "cache-flush": ("every cache is emptied at half time", ("50%:flush:*",)),
    "restart": ("worker 0 dies at 40 % and is back a tenth later, empty", ("40%:die:0", "50%:start:0")),
    "death": ("worker 0 dies at half time for good", ("50%:die:0",)),
    "slow-worker": ("worker 0 takes twice as long in the middle third", ("33%:slow:0:2", "67%:slow:0:1")),
    "drain": ("worker 0 is drained at half time", ("50%:drain:0",)),
}
"""Name to what it is and what happens; −1 is the last worker, `*` are all of them."""


def parse_happening(text: str, workers: int) -> list[Happening]:
    """One happening, or one for each worker. Raises ValueError that says what was expected."""
    parts = text.split(":")
    if len(parts) not in (3, 4):
        raise ValueError(f"{text!r}: expected TIME:KIND:WORKER or TIME:KIND:WORKER:NUMBER, as in 600:die:2")
    time, kind_name, worker_name = parts[0], parts[1], parts[2]
    try:
        kind = Kind(kind_name)
    except ValueError:
        raise ValueError(
            f"{text!r}: nothing called `{kind_name}` happens{suggestion(kind_name, list(Kind))}"
        ) from None
    factor = 1.0
    if (kind is Kind.SLOW) != (len(parts) == 4):
        raise ValueError(f"{text!r}: `slow` needs a number, as in 300:slow:0:2.5, and nothing else takes one")
    if kind is Kind.SLOW:
        factor = _number(text, parts[3])
        if factor <= 0:
            raise ValueError(f"{text!r}: how many times slower must be above 0")
    moment = _number(text, time.removesuffix("%"))
    if moment < 0:
        raise ValueError(f"{text!r}: the time must not be negative")
    share = moment / 100 if time.endswith("%") else None
    return [
        Happening(kind, worker, 0.0 if share is not None else moment, share, factor)
        for worker in _workers(text, worker_name, workers)
    ]


def scenario(name: str, workers: int) -> list[Happening]:
    """A ready-made scenario for a fleet of that size. Raises ValueError with the nearest name."""
    if name not in SCENARIOS:
        raise ValueError(f"there is no scenario `{name}`{suggestion(name, SCENARIOS)}")
    return [happening for text in SCENARIOS[name][1] for happening in parse_happening(text, workers)]


def _workers(text: str, name: str, workers: int) -> list[int]:
    if name == "*":
        return list(range(workers))
    try:
        number = int(name)
    except ValueError:
        raise ValueError(f"{text!r}: the worker must be a number from 0 on, or *, not {name!r}") from None
    if not -workers <= number < workers:
        raise ValueError(f"{text!r}: there is no worker {number}; the fleet has {workers}, from 0 on")
    return [number % workers]


def _number(text: str, digits: str) -> float:
    try:
        number = float(digits)
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise ValueError(f"{text!r}: expected a number, not {digits!r}")
    return number
