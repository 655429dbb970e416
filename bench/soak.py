"""Does the router's memory stay flat? Unique prompts for minutes, and its RSS meanwhile.

    .venv/bin/python bench/soak.py [--minutes 10] [--rate 300] [--json FILE]

What is measured. Every prompt is new from its first byte, so each one adds to the prefix index and, once
the believed KV caches are full, evicts as much. Two fake engines answer at once; some clients leave before
their answer has come. RSS is read every second.

How to read it. Memory rises until the caches are full (`full after`); from then on it should stay where it
is. `growth` is the median of the last tenth over the median of the first tenth after that moment. The exit
code is 1 when it is above 3 %, which is more than the allocator's own play.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median

import uvloop

from dataplane import fake_workers
from dataplane_lib.check import wait_until_ready
from dataplane_lib.cost import memory_bytes
from dataplane_lib.load import Connection, connect
from dataplane_lib.routers import Running, Target

GROWTH_MAX = 0.03

MB = 1 << 20

# Two engines of this size hold 250,000 blocks of 512 bytes.
KV_TOKENS = 16_000_000
PROMPT_BYTES = 8 * 1024
WORKERS = 2
BYTES_PER_TOKEN = 4
FULL_AFTER_PROMPTS = KV_TOKENS * BYTES_PER_TOKEN * WORKERS * 11 // (10 * PROMPT_BYTES)
"""By then every cache has been filled, with a tenth to spare for an uneven spread."""
CONNECTIONS = 32
LEAVE_EVERY = 50
"""One request in so many is given up by its client."""


@dataclass
class Soak:
    """State: the router's port, the text that is still to be made, and what was seen."""

    port: int
    chance: Random
    sent: int = 0
    left: int = 0
    rss: list[tuple[int, int]] = field(default_factory=list)
    """Requests sent so far, and bytes."""

    def request(self) -> bytes:
        """Writes. A request that shares nothing with any other."""
        text = self.chance.randbytes(PROMPT_BYTES // 2).hex()
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
        self.sent += 1
        return b"POST /v1/chat/completions HTTP/1.1\r\nhost: soak\r\ncontent-length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )

    async def client(self, gap_s: float, until: float) -> None:
        """One connection: a request, its answer, a pause; now and then it leaves early."""
        loop = asyncio.get_running_loop()
        connection = await self._connected()
        while loop.time() < until:
            ended = loop.create_future()
            connection.on_end = lambda ended=ended: ended.done() or ended.set_result(None)  # type: ignore[misc]
            connection.transport.write(self.request())
            if self.sent % LEAVE_EVERY == 0:
                self.left += 1
                connection.transport.abort()
                connection = await self._connected()
            else:
                await asyncio.wait_for(ended, 30)
            await asyncio.sleep(gap_s)
        connection.transport.abort()

    async def _connected(self) -> Connection:
        return await connect(self.port)


async def run(minutes: float, rate: float) -> Soak:
    """Writes. Router and engines up, traffic through, RSS noted."""
    with tempfile.TemporaryDirectory(prefix="warmroute-soak-") as folder, fake_workers() as workers:
        assert workers.stdout is not None
        ports = workers.stdout.readline().split()[1:]
        try:
            backends = [f"http://127.0.0.1:{port}" for port in ports[:WORKERS]]
            with Running(Target("warmroute", _command), 0, backends, Path(folder)) as router:
                await wait_until_ready(router)
                return await _drive(router, minutes, rate)
        finally:
            workers.kill()


async def _drive(router: Running, minutes: float, rate: float) -> Soak:
    loop = asyncio.get_running_loop()
    soak = Soak(router.port, Random(7))
    until = loop.time() + minutes * 60
    clients = [loop.create_task(soak.client(CONNECTIONS / rate, until)) for _ in range(CONNECTIONS)]
    while loop.time() < until:
        soak.rss.append((soak.sent, memory_bytes(router.pid)))
        await asyncio.sleep(1)
    await asyncio.gather(*clients)
    return soak


def _command(port: int, backends: Sequence[str], folder: Path) -> list[str]:
    command = [sys.executable, "-m", "warmroute", "serve", "--kv-capacity-tokens", str(KV_TOKENS)]
    return [*command, "--port", str(port), "--backend", *backends]


def report(soak: Soak) -> dict[str, float]:
    """Reads. The figures; RSS in MB."""
    full = next(
        (at for at, (sent, _) in enumerate(soak.rss) if sent >= FULL_AFTER_PROMPTS), len(soak.rss) - 1
    )
    level = [rss for _, rss in soak.rss[full:]]
    tenth = max(1, len(level) // 10)
    first, last = median(level[:tenth]), median(level[-tenth:])
    return {
        "requests": soak.sent,
        "given_up": soak.left,
        "start_mb": soak.rss[0][1] / MB,
        "full_after_s": full,
        "full_mb": first / MB,
        "end_mb": last / MB,
        "growth": last / first - 1,
    }


def main() -> int:
    """Prints the figures; 1 when memory grew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=300.0, help="requests per second, at most")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = report(uvloop.run(run(options.minutes, options.rate)))
    for name, figure in figures.items():
        print(f"{name:14} {figure:10.1f}" if name != "growth" else f"{name:14} {figure:10.1%}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    return int(figures["growth"] > GROWTH_MAX)


if __name__ == "__main__":
    sys.exit(main())
