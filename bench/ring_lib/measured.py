"""One run: fresh engines, a fresh router, one workload from its first request to its last answer.

The router has a core to itself; the engines, the load generator and what a contestant needs beside its
router share another. A contestant that does not come up, or ends on the way, is a run with the reason.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import msgspec

from dataplane_lib import cost
from dataplane_lib.routers import CannotRun, free_port
from ring_lib import fleets
from ring_lib.asking import PATIENCE_S, Asked, Asker
from ring_lib.contestants import Contestant, Start
from ring_lib.fleets import Fleet, FleetFailed, Truth
from ring_lib.installing import Places
from ring_lib.playing import in_order, play
from ring_lib.processes import Process
from ring_lib.results import Key, Run
from ring_lib.texts import Script
from ring_lib.workloads import Workload
from warmroute_simulator.bounds.infinite import single_infinite
from warmroute_simulator.engine.config import DEFAULT_BLOCK_TOKENS
from warmroute_simulator.traces.trace import Trace

READY_WITHIN_S = 90.0
"""LiteLLM imports for ten seconds on an idle core; a first start compiles its modules too."""
WARM_UP_REQUESTS = 16
"""Small ones, one after the other: connections to all engines, first-use work of interpreters."""
PLAYS = 3
"""A play of sessions takes up to twice the time in which requests come; who needs more has broken down."""
_MB = 1 << 20


class NotReady(Exception):
    """A contestant did not come up; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where runs take place."""

    places: Places
    router_core: int
    other_core: int
    engines: tuple[str, ...]
    """URLs of a fleet that is there already; none: built-in engines."""
    model: str
    logs: Path | None
    """Where logs are kept; None: nowhere."""


async def measure(stage: Stage, contestant: Contestant, workload: Workload, key: Key, seed: int) -> Run:
    """Plays it. What keeps a contestant from running is in the run."""
    load_before = os.getloadavg()[0]
    trace = workload.trace(seed)
    with TemporaryDirectory(prefix="warmroute-ring-") as temporary:
        folder = Path(temporary)
        if stage.logs is not None:
            folder = stage.logs / f"{key.workload}-{contestant.name}-{key.round}".replace(" ", "_")
            folder.mkdir(parents=True, exist_ok=True)
        try:
            async with (
                _fleet(stage, folder, seed) as fleet,
                _router(stage, contestant, fleet, folder) as router,
            ):
                script = Script(trace, seed, fleet.model)
                run = Run(key, seed, hit_bound=_bound(trace), load_before=load_before)
                run = await _played(fleet, router, script, run, PLAYS * workload.seconds + PATIENCE_S)
        except (CannotRun, NotReady, FleetFailed, OSError) as error:
            return Run(key, seed, failed=str(error).strip() or repr(error), load_before=load_before)
    return run


def _bound(trace: Trace) -> float:
    return single_infinite(trace, in_order(trace), DEFAULT_BLOCK_TOKENS)


async def _played(fleet: Fleet, router: Process, script: Script, run: Run, within_s: float) -> Run:
    truth = await fleet.truth()
    router_ns, engines_ns = cost.cpu_ns(router.pid), cost.cpu_ns(fleet.pid) if fleet.pid else 0
    own_s, began = time.process_time(), time.perf_counter()
    asked = await play(script, router.port, within_s)
    wall_s, own_s = time.perf_counter() - began, time.process_time() - own_s
    router_ns = cost.cpu_ns(router.pid) - router_ns
    engines_ns = cost.cpu_ns(fleet.pid) - engines_ns if fleet.pid else 0
    memory = cost.memory_bytes(router.pid)
    if not router.alive:
        raise NotReady(f"it ended under load: {router.last_words()}")
    counted = [now.since(before) for now, before in zip(await fleet.truth(), truth, strict=True)]
    return msgspec.structs.replace(
        figures(run, asked, counted, wall_s),
        cpu_us=router_ns / len(asked) / 1000,
        memory_mb=memory / _MB,
        router_busy=router_ns / 1e9 / wall_s,
        engines_busy=engines_ns / 1e9 / wall_s,
        generator_busy=own_s / wall_s,
    )


def figures(run: Run, asked: Sequence[Asked], counted: Sequence[Truth], wall_s: float) -> Run:
    """Reads. The run with what clients and engines say of it."""
    whole = [one for one in asked if not one.error]
    ttft = sorted(one.ttft_s for one in whole) or [0.0]
    lags = sorted(one.lag_s for one in asked)
    prompt = sum(engine.prompt_tokens for engine in counted)
    computed = [engine.prompt_tokens - engine.cached_tokens for engine in counted]
    return msgspec.structs.replace(
        run,
        requests=len(asked),
        errors=dict(Counter(one.error for one in asked if one.error)),
        seconds=wall_s,
        hit_rate=sum(engine.cached_tokens for engine in counted) / prompt if prompt else 0.0,
        ttft_mean_s=fmean(ttft),
        ttft_p50_s=quantile(ttft, 0.50),
        ttft_p99_s=quantile(ttft, 0.99),
        e2e_mean_s=fmean(one.e2e_s for one in whole) if whole else 0.0,
        requests_per_s=len(whole) / wall_s,
        prompt_tokens_per_s=sum(one.prompt_tokens for one in whole) / wall_s,
        imbalance=max(computed) / fmean(computed) if sum(computed) else 1.0,
        lag_p99_s=quantile(lags, 0.99),
        reasons=dict(Counter(one.reason for one in whole if one.reason)),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Reads. Of sorted values."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@asynccontextmanager
async def _fleet(stage: Stage, folder: Path, seed: int) -> AsyncIterator[Fleet]:
    if stage.engines:
        yield await fleets.given(stage.engines, stage.model)
        return
    async with fleets.simulated(stage.other_core, folder / "engines.log", seed) as fleet:
        yield fleet


@asynccontextmanager
async def _router(stage: Stage, contestant: Contestant, fleet: Fleet, folder: Path) -> AsyncIterator[Process]:
    """Started, and ready: warm connections, no prompt of the workload seen."""
    start = Start(stage.places, free_port(), fleet.urls, fleet.model, folder)
    stage.places.prepare(contestant.program)
    more = contestant.environment(start)
    async with AsyncExitStack() as stack:
        if contestant.helpers is not None:
            log = folder / "helpers.log"
            stack.enter_context(Process(contestant.helpers(start), stage.other_core, log, more))
        command = contestant.command(start)
        router = stack.enter_context(
            Process(command, stage.router_core, folder / "router.log", more, start.port)
        )
        await _until_ready(router, fleet.model)
        yield router


async def _until_ready(router: Process, model: str) -> None:
    """Until small requests are answered, in a row. Raises NotReady."""
    asker, deadline, answered = Asker(router.port), time.monotonic() + READY_WITHIN_S, 0
    why = "it does not listen"
    while answered < WARM_UP_REQUESTS:
        text = f"Are you ready, and is this number {answered} of {WARM_UP_REQUESTS}?"
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 2}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        asked, _ = await asker.ask(msgspec.json.encode(body), "", time.perf_counter())
        if not asked.error:
            answered += 1
            continue
        answered, why = 0, asked.error
        if not router.alive or time.monotonic() > deadline:
            raise NotReady(f"{why}\n{router.last_words()}")
        await asyncio.sleep(0.2)
    asker.close()
