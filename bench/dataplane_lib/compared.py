"""What a setting costs: the router's CPU time in several cases, each compared within its round.

The router has one core; the load and four fake engines share another. Every round starts each case afresh, in
another order than the round before, and compares the cases within the round, as a shared machine drifts by 10
to 20 % within minutes. CPU time is that of the whole process, its threads with it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from dataplane import allow_many_sockets, fake_workers

from . import cost
from .bodies import API_KEY
from .check import wait_until_ready
from .load import Load, WrongAnswer
from .routers import Running, Target

WARM_UP_S = 1.0
Figures = dict[str, float]
"""µs by case."""


@dataclass(frozen=True)
class Case:
    """One way to run the router, and what it is given to do."""

    name: str
    flags: Sequence[str]
    offer: Callable[[Load, int], Awaitable[None]]
    """Starts the load on this port."""
    done: Callable[[Load], int]
    """What is counted: requests, chunks."""

    def target(self) -> Target:
        """The router as bench/dataplane.py runs it, with the case's flags."""

        def command(port: int, backends: Sequence[str], _: Path) -> list[str]:
            return [
                *(sys.executable, "-m", "warmroute", "serve", "--policy", "cache_aware"),
                *("--api-key", API_KEY, "--host", "127.0.0.1", "--port", str(port), *self.flags),
                *("--backend", *backends),
            ]

        return Target(self.name, command)


async def _measure(case: Case, ports: Sequence[int], core: int, folder: Path, seconds: float) -> float:
    """µs per thing done."""
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with Running(case.target(), core, urls, folder) as router:
        await wait_until_ready(router)
        load = Load()
        await case.offer(load, router.port)
        await asyncio.sleep(WARM_UP_S)
        cpu_ns, before = cost.cpu_ns(router.pid), case.done(load)
        await asyncio.sleep(seconds)
        cpu_ns, done = cost.cpu_ns(router.pid) - cpu_ns, case.done(load) - before
        load.check()
        load.stop()
    if not done:
        raise WrongAnswer("nothing came back under load")
    return cpu_ns / done / 1000


async def rounds(
    cases: Sequence[Case], count: int, seconds: float, ports: Sequence[int], core: int
) -> list[Figures]:
    """Each round begins with another case."""
    found = []
    with tempfile.TemporaryDirectory(prefix="warmroute-bench-") as folder:
        for number in range(count):
            turn = number % len(cases)
            figures = {}
            for case in [*cases[turn:], *cases[:turn]]:
                figures[case.name] = await _measure(case, ports, core, Path(folder), seconds)
                print(
                    f"round {number + 1}/{count}: {figures[case.name]:6.2f} µs  {case.name}", file=sys.stderr
                )
            found.append(figures)
    return found


def main(
    script: str,
    description: str,
    compare: Callable[[int, float, Sequence[int], int], Awaitable[list[Figures]]],
    table: Callable[[list[Figures]], str],
) -> int:
    """Runs a bench of this kind from its command line and returns the exit code.

    `compare` is given a number of rounds, seconds per case, the engines' ports and the router's core.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="two short rounds instead of seven")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--render", type=Path, metavar="PAGE", help="replace the measured table in this page")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print(f"{script} needs two cores: one for the router, one for the load", file=sys.stderr)
        return 1
    allow_many_sockets()
    os.sched_setaffinity(0, {cores[0]})
    count, seconds = (2, 1.0) if options.quick else (7, 3.0)

    async def compared(ports: Sequence[int]) -> list[Figures]:
        return await compare(count, seconds, ports, cores[1])

    with fake_workers() as workers:
        assert workers.stdout is not None
        ports = [int(word) for word in workers.stdout.readline().split()[1:]]
        try:
            found = uvloop.run(compared(ports))
        finally:
            workers.kill()
    text = table(found)
    print(text)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    if options.render is not None:
        mark, end = f"<!-- measured: {script} -->", "<!-- /measured -->"
        before, _, rest = options.render.read_text().partition(mark)
        options.render.write_text(f"{before}{mark}\n\n{text}\n{end}{rest.partition(end)[2]}")
    return 0
