"""Tasks in, runs out, several at a time; what comes of a task does not depend on how many there are.

A run is handed on as soon as it is done. Processes are spawned and do not hear Ctrl-C: it is this process
that decides what becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from beliefs_lib.played import Played, Task, played
from routing_lib.progress import Progress
from warmroute_simulator.study.deaf import interrupts_held


def play(tasks: Sequence[Task], processes: int) -> Iterator[tuple[Task, Played]]:
    """Writes. The first that fails ends all. Raises what it raised, and KeyboardInterrupt."""
    progress = Progress()
    progress.expect(sum(task.source.requests for task in tasks))
    try:
        for task, run in _here(tasks) if processes == 1 else _elsewhere(tasks, processes):
            progress.tell(run.requests)
            yield task, run
    finally:
        progress.end()


def _here(tasks: Sequence[Task]) -> Iterator[tuple[Task, Played]]:
    for task in tasks:
        yield task, played(task)


def _elsewhere(tasks: Sequence[Task], processes: int) -> Iterator[tuple[Task, Played]]:
    executor = ProcessPoolExecutor(processes, get_context("spawn"))
    try:
        with interrupts_held():
            futures = {executor.submit(played, task): task for task in tasks}
        for done in as_completed(futures):
            yield futures[done], done.result()
    finally:
        executor.shutdown(cancel_futures=True)
