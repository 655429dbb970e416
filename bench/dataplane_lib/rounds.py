"""The scenarios, and the order in which everything runs.

In each round every router is started afresh, in another order than the round before, and the scenarios run
against it; a round's figures are then compared with each other, because a shared machine drifts by 10 to
20 % within minutes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from dataplane_lib import cost
from dataplane_lib.bodies import Requests
from dataplane_lib.check import check, wait_until_ready
from dataplane_lib.load import Load, WrongAnswer, latencies_s
from dataplane_lib.routers import Running, Target

CONNECTIONS = 16
PACED_STREAMS, PACED_GAP_MS = 200, 10
LATENCY_GAP_S = 0.002
WARM_UP_S = 0.4
ENDLESS = 10**9

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    sizes_kb: Sequence[int]
    rounds: int
    seconds: float
    """Of each scenario."""
    idle_streams: int


class Bench:
    """State: refused routers, and notes on those that are compared."""

    def __init__(self, plan: Plan, worker_ports: Sequence[int], router_core: int, folder: Path) -> None:
        self.refused: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self._plan, self._workers, self._core, self._folder = plan, worker_ports, router_core, folder

    async def run(self, targets: Sequence[Target], say: Callable[[str], None]) -> list[dict[str, Figures]]:
        """One entry per round: figures by router. A router that answers wrongly once is left out for good."""
        rounds = []
        for number in range(self._plan.rounds):
            turn = number % len(targets)
            figures: dict[str, Figures] = {}
            for target in [*targets[turn:], *targets[:turn]]:
                if target.name in self.refused:
                    continue
                say(f"round {number + 1}/{self._plan.rounds}: {target.name}")
                try:
                    figures[target.name] = await self._measure(target, first=number == 0)
                except WrongAnswer as error:
                    self.refused[target.name] = str(error)
                    say(f"  {target.name} is not timed: {error}")
            rounds.append(figures)
        return rounds

    async def _measure(self, target: Target, *, first: bool) -> Figures:
        folder = self._folder / target.name
        folder.mkdir(exist_ok=True)
        backends = [f"http://127.0.0.1:{port}" for port in self._workers]
        plan, figures = self._plan, Figures()
        with Running(target, self._core, backends, folder) as router:
            await wait_until_ready(router)
            if first and not await check(router, self._workers[0], plan.sizes_kb):
                self.notes[target.name] = "writes request bodies anew"
            idle_kb = await self._idle(
                router
            )  # first: later its streams would live in memory freed by others
            for size in plan.sizes_kb:
                figures[f"µs per request, {size} KB"] = await self._requests(router, size)
            figures["µs per SSE chunk"] = await self._chunks(router)
            figures["added p50, µs"] = await self._added_latency(router)
            figures["KB per idle stream"] = idle_kb
        return figures

    async def _requests(self, router: Running, size_kb: int) -> float:
        load = Load()
        requests = Requests(size_kb, seed=os.getpid())
        await load.closed_loop(router.port, CONNECTIONS, requests)
        return await self._cost_us(load, router, lambda: load.answers)

    async def _chunks(self, router: Running) -> float:
        load = Load()
        await load.streams(router.port, PACED_STREAMS, Requests(1, f"{ENDLESS}/{PACED_GAP_MS}"))
        return await self._cost_us(load, router, lambda: load.events)

    async def _cost_us(self, load: Load, router: Running, count: Callable[[], int]) -> float:
        """CPU time of the router per thing counted, once the load runs evenly."""
        await asyncio.sleep(WARM_UP_S)
        cpu_ns, before = cost.cpu_ns(router.pid), count()
        await asyncio.sleep(self._plan.seconds)
        cpu_ns, done = cost.cpu_ns(router.pid) - cpu_ns, count() - before
        load.check()
        load.stop()
        if done == 0:
            raise WrongAnswer("nothing came back under load")
        return cpu_ns / done / 1000

    async def _added_latency(self, router: Running) -> float:
        """Median through the router less median of the worker alone, measured in turns."""
        through, direct, requests = [], [], Requests(1)
        for _ in range(4):
            through += await latencies_s(router.port, self._plan.seconds / 4, LATENCY_GAP_S, requests)
            direct += await latencies_s(self._workers[0], self._plan.seconds / 4, LATENCY_GAP_S, requests)
        return (median(through) - median(direct)) * 1e6

    async def _idle(self, router: Running) -> float:
        """Memory that open streams add, each with a chunk a second."""
        before = cost.memory_bytes(router.pid)
        load = Load()
        await load.streams(router.port, self._plan.idle_streams, Requests(1, f"{ENDLESS}/1000"))
        await asyncio.sleep(max(2.0, self._plan.seconds))
        load.check()
        grown = cost.memory_bytes(router.pid) - before
        if load.events < self._plan.idle_streams:
            raise WrongAnswer("a stream did not begin")
        load.stop()
        return grown / self._plan.idle_streams / 1000
