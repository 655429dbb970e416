"""Runs of a study in several processes; what comes of them does not depend on how many there are.

Each process reads the trace for itself, once (a made-up trace once per seed: the last one is kept), and gets
one run at a time through a pipe of its own. Results are handed back in the order of what was asked for,
whoever is done first. With one process everything happens in this one.

Ctrl-C ends the processes, keeps the runs that are done and marks the pool `interrupted`; nothing is started
after that. A run that fails ends the study with `RunFailed`, which names it.

Processes are spawned, not forked, so that no lock or thread of this one is copied, and do not hear Ctrl-C
(`deaf`). A process whose parent is gone finds its pipe closed at the next sign of progress, and ends.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Final

from warmroute_policies.spelling import policy_text
from warmroute_simulator.report.progress import Progress
from warmroute_simulator.study.deaf import interrupts_held
from warmroute_simulator.study.task import (
    Advanced,
    Begun,
    Failed,
    Result,
    Runner,
    Task,
    TraceSource,
    serve,
)

_END_WITHIN_S: Final = 5.0
"""A process that was told to end and has not by then is killed."""


class RunFailed(Exception):
    """A run of a study raised or its process died. `usage`: what the user asked for is at fault."""

    def __init__(self, message: str, *, usage: bool) -> None:
        super().__init__(message)
        self.usage = usage


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    position: int | None = None
    """Of the run that it is at, in what was asked for."""


class Pool:
    """State: the processes once they are needed, and how far the study is.

    with Pool(source, processes=4, expected_runs=60) as pool:
        results = pool.run(tasks)
    """

    def __init__(self, source: TraceSource, processes: int, expected_runs: int | None = None) -> None:
        """`expected_runs`: for the time that is left; None: nobody knows. Raises ValueError."""
        if processes < 1:
            raise ValueError(f"a study needs at least one process, not {processes}")
        self.interrupted = False
        self._source = source
        self._processes = processes
        self._workers: list[_Worker] = []
        self._runner: Runner | None = None
        self._expected = expected_runs
        self._begun_runs = 0
        self._begun_requests = 0
        self._progress = Progress(None, "requests")

    def __enter__(self) -> Pool:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Writes. Ends the processes, whatever they are at."""
        self._end()
        self._progress.__exit__(kind, error, trace)

    def run(self, tasks: Sequence[Task]) -> list[Result | None]:
        """Writes. A result for each task, in their order; None for those that Ctrl-C came before.

        Raises RunFailed.
        """
        results: list[Result | None] = [None] * len(tasks)
        if self.interrupted:
            return results
        order = sorted(range(len(tasks)), key=lambda position: self._source.key(tasks[position].cell.seed))
        try:
            if self._processes == 1:
                self._run_here(tasks, order, results)
            else:
                self._run_there(tasks, order, results)
        except KeyboardInterrupt:
            self.interrupted = True
            self._end()
        return results

    # --- in this process ------------------------------------------------------------------------

    def _run_here(self, tasks: Sequence[Task], order: list[int], results: list[Result | None]) -> None:
        if self._runner is None:
            self._runner = Runner(self._source)
        for position in order:
            outcome = self._runner.play(tasks[position], self._begin, self._progress.advance)
            if isinstance(outcome, Failed):
                raise _named(tasks[position], outcome)
            if outcome.report.partial:
                self.interrupted = True
                return
            results[position] = outcome

    # --- in others ------------------------------------------------------------------------------

    def _run_there(self, tasks: Sequence[Task], order: list[int], results: list[Result | None]) -> None:
        waiting = list(reversed(order))
        while len(self._workers) < min(self._processes, len(tasks)):
            self._spawn()
        while True:
            for worker in self._workers:
                if worker.position is None and waiting:
                    worker.position = waiting.pop()
                    _send(worker, tasks[worker.position])
            busy = {worker.pipe: worker for worker in self._workers if worker.position is not None}
            if not busy:
                return
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                self._hear(busy[pipe], tasks, results)

    def _hear(self, worker: _Worker, tasks: Sequence[Task], results: list[Result | None]) -> None:
        """Writes. One message of a process."""
        assert worker.position is not None
        task = tasks[worker.position]
        try:
            message = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join(_END_WITHIN_S)
            raise RunFailed(f"{named(task)}: {_death(worker.process.exitcode)}", usage=False) from None
        match message:
            case Begun(requests):
                self._begin(requests)
            case Advanced(requests):
                self._progress.advance(requests)
            case Failed():
                raise _named(task, message)
            case Result():
                results[worker.position] = message
                worker.position = None

    def _spawn(self) -> None:
        context = multiprocessing.get_context("spawn")
        with interrupts_held():
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, self._source), daemon=True)
            process.start()
            theirs.close()  # or the pipe would not be seen to close when the process dies
            self._workers.append(_Worker(process, ours))

    def _end(self) -> None:
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in workers:
            worker.process.join(_END_WITHIN_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()

    # --- how far it is --------------------------------------------------------------------------

    def _begin(self, requests: int) -> None:
        """Writes. A run of so many requests begins; those to come are taken to be like the others."""
        self._begun_runs += 1
        self._begun_requests += requests
        if self._expected is not None:
            runs = max(self._expected, self._begun_runs)
            self._progress.total = round(self._begun_requests / self._begun_runs * runs)


def named(task: Task) -> str:
    """A run as people call it: "cache_aware, 8 workers, load 0.8, seed 3"."""
    cell, workers = task.cell, len(task.setup.run.fleet)
    load = "" if cell.load is None else f", load {cell.load:g}"
    return f"{policy_text(cell.policy)}, {workers} worker{'s' * (workers != 1)}{load}, seed {cell.seed}"


def _named(task: Task, failed: Failed) -> RunFailed:
    message = failed.message if failed.of_trace else f"{named(task)}: {failed.message}"
    return RunFailed(message, usage=failed.usage)


def _death(exit_code: int | None) -> str:
    if exit_code == -signal.SIGKILL:
        return "its process was killed, as Linux does when memory runs out; try fewer --processes"
    if exit_code is not None and exit_code < 0:
        return f"its process was ended by signal {-exit_code}"
    return f"its process ended by itself, with exit code {exit_code}"


def _send(worker: _Worker, task: Task) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it died; what is heard from it next says so
        worker.pipe.send(task)
