"""One engine in virtual time: wakes it when something is due, and hands on what it tells.

Rules kept here. The engine is advanced at exactly the moments at which it has something to do, so an event
happens when it is handed on. A dead worker's engine is gone with all that was in it; a new process is a new
engine with an empty cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

from warmroute_policies.latency import LatencyCoefficients
from warmroute_policies.types import LoadReport
from warmroute_simulator.engine import EngineConfig, EngineRequest, Event, TreeCache, make_engine
from warmroute_simulator.engine.tree_cache import Change
from warmroute_simulator.simulation.kernel import Kernel
from warmroute_simulator.simulation.records import WorkerTotals
from warmroute_simulator.traces.prompts import PromptTree

Tell = Callable[[int, list[Event]], None]
"""Takes a worker's number and what happened there now."""

TellChanges = Callable[[int, list[Change]], None]
"""Takes a worker's number and how its cache changed now."""


class SimulatedWorker:
    """State: the engine, when it wants to be woken, what former engines of this worker did."""

    def __init__(
        self, number: int, worker_id: str, config: EngineConfig, tree: PromptTree, kernel: Kernel, tell: Tell
    ) -> None:
        self.number = number
        self.worker_id = worker_id
        self.config = config
        self.alive = True
        self.lives = 1
        """Processes so far."""
        self.factor = 1.0
        """How many times longer than usual its steps take."""
        self._tree = tree
        self._kernel = kernel
        self._tell = tell
        self._wake_at = inf
        self._past = WorkerTotals()
        self._tell_changes: TellChanges | None = None
        self.cache = TreeCache(config.capacity_blocks, config.block_tokens, tree.ends)
        self.engine = make_engine(config, self.cache)

    @property
    def capacity_tokens(self) -> int:
        return self.config.capacity_blocks * self.config.block_tokens

    def tell_changes(self, tell: TellChanges) -> None:
        """Writes. From now on somebody wants to know how the cache changes."""
        self._tell_changes = tell
        self.cache.changes = []

    def submit(self, row: int, prompt_tokens: int, output_tokens: int, path: list[int]) -> None:
        """Writes. The engine must be alive and able to hold the request."""
        now = self._kernel.now
        self._pump(now)
        self.engine.submit(EngineRequest(row, prompt_tokens, output_tokens, path), now)
        self._arm()

    def abort(self, row: int) -> None:
        """Writes. The request is given up; nothing happens when it has ended or the worker is dead."""
        if self.alive:
            self._pump(self._kernel.now)
            self.engine.abort(row)
            self._arm()

    def held_tokens(self, path: list[int], limit_tokens: int) -> int:
        """Reads. How much of a prompt's first `limit_tokens` is cached, in whole blocks."""
        block_tokens = self.config.block_tokens
        return self.cache.match(path, limit_tokens // block_tokens) * block_tokens

    def load(self, *, tokens: bool) -> LoadReport:
        """Reads. What the engine says that it has to do; `tokens`: with what waits of prompts."""
        engine = self.engine
        return LoadReport(
            engine.running + engine.waiting,
            engine.waiting,
            engine.waiting_tokens if tokens else None,
            engine.kv_usage,
        )

    def flush(self) -> None:
        """Writes. The engine forgets all that no running request uses."""
        self._pump(self._kernel.now)
        self.engine.reset_prefix_cache()
        self._told_of()
        self._arm()

    def die(self) -> None:
        """Writes. Requests in flight are lost; nobody is told, whoever waits must see for himself."""
        self._pump(self._kernel.now)
        self._past = self.totals()
        self.alive = False
        self._wake_at = inf

    def start(self) -> None:
        """Writes. A new process."""
        self.cache.let_go()
        self.cache = TreeCache(self.config.capacity_blocks, self.config.block_tokens, self._tree.ends)
        if self._tell_changes is not None:
            self.cache.changes = []
        self.engine = make_engine(self._paced(), self.cache)
        self.alive = True
        self.lives += 1

    def set_pace(self, factor: float) -> None:
        """Writes. Every step from now on takes `factor` times as long as it would."""
        self._pump(self._kernel.now)
        self.factor = factor
        self.engine.reconfigure(self._paced())
        self._arm()

    def totals(self) -> WorkerTotals:
        """Reads. What the worker did since the beginning, in all its lives."""
        if not self.alive:
            return self._past
        past, totals, block_tokens = self._past, self.engine.totals, self.config.block_tokens
        return WorkerTotals(
            past.requests + totals.requests,
            past.prompt_tokens + totals.prompt_tokens,
            past.cached_tokens + totals.cached_tokens,
            past.output_tokens + totals.output_tokens,
            past.evicted_tokens + self.cache.evictions * block_tokens,
            past.preemptions + totals.preemptions,
            past.busy_s + totals.busy_s,
        )

    def _paced(self) -> EngineConfig:
        usual, factor = self.config, self.factor
        if factor == 1.0:
            return usual
        return replace(
            usual,
            latency=_times(usual.latency, factor),
            step_overhead_s=usual.step_overhead_s * factor,
        )

    def _wake(self, _: int) -> None:
        now = self._kernel.now
        if now < self._wake_at:
            return  # asked for before something changed; the engine has been asked again since
        self._pump(now)
        self._arm()

    def _pump(self, now: float) -> None:
        if self.alive:
            events = self.engine.advance(now)
            if events:
                self._tell(self.number, events)
            self._told_of()

    def _told_of(self) -> None:
        changes = self.cache.changes
        if changes and self._tell_changes is not None:
            self.cache.changes = []
            self._tell_changes(self.number, changes)

    def _arm(self) -> None:
        at = self.engine.next_event_at() if self.alive else None
        if at is None:
            self._wake_at = inf
        elif at != self._wake_at:
            self._wake_at = at
            self._kernel.at(at, self._wake)


def _times(latency: LatencyCoefficients, factor: float) -> LatencyCoefficients:
    return LatencyCoefficients(
        w0=latency.w0 * factor,
        c0=latency.c0 * factor,
        c1=latency.c1 * factor,
        c2=latency.c2 * factor,
        d0=latency.d0 * factor,
        d1=latency.d1 * factor,
        d2=latency.d2 * factor,
    )
