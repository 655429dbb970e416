"""Orders in, runs out, in several processes; what comes of an order does not depend on how many there are.

Each process holds one trace and is given orders of that trace and seed as long as there are any, then those
of the trace that has most left: a recording is read once for each process and not once for each run. A run
is handed on as soon as it is done, so that an interruption loses those under way and no other.

Processes are spawned, not forked, and do not hear Ctrl-C: it is this process that decides what becomes of it.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Final

from routing_lib.orders import Order, played
from routing_lib.store import Run
from warmroute_simulator.simulation.collector import rare_collections
from warmroute_simulator.study.deaf import interrupts_held
from warmroute_simulator.traces.trace import Trace

_END_WITHIN_S: Final = 5.0
"""A process that was told to end and has not by then is killed."""

Group = tuple[str, int]
"""Orders that are played from one trace: its text, and the seed's part in it."""


class RunFailed(Exception):
    """A run raised, or its process died; the message names the run."""


@dataclass(frozen=True, slots=True)
class Failed:
    """What a process tells of a run that raised."""

    message: str


class Player:
    """State: the trace that was read last."""

    def __init__(self, digest: str) -> None:
        self._digest = digest
        self._group: Group | None = None
        self._trace: Trace | None = None

    def play(self, order: Order) -> Run | Failed:
        """Writes. One run; nothing that goes wrong in it is raised, but for Ctrl-C."""
        try:
            return played(order, self._read(order), self._digest)
        except Exception as error:  # noqa: BLE001  # a policy may raise anything, and the run is to be named
            place = traceback.extract_tb(error.__traceback__)[-1]
            return Failed(f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})")

    def _read(self, order: Order) -> Trace:
        group = group_of(order)
        if self._trace is None or self._group != group:
            self._trace = None  # before the next one is read: two need not fit into memory
            self._trace = order.source.read(order.key.seed)
            self._group = group
        return self._trace


@dataclass(slots=True)
class _Process:
    process: BaseProcess
    pipe: Connection
    group: Group | None = None
    """Of the trace that it holds."""
    order: Order | None = None
    """What it is at."""


class Runs:
    """State: the processes, once they are needed.

    with Runs(2, digest) as runs:
        for run in runs.play(orders):
            …
    """

    def __init__(self, processes: int, digest: str) -> None:
        self._wanted = processes
        self._digest = digest
        self._player = Player(digest)
        self._processes: list[_Process] = []

    def __enter__(self) -> Runs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Writes. Ends the processes, whatever they are at."""
        processes, self._processes = self._processes, []
        for one in processes:
            one.pipe.close()
            one.process.terminate()
        for one in processes:
            one.process.join(_END_WITHIN_S)
            if one.process.is_alive():
                one.process.kill()
                one.process.join()
            one.process.close()

    def play(self, orders: Iterable[Order]) -> Iterator[Run]:
        """Writes. The runs, each as soon as it is done. Raises RunFailed, KeyboardInterrupt."""
        waiting: dict[Group, list[Order]] = {}
        for order in orders:
            waiting.setdefault(group_of(order), []).append(order)
        if self._wanted == 1:
            yield from self._play_here(waiting)
            return
        while len(self._processes) < min(self._wanted, sum(map(len, waiting.values()))):
            self._processes.append(_spawned(self._digest))
        while True:
            for one in self._processes:
                if one.order is None and waiting:
                    _give(one, waiting, {other.group for other in self._processes if other is not one})
            busy = {one.pipe: one for one in self._processes if one.order is not None}
            if not busy:
                return
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                yield _heard(busy[pipe])

    def _play_here(self, waiting: dict[Group, list[Order]]) -> Iterator[Run]:
        with rare_collections():
            for orders in waiting.values():
                for order in orders:
                    yield _succeeded(order, self._player.play(order))


def group_of(order: Order) -> Group:
    """Reads. Which trace an order is played from."""
    return order.source.text, order.source.key(order.key.seed)


def serve(pipe: Connection, digest: str) -> None:
    """The life of a process: runs as they are asked for, until the pipe closes."""
    player = Player(digest)
    with rare_collections(), suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            pipe.send(player.play(pipe.recv()))


def _spawned(digest: str) -> _Process:
    context = multiprocessing.get_context("spawn")
    with interrupts_held():
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, digest), daemon=True)
        process.start()
        theirs.close()  # or the pipe would not be seen to close when the process dies
    return _Process(process, ours)


def _give(one: _Process, waiting: dict[Group, list[Order]], held: set[Group | None]) -> None:
    """Writes. The next order: of the trace that it holds, else of one that nobody holds, else of any; the
    one with most left, which is the one that would be last otherwise."""
    group = one.group
    if group not in waiting:
        free = [other for other in waiting if other not in held]
        group = max(free or waiting, key=lambda other: _requests(waiting[other]))
    assert group is not None
    one.group, one.order = group, waiting[group].pop()
    if not waiting[group]:
        del waiting[group]
    with suppress(BrokenPipeError, ConnectionResetError):  # it died; what is heard from it next says so
        one.pipe.send(one.order)


def _requests(orders: list[Order]) -> int:
    return sum(order.source.requests for order in orders)


def _heard(one: _Process) -> Run:
    """Writes. What a process says of its order. Raises RunFailed."""
    assert one.order is not None
    try:
        message = one.pipe.recv()
    except (EOFError, ConnectionResetError):
        one.process.join(_END_WITHIN_S)
        raise RunFailed(f"{_name(one.order)}: its process ended, exit code {one.process.exitcode}") from None
    order, one.order = one.order, None
    return _succeeded(order, message)


def _succeeded(order: Order, outcome: Run | Failed) -> Run:
    if isinstance(outcome, Failed):
        raise RunFailed(f"{_name(order)}: {outcome.message}")
    return outcome


def _name(order: Order) -> str:
    key = order.key
    return f"{key.policy} on {key.trace}, fleet {key.fleet}, load {key.load:g}, seed {key.seed}"
