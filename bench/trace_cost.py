"""What tracing costs: CPU time of the router per request, by share of requests that are traced.

    .venv/bin/python bench/trace_cost.py [--quick] [--json FILE] [--render docs/tracing.md]

The router has one core; the load, four fake engines and a collector that takes everything share another.
Every round starts each case afresh, in another order than the round before; a case is compared with `off` of
its own round, as a shared machine drifts by 10 to 20 % within minutes. CPU time is that of the whole process:
the SDK's thread, which encodes and sends the spans, is in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvloop

from dataplane import allow_many_sockets, fake_workers
from dataplane_lib import cost
from dataplane_lib.bodies import API_KEY, Requests
from dataplane_lib.check import wait_until_ready
from dataplane_lib.load import Load, WrongAnswer
from dataplane_lib.routers import Running, Target

CONNECTIONS = 16
SIZE_KB = 16
WARM_UP_S = 1.0
_MARKS = "<!-- measured: bench/trace_cost.py -->", "<!-- /measured -->"


@dataclass(frozen=True)
class Case:
    """One way to run the router."""

    name: str
    ratio: float | None
    """None: tracing is off."""
    clients_trace: bool = False
    """Every request comes with a `traceparent` of its own that is not sampled."""


CASES = (
    Case("off", None),
    Case("off, clients send a `traceparent`", None, clients_trace=True),
    Case("on, clients send one that is not sampled", 1, clients_trace=True),
    Case("ratio 0", 0),
    Case("ratio 0.01", 0.01),
    Case("ratio 0.1", 0.1),
    Case("ratio 1", 1),
)


class TracedRequests(Requests):
    """Each in a trace of its own."""

    def next(self) -> bytes:
        """Writes. The next request."""
        line, rest = super().next().split(b"\r\n", 1)
        number = next(self._numbers)
        return b"%b\r\ntraceparent: 00-%032x-%016x-00\r\n%b" % (line, number, number, rest)


async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A collector that takes everything and looks at nothing."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            await reader.readexactly(size)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def target(case: Case, collector: str) -> Target:
    """The router as bench/dataplane.py runs it, and traced."""

    def command(port: int, backends: Sequence[str], _: Path) -> list[str]:
        flags = (
            []
            if case.ratio is None
            else ["--otel-endpoint", collector, "--otel-sample-ratio", str(case.ratio)]
        )
        return [
            *(sys.executable, "-m", "warmroute", "serve", "--policy", "cache_aware", "--api-key", API_KEY),
            *("--host", "127.0.0.1", "--port", str(port), "--backend", *backends, *flags),
        ]

    return Target(case.name, command)


async def measure(
    case: Case, collector: str, ports: list[int], core: int, folder: Path, seconds: float
) -> float:
    """µs per request."""
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with Running(target(case, collector), core, urls, folder) as router:
        await wait_until_ready(router)
        load = Load()
        kind = TracedRequests if case.clients_trace else Requests
        await load.closed_loop(router.port, CONNECTIONS, kind(SIZE_KB, seed=os.getpid()))
        await asyncio.sleep(WARM_UP_S)
        cpu_ns, before = cost.cpu_ns(router.pid), load.answers
        await asyncio.sleep(seconds)
        cpu_ns, done = cost.cpu_ns(router.pid) - cpu_ns, load.answers - before
        load.check()
        load.stop()
    if not done:
        raise WrongAnswer("nothing came back under load")
    return cpu_ns / done / 1000


async def rounds(count: int, seconds: float, ports: list[int], core: int) -> list[dict[str, float]]:
    """µs per request by case."""
    server = await asyncio.start_server(collect, "127.0.0.1", 0, limit=1 << 20)
    collector = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    found = []
    with tempfile.TemporaryDirectory(prefix="warmroute-bench-") as folder:
        for number in range(count):
            turn = number % len(CASES)
            figures = {}
            for case in [*CASES[turn:], *CASES[:turn]]:
                figures[case.name] = await measure(case, collector, ports, core, Path(folder), seconds)
                print(
                    f"round {number + 1}/{count}: {figures[case.name]:6.1f} µs  {case.name}", file=sys.stderr
                )
            found.append(figures)
    server.close()
    return found


def table(found: list[dict[str, float]]) -> str:
    """Markdown."""
    lines = [f"| tracing | µs per request, {SIZE_KB} KB | beside off |", "|---|---|---|"]
    for case in CASES:
        ratios = [figures[case.name] / figures["off"] for figures in found]
        beside = (
            f"{median(ratios):.2f}× [{min(ratios):.2f}–{max(ratios):.2f}]" if case is not CASES[0] else ""
        )
        lines.append(f"| {case.name} | {median(figures[case.name] for figures in found):.1f} | {beside} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two short rounds instead of seven")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--render", type=Path, metavar="PAGE", help="replace the measured table in this page")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("bench/trace_cost.py needs two cores: one for the router, one for the load", file=sys.stderr)
        return 1
    allow_many_sockets()
    os.sched_setaffinity(0, {cores[0]})
    with fake_workers() as workers:
        assert workers.stdout is not None
        ports = [int(word) for word in workers.stdout.readline().split()[1:]]
        try:
            count, seconds = (2, 1.0) if options.quick else (7, 3.0)
            found = uvloop.run(rounds(count, seconds, ports, cores[1]))
        finally:
            workers.kill()
    print(table(found))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    if options.render is not None:
        before, begin, rest = options.render.read_text().partition(_MARKS[0])
        options.render.write_text(
            f"{before}{begin}\n\n{table(found)}\n{_MARKS[1]}{rest.partition(_MARKS[1])[2]}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
