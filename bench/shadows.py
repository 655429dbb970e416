"""What shadow policies cost: CPU per request of a router without and with two of them, in turns.

    .venv/bin/python bench/shadows.py [--rounds 6] [--json FILE]

How to read it: the ratio within a round, its median and range over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import uvloop

from dataplane_lib import cost
from dataplane_lib.bodies import Requests
from dataplane_lib.check import wait_until_ready
from dataplane_lib.load import Load
from dataplane_lib.routers import Running, Target, targets
from dataplane_lib.stage import stage

CONNECTIONS = 16
WARM_UP_S = 0.5
WORKERS = 8


async def cost_us(router: Running, size_kb: int, seconds: float) -> float:
    """CPU microseconds per request of that size."""
    load = Load()
    await load.closed_loop(router.port, CONNECTIONS, Requests(size_kb, seed=os.getpid()))
    await asyncio.sleep(WARM_UP_S)
    cpu_ns, answers = cost.cpu_ns(router.pid), load.answers
    await asyncio.sleep(seconds)
    cpu_ns, answers = cost.cpu_ns(router.pid) - cpu_ns, load.answers - answers
    load.check()
    load.stop()
    return cpu_ns / answers / 1000


async def measure(router: Running, sizes_kb: Sequence[int], seconds: float) -> dict[int, float]:
    """By size."""
    await wait_until_ready(router)
    return {size: await cost_us(router, size, seconds) for size in sizes_kb}


def with_shadows(plain: Target, policies: str) -> Target:
    """The same router and its shadows."""
    return Target("shadows", lambda *where: [*plain.command(*where), "--shadow-policy", *policies.split()])


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policies", default="llmd_weighted sglang_cache_aware", help="[%(default)s]")
    parser.add_argument("--sizes-kb", type=int, nargs="+", default=[1, 16, 128])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each size in each round [3]")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    [plain] = targets([], None)
    both = [plain, with_shadows(plain, options.policies)]
    rounds: list[dict[str, dict[int, float]]] = []
    with stage(WORKERS) as at:
        for number in range(options.rounds):
            found = {}
            for target in both if number % 2 else both[::-1]:
                with Running(target, at.core, at.backends, at.folder) as router:
                    found[target.name] = uvloop.run(measure(router, options.sizes_kb, options.seconds))
            rounds.append(found)
    for size in options.sizes_kb:
        ratios = [found["shadows"][size] / found[plain.name][size] for found in rounds]
        alone = median(found[plain.name][size] for found in rounds)
        print(
            f"{size:>4} KB: {median(ratios):.2f} times the CPU per request [{min(ratios):.2f} to "
            f"{max(ratios):.2f}], {alone:.0f} µs without; shadows: {options.policies}"
        )
    if options.json is not None:
        options.json.write_text(json.dumps(rounds, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
