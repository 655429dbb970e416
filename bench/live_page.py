"""What an open live page costs the router: CPU with and without somebody who watches.

    .venv/bin/python bench/live_page.py               two minutes
    .venv/bin/python bench/live_page.py --watchers 10 --workers 64

What is measured. A router in front of fake engines gets the same requests at the same pace all the time; in
turns, nobody watches and then somebody reads `/live/events`. CPU time is the router's own, user and system,
as a share of one core. How to read it: the difference of two turns that follow each other, as a median with
its range. The machine drifts by more than this within minutes, but hardly from one turn to the next.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import deque
from statistics import median

import uvloop

from dataplane_lib import cost
from dataplane_lib.bodies import API_KEY, Requests
from dataplane_lib.check import wait_until_ready
from dataplane_lib.load import Connection, WrongAnswer, connect
from dataplane_lib.routers import Running, targets
from dataplane_lib.stage import stage

PROMPT_KB = 16
CONNECTIONS = 32
# Requests are sent in small groups: a timer per request would cost the generator more than they do.
GROUP_S = 0.01
WARM_UP_S = 2.0


class PacedLoad:
    """State: idle connections, answers so far, and requests for which none was idle."""

    def __init__(self, per_s: float, requests: Requests) -> None:
        self.answers = 0
        self.late = 0
        self._per_s, self._requests = per_s, requests
        self._all: list[Connection] = []
        self._idle: deque[Connection] = deque()

    async def run(self, port: int) -> None:
        """Sends until it is cancelled."""
        for _ in range(CONNECTIONS):
            connection = await connect(port)
            self._all.append(connection)
            self._idle.append(connection)
        loop = asyncio.get_running_loop()
        began, sent = loop.time(), 0
        while True:
            due = int((loop.time() - began) * self._per_s)
            for _ in range(due - sent):
                self._send()
            sent = due
            await asyncio.sleep(GROUP_S)

    def _send(self) -> None:
        if not self._idle:
            self.late += 1
            return
        connection = self._idle.popleft()

        def ended() -> None:
            self.answers += 1
            self._idle.append(connection)

        connection.on_end = ended
        connection.transport.write(self._requests.next())

    def check(self) -> None:
        """Raises WrongAnswer when a connection broke."""
        for connection in self._all:
            if connection.broken:
                raise WrongAnswer(connection.broken)


class Watchers:
    """Readers of the feed. State: their tasks, and the bytes that came."""

    def __init__(self, port: int, count: int) -> None:
        self.bytes = 0
        self._tasks = [asyncio.ensure_future(self._read(port)) for _ in range(count)]

    async def _read(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"GET /live/events HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {API_KEY}\r\n\r\n".encode()
        )
        try:
            while data := await reader.read(1 << 16):
                if not self.bytes and not data.startswith(b"HTTP/1.1 200 "):
                    raise WrongAnswer(data[:200].decode())
                self.bytes += len(data)
        finally:
            writer.close()

    async def stop(self) -> None:
        """Closes them. Raises what one of them met."""
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, WrongAnswer):
                raise ended


async def measure(options: argparse.Namespace, router: Running) -> None:
    await wait_until_ready(router)
    load = PacedLoad(options.rate, Requests(PROMPT_KB, seed=1))
    sending = asyncio.ensure_future(load.run(router.port))
    await asyncio.sleep(WARM_UP_S)
    without: list[float] = []
    with_page: list[float] = []
    rates: list[float] = []
    for _ in range(options.rounds):
        for watched in (False, True):
            watchers = Watchers(router.port, options.watchers if watched else 0)
            await asyncio.sleep(WARM_UP_S / 2)
            cpu_ns, answers, size = cost.cpu_ns(router.pid), load.answers, watchers.bytes
            await asyncio.sleep(options.seconds)
            share = (cost.cpu_ns(router.pid) - cpu_ns) / options.seconds / 1e7
            load.check()
            (with_page if watched else without).append(share)
            if watched:
                rates.append((watchers.bytes - size) / options.seconds / options.watchers / 1000)
            answered = (load.answers - answers) / options.seconds
            turn = "watched" if watched else "alone"
            print(f"  {turn:<8}{share:6.2f} % at {answered:.0f} requests/s", flush=True)
            await watchers.stop()
    sending.cancel()
    more = [b - a for a, b in zip(without, with_page, strict=True)]
    print(
        f"{options.workers} workers, {options.rate:g} requests/s of {PROMPT_KB} KB, "
        f"{options.watchers} watching: "
        f"{median(more):.2f} % of a core more [{min(more):.2f} to {max(more):.2f}], "
        f"{median(without):.1f} % without; {median(rates):.0f} KB/s to each page; {load.late} requests late"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=8, help="fake engines [8]")
    parser.add_argument("--watchers", type=int, default=1, help="open pages [1]")
    parser.add_argument("--rate", type=float, default=500.0, help="requests per second [500]")
    parser.add_argument("--rounds", type=int, default=8, help="of both turns [8]")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each turn [6]")
    options = parser.parse_args()
    [warmroute] = targets([], None)
    with stage(options.workers) as at, Running(warmroute, at.core, at.backends, at.folder) as router:
        uvloop.run(measure(options, router))
    return 0


if __name__ == "__main__":
    sys.exit(main())
