"""What `inject_usage` costs: CPU time of the router per chunk of a stream, and of the body that asks.

    .venv/bin/python bench/inject_cost.py [--quick] [--json FILE] [--render docs/token-counts.md]

200 streams have a chunk every 10 ms each, as in bench/dataplane.py; how the two cases are compared says
`dataplane_lib.compared`. The body is timed in this process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from statistics import median
from timeit import repeat

from dataplane_lib import compared
from dataplane_lib.bodies import Requests
from dataplane_lib.compared import Case, Figures
from dataplane_lib.load import Load
from warmroute.inject import with_usage

STREAMS, GAP_MS = 200, 10
SIZES_KB = (1, 16, 128)
_ENDLESS = 10**9


async def offer(load: Load, port: int) -> None:
    """Streams without an end."""
    await load.streams(port, STREAMS, Requests(1, f"{_ENDLESS}/{GAP_MS}"))


CASES = tuple(
    Case(name, flags, offer, lambda load: load.events)
    for name, flags in (("off", ()), ("on", ("--inject-usage",)))
)


async def rounds(count: int, seconds: float, ports: Sequence[int], core: int) -> list[Figures]:
    """µs per chunk by case."""
    return await compared.rounds(CASES, count, seconds, ports, core)


def body_us(kilobytes: int) -> float:
    """µs for the body of a request that says nothing of counts."""
    text = "the same words again " * (kilobytes * 1024 // 21)
    body = json.dumps(
        {"model": "m", "stream": True, "messages": [{"role": "user", "content": text}]}
    ).encode()
    times = 20_000 // kilobytes
    return min(repeat(lambda: with_usage(body), number=times, repeat=7)) / times * 1e6


def table(found: list[Figures]) -> str:
    """Markdown."""
    ratios = [figures["on"] / figures["off"] for figures in found]
    lines = ["| | CPU time |", "|---|---|"]
    lines += [
        f"| a chunk of a stream, {case.name} | {median(f[case.name] for f in found):.1f} µs |"
        for case in CASES
    ]
    lines.append(f"| on beside off | {median(ratios):.2f}× [{min(ratios):.2f}–{max(ratios):.2f}] |")
    lines += [f"| the wish, in a body of {size} KB | {body_us(size):.1f} µs |" for size in SIZES_KB]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(compared.main("bench/inject_cost.py", (__doc__ or "").splitlines()[0], rounds, table))
