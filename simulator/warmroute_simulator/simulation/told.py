"""Engines tell the routers how much they have to do, as those of a live fleet do when they are asked.

Each router asks each worker by itself, every `every_s`. What it hears is what was so `lag_s` before, and it
knows no more than that it was so at some moment since. Nobody tells of a dead worker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from warmroute_simulator.simulation.kernel import Kernel
from warmroute_simulator.simulation.router import Router
from warmroute_simulator.simulation.worker import SimulatedWorker


@dataclass(frozen=True, slots=True)
class LoadSignals:
    """What routers hear of engines. Raises ValueError for times that are none."""

    every_s: float = 0.5
    """As the live router asks an engine that has requests of others."""
    lag_s: float = 0.5
    """Gauges are written once a step, and the answer takes its way."""
    tokens: bool = True
    """Whether engines tell how many prompt tokens wait, as SGLang does; vLLM tells requests alone."""

    def __post_init__(self) -> None:
        if not self.every_s > 0 or self.lag_s < 0:
            raise ValueError("load is asked for at intervals above 0, and what is heard is not of the future")


class LoadTold:
    """State: none but who is to be asked."""

    def __init__(
        self,
        signals: LoadSignals,
        workers: Sequence[SimulatedWorker],
        routers: Sequence[Router],
        kernel: Kernel,
        seed: int,
        goes_on: Callable[[], bool],
    ) -> None:
        self._signals = signals
        self._workers = workers
        self._routers = routers
        self._kernel = kernel
        self._chance = Random(f"load {seed}")
        self._goes_on = goes_on

    def begin(self) -> None:
        """Writes. Not all questions at one moment."""
        for pair in range(len(self._routers) * len(self._workers)):
            self._kernel.at(self._signals.every_s * self._chance.random(), self._ask, pair)

    def _ask(self, pair: int) -> None:
        """One question of one router to one worker; the next one follows."""
        router, worker = divmod(pair, len(self._workers))
        asked = self._workers[worker]
        if asked.alive:
            report, told_at = asked.load(tokens=self._signals.tokens), self._kernel.now

            def heard(number: int) -> None:
                self._routers[number].heard(asked.worker_id, report, told_at)

            self._kernel.at(told_at + self._signals.lag_s, heard, router)
        if self._goes_on():
            self._kernel.at(self._kernel.now + self._signals.every_s, self._ask, pair)
