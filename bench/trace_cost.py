"""What tracing costs: CPU time of the router per request, by share of requests that are traced.

    .venv/bin/python bench/trace_cost.py [--quick] [--json FILE] [--render docs/tracing.md]

A collector that takes everything shares the load's core; how the cases are compared says
`dataplane_lib.compared`. The SDK's thread, which encodes and sends the spans, is in the router's CPU time.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from statistics import median

from dataplane_lib import compared
from dataplane_lib.bodies import Requests
from dataplane_lib.compared import Case, Figures
from dataplane_lib.load import Load

CONNECTIONS = 16
SIZE_KB = 16
_OFF = "off"


class TracedRequests(Requests):
    """Each in a trace of its own, which is not sampled."""

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


def cases(collector: str) -> list[Case]:
    """From `off` to every request."""

    def case(name: str, ratio: float | None, kind: type[Requests] = Requests) -> Case:
        async def offer(load: Load, port: int) -> None:
            await load.closed_loop(port, CONNECTIONS, kind(SIZE_KB, seed=os.getpid()))

        flags = () if ratio is None else ("--otel-endpoint", collector, "--otel-sample-ratio", str(ratio))
        return Case(name, flags, offer, lambda load: load.answers)

    return [
        case(_OFF, None),
        case("off, clients send a `traceparent`", None, TracedRequests),
        case("on, clients send one that is not sampled", 1, TracedRequests),
        *(case(f"ratio {ratio:g}", ratio) for ratio in (0, 0.01, 0.1, 1)),
    ]


async def rounds(count: int, seconds: float, ports: Sequence[int], core: int) -> list[Figures]:
    """µs per request by case."""
    server = await asyncio.start_server(collect, "127.0.0.1", 0, limit=1 << 20)
    collector = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    found = await compared.rounds(cases(collector), count, seconds, ports, core)
    server.close()
    return found


def table(found: list[Figures]) -> str:
    """Markdown."""
    lines = [f"| tracing | µs per request, {SIZE_KB} KB | beside off |", "|---|---|---|"]
    for name in (case.name for case in cases("")):
        ratios = [figures[name] / figures[_OFF] for figures in found]
        beside = f"{median(ratios):.2f}× [{min(ratios):.2f}–{max(ratios):.2f}]" if name != _OFF else ""
        lines.append(f"| {name} | {median(figures[name] for figures in found):.1f} | {beside} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(compared.main("bench/trace_cost.py", (__doc__ or "").splitlines()[0], rounds, table))
