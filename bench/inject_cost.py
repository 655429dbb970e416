"""What `inject_usage` costs: CPU time of the router per chunk of a stream, and of the body that asks.

    .venv/bin/python bench/inject_cost.py [--quick] [--json FILE] [--render docs/token-counts.md]

The router has one core; the load and four fake engines share another. 200 streams have a chunk every 10 ms
each, as in bench/dataplane.py. Every round starts both cases afresh, in another order than the round before,
and compares them within the round, as a shared machine drifts by 10 to 20 % within minutes. The body is
timed in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from timeit import repeat

import uvloop

from dataplane import allow_many_sockets, fake_workers
from dataplane_lib import cost
from dataplane_lib.bodies import API_KEY, Requests
from dataplane_lib.check import wait_until_ready
from dataplane_lib.load import Load, WrongAnswer
from dataplane_lib.routers import Running, Target
from warmroute.inject import with_usage

STREAMS, GAP_MS = 200, 10
SIZES_KB = (1, 16, 128)
WARM_UP_S = 1.0
CASES = {"off": (), "on": ("--inject-usage",)}
_ENDLESS = 10**9
_MARKS = "<!-- measured: bench/inject_cost.py -->", "<!-- /measured -->"


def target(name: str) -> Target:
    """The router as bench/dataplane.py runs it, with the case's flags."""

    def command(port: int, backends: Sequence[str], _: Path) -> list[str]:
        return [
            *(sys.executable, "-m", "warmroute", "serve", "--policy", "cache_aware", "--api-key", API_KEY),
            *("--host", "127.0.0.1", "--port", str(port), *CASES[name], "--backend", *backends),
        ]

    return Target(name, command)


async def measure(name: str, ports: list[int], core: int, folder: Path, seconds: float) -> float:
    """µs per chunk."""
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with Running(target(name), core, urls, folder) as router:
        await wait_until_ready(router)
        load = Load()
        await load.streams(router.port, STREAMS, Requests(1, f"{_ENDLESS}/{GAP_MS}"))
        await asyncio.sleep(WARM_UP_S)
        cpu_ns, before = cost.cpu_ns(router.pid), load.events
        await asyncio.sleep(seconds)
        cpu_ns, done = cost.cpu_ns(router.pid) - cpu_ns, load.events - before
        load.check()
        load.stop()
    if not done:
        raise WrongAnswer("nothing came back under load")
    return cpu_ns / done / 1000


async def rounds(count: int, seconds: float, ports: list[int], core: int) -> list[dict[str, float]]:
    """µs per chunk by case."""
    found = []
    with tempfile.TemporaryDirectory(prefix="warmroute-bench-") as folder:
        for number in range(count):
            figures = {}
            for name in list(CASES)[:: 1 if number % 2 else -1]:
                figures[name] = await measure(name, ports, core, Path(folder), seconds)
                print(f"round {number + 1}/{count}: {figures[name]:6.2f} µs  {name}", file=sys.stderr)
            found.append(figures)
    return found


def body_us(kilobytes: int) -> float:
    """µs for the body of a request that says nothing of counts."""
    text = "the same words again " * (kilobytes * 1024 // 21)
    body = json.dumps(
        {"model": "m", "stream": True, "messages": [{"role": "user", "content": text}]}
    ).encode()
    times = 20_000 // kilobytes
    return min(repeat(lambda: with_usage(body), number=times, repeat=7)) / times * 1e6


def table(found: list[dict[str, float]]) -> str:
    """Markdown."""
    ratios = [figures["on"] / figures["off"] for figures in found]
    lines = ["| | CPU time |", "|---|---|"]
    lines += [f"| a chunk of a stream, {name} | {median(f[name] for f in found):.1f} µs |" for name in CASES]
    lines.append(f"| on beside off | {median(ratios):.2f}× [{min(ratios):.2f}–{max(ratios):.2f}] |")
    lines += [f"| the wish, in a body of {size} KB | {body_us(size):.1f} µs |" for size in SIZES_KB]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two short rounds instead of seven")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--render", type=Path, metavar="PAGE", help="replace the measured table in this page")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("bench/inject_cost.py needs two cores: one for the router, one for the load", file=sys.stderr)
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
    text = table(found)
    print(text)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    if options.render is not None:
        before, begin, rest = options.render.read_text().partition(_MARKS[0])
        options.render.write_text(f"{before}{begin}\n\n{text}\n{_MARKS[1]}{rest.partition(_MARKS[1])[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
