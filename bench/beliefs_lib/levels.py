"""Where and how routers are made to believe what is not so: places, their loads, and what is wrong.

    load of a place = 0.8 · its knee

Knees are numbers here and are not searched for: at a fixed load two versions of a policy meet the same
requests, and a change of the knee does not hide a change of what is measured.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

from routing_lib.factors import BUSY, Place
from warmroute_simulator.simulation.config import Spread
from warmroute_simulator.simulation.told import LoadSignals

KNEES: Final = {
    Place("agentic", "8", 1_000_000): 2.05,
    Place("chat_agents", "8", 1_000_000): 2.05,
    Place("shared_prefix", "8", 250_000): 1.40,
    Place("mooncake", "8", 1_000_000): 0.825,
}
"""By `routing_lib.knees.followed` with `cache_aware` of version 0.1.0 and seed 0: the largest load at which
nine of ten requests keep the trace's limits."""

SEEDS: Final = 3
QUICK_SEEDS: Final = 2
"""The fewest that have an interval."""

CAPACITIES: Final = (1 / 4, 1 / 2, 2.0, 4.0)
"""Believed over true. Half is what a second model beside the first leaves, a quarter or four times what a
host tier makes that is counted wrongly."""
PRICES: Final = (1 / 3, 3.0)
"""An L40S takes 3.5 times as long as an H100: the preset of the wrong one."""
REPLICAS: Final = (2, 4)
SIGNALS: Final = {
    LoadSignals(): ", load told",
    LoadSignals(tokens=False): ", load told without tokens",
}
"""As SGLang tells it, and as vLLM does."""

LOSSES: Final = ((0.35, 0), (0.50, 2), (0.65, 4), (0.80, 6))
"""Share of the requests that have come, and the worker that loses its cache then. Each is watched by itself,
so that one run tells of four; the first comes when caches are full, the last with a fifth of the requests to
notice it by. Not a share of time: sessions in closed loop end with hours in which hardly any is alive."""

START_S: Final = 1.0
"""A supervisor starts the process again at once: the less time a router has to see that it was away, the
harder. An engine that loads a model takes a minute."""

_SIGNS: Final = {1 / 4: "¼", 1 / 3: "⅓", 1 / 2: "½"}


class Loss(enum.Enum):
    """How a worker loses its cache."""

    RESTART = enum.auto()
    """The process ends with all its requests, and a new one begins."""
    FLUSH = enum.auto()
    """The engine forgets its idle prefixes and nobody is told; requests that run keep theirs."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What is wrong in a run."""

    name: str
    capacity_error: float = 1.0
    price_error: float = 1.0
    routers: int = 1
    spread: Spread = Spread.RANDOM
    signals: LoadSignals | None = None
    """What engines tell routers of their load."""
    loss: Loss | None = None
    """How workers lose their caches."""
    capacity_feedback: bool = True
    learn_prices: bool = True
    """As in `BalancerConfig`: whether routers correct what they believe."""
    lopsided: bool = False
    """Half of the workers are the first router's alone."""


TRUE: Final = Variant("nothing is wrong")
RESTARTED: Final = Variant("workers restarted", loss=Loss.RESTART)
FLUSHED: Final = Variant("caches emptied", loss=Loss.FLUSH)


def capacity(error: float) -> Variant:
    """Reads. Workers declare so many times what they hold."""
    return Variant(f"capacity ×{factor(error)}", capacity_error=error)


def price(error: float) -> Variant:
    """Reads. Routers think that prefill takes so many times as long."""
    return Variant(f"price ×{factor(error)}", price_error=error)


def replicas(routers: int, spread: Spread, signals: LoadSignals | None = None) -> Variant:
    """Reads. So many routers, none of which knows of the others, but for what engines tell."""
    heard = "" if signals is None else SIGNALS[signals]
    return Variant(f"{routers} routers, by {spread.value}{heard}", 1.0, 1.0, routers, spread, signals)


def lopsided(signals: LoadSignals | None = None) -> Variant:
    """Reads. Two routers, of which one has half of the workers for itself and need not use the others."""
    heard = "" if signals is None else SIGNALS[signals]
    name = f"2 routers, one for half of the workers{heard}"
    return Variant(name, routers=2, signals=signals, lopsided=True)


def variants(quick: bool) -> list[Variant]:
    """Reads. The true one first. Quick: the ends of each scale, where most is to be seen."""
    capacities = CAPACITIES[:: len(CAPACITIES) - 1] if quick else CAPACITIES
    return [
        TRUE,
        *map(capacity, capacities),
        *map(price, PRICES),
        RESTARTED,
        FLUSHED,
        *_of_replicas(quick),
    ]


def signal_variants(quick: bool) -> list[Variant]:
    """Reads. Those that tell what load signals are worth, the true one first."""
    return [TRUE, *map(lopsided, (None, *SIGNALS)), *_of_replicas(quick)]


def _of_replicas(quick: bool) -> Iterator[Variant]:
    counts = REPLICAS[-1:] if quick else REPLICAS
    for count, spread, signals in product(counts, (Spread.SESSION, Spread.RANDOM), (None, *SIGNALS)):
        yield replicas(count, spread, signals)


def load_of(place: Place) -> float:
    """Reads. In the unit of `simulation.load`."""
    return BUSY * KNEES[place]


def factor(error: float) -> str:
    """Reads. 0.25 → "¼", 4.0 → "4"."""
    return _SIGNS.get(error, f"{error:g}")
