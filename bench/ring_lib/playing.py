"""Plays one trace against one URL: open loop at the trace's times, or closed loop, each request after others.

A request that waits for one that failed is not asked: its prompt would hold an answer that never came. It is
counted as failed, so that a router which loses a session's first request has lost the session.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from time import perf_counter

from ring_lib.asking import Asked, Asker
from ring_lib.texts import Script
from warmroute_simulator.traces.trace import NOTHING, Trace

NOT_ASKED = "not asked, as a request before it failed"
OUT_OF_TIME = "no answer by the end of the play"


async def play(script: Script, port: int, within_s: float) -> list[Asked]:
    """What came of every row. `within_s` after the last one was sent, or in closed loop after the first,
    whatever has not ended has failed."""
    trace, asker = script.trace, Asker(port)
    loop = asyncio.get_running_loop()
    rows: list[asyncio.Task[Asked]] = []
    if not trace.closed_loop:
        bodies = [(row, script.body(row)) for row in in_order(trace)]
        began = _now()
        for row, body in bodies:
            due_at = began + trace.arrivals_s[row]
            await asyncio.sleep(max(0.0, due_at - perf_counter()))
            rows.append(loop.create_task(_one(asker, script, row, body, due_at)))
    else:
        began = _now()
        for row in range(len(trace)):
            rows.append(loop.create_task(_after(asker, script, row, rows, began)))
    done, late = await asyncio.wait(rows, timeout=within_s)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late)
    asker.close()
    return [task.result() if task in done else Asked(0.0, error=OUT_OF_TIME) for task in rows]


def in_order(trace: Trace) -> list[int]:
    """Reads. Rows by their times; in closed loop, sessions by their starts."""
    return sorted(range(len(trace)), key=trace.arrivals_s.__getitem__)


def _now() -> float:
    """Reads the clock. What lives by now is never looked through again: a recording is a million objects, and
    the collector would stop the generator for a quarter of a second."""
    gc.collect()
    gc.freeze()
    return perf_counter()


async def _one(asker: Asker, script: Script, row: int, body: bytes, due_at: float) -> Asked:
    asked, text = await asker.ask(body, script.session(row), due_at)
    if script.wants(row):
        script.answer(row, text)
    return asked


async def _after(
    asker: Asker, script: Script, row: int, rows: Sequence[asyncio.Task[Asked]], began: float
) -> Asked:
    """Waits for what must have ended, then for as long as the client thinks."""
    trace = script.trace
    ready_at = began + trace.arrivals_s[row]
    for former in before(trace, row):
        if (await asyncio.shield(rows[former])).error:
            return Asked(0.0, error=NOT_ASKED)
        ready_at = perf_counter()
    due_at = ready_at + trace.think_s[row]
    await asyncio.sleep(max(0.0, due_at - perf_counter()))
    return await _one(asker, script, row, script.body(row), due_at)


def before(trace: Trace, row: int) -> tuple[int, ...]:
    """Reads. The rows that must have ended."""
    first = trace.after[row]
    return () if first == NOTHING else (first, *trace.also_after.get(row, ()))
