"""Looks at the fleet from time to time, as often as a plot needs it and no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from warmroute_simulator.simulation.kernel import Kernel
from warmroute_simulator.simulation.records import Sample
from warmroute_simulator.simulation.worker import SimulatedWorker

_MAX: Final = 480
"""As many as a plot is wide."""
_EVERY_S: Final = 1.0
"""At first: a run of a minute is plotted too."""


class Sampler:
    """State: the samples, and how long it waits between two of them: twice as long whenever there are too
    many, and half of them are dropped then."""

    def __init__(
        self, workers: Sequence[SimulatedWorker], kernel: Kernel, goes_on: Callable[[], bool]
    ) -> None:
        self.samples: list[Sample] = []
        self._workers = workers
        self._kernel = kernel
        self._goes_on = goes_on
        self._every_s = _EVERY_S

    def look(self, _: int = 0) -> None:
        """Writes. One sample now, and the next one later, for as long as the run goes on."""
        self.samples.append(self._sample())
        if len(self.samples) > _MAX:
            del self.samples[1::2]
            self._every_s *= 2
        if self._goes_on():
            self._kernel.at(self._kernel.now + self._every_s, self.look)

    def _sample(self) -> Sample:
        waiting, running, used, cached = [], [], [], []
        for worker in self._workers:
            engine, cache, alive = worker.engine, worker.cache, worker.alive
            waiting.append(engine.waiting if alive else 0)
            running.append(engine.running if alive else 0)
            used.append(cache.in_use / cache.capacity if alive else 0.0)
            cached.append((cache.capacity - cache.free) / cache.capacity if alive else 0.0)
        return Sample(self._kernel.now, tuple(waiting), tuple(running), tuple(used), tuple(cached))
