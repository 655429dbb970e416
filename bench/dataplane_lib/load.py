"""The load generator. It shares its core with the fake workers, so the router never waits for a core.

It is Python and cannot saturate a fast router; nothing here needs that, for CPU time per request is
counted and not requests per second. Every answer is framed by llhttp and checked for its status and end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import cast

import httptools

from dataplane_lib.bodies import Requests

_EVENT = b"data: "


class WrongAnswer(Exception):
    """A router changed, lost or broke an answer."""


class Connection(asyncio.Protocol):
    """State: one answer on its way, and what to do when it has ended. Also llhttp's callbacks."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.keep = False
        self.events = 0
        self.broken = ""
        self.on_end: Callable[[], None] = lambda: None
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._break("the connection was closed")

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._break(f"not HTTP: {error}")

    def on_body(self, data: bytes) -> None:
        self.events += data.count(_EVENT)
        if self.keep:
            self.body += data

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() != 200:
            self._break(f"status {self._parser.get_status_code()}")
            return
        self._parser = httptools.HttpResponseParser(self)
        self.on_end()

    def _break(self, why: str) -> None:
        if not self.broken:
            self.broken = why
            self.on_end()

    async def ask(self, request: bytes) -> bytes:
        """One request and its whole answer's body. Raises WrongAnswer."""
        ended = asyncio.Event()
        self.on_end = ended.set
        self.body, self.keep = bytearray(), True
        self.transport.write(request)
        try:
            async with asyncio.timeout(20):
                await ended.wait()
        except TimeoutError:
            raise WrongAnswer("no whole answer within 20 s") from None
        if self.broken:
            raise WrongAnswer(self.broken)
        return bytes(self.body)


async def connect(port: int) -> Connection:
    """Raises OSError."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


class Load:
    """Connections at work. State: answers and events counted so far, and the first failure."""

    def __init__(self) -> None:
        self.answers = 0
        self.connections: list[Connection] = []

    @property
    def events(self) -> int:
        return sum(connection.events for connection in self.connections)

    def check(self) -> None:
        """Reads. Raises WrongAnswer when any connection broke."""
        for connection in self.connections:
            if connection.broken:
                raise WrongAnswer(connection.broken)

    def stop(self) -> None:
        """Closes everything; what breaks by that is no failure."""
        for connection in self.connections:
            connection.on_end = lambda: None
            connection.transport.abort()

    async def closed_loop(self, port: int, connections: int, requests: Requests) -> None:
        """Writes. Every connection sends its next request when the answer before it has ended."""
        for _ in range(connections):
            connection = await connect(port)
            self.connections.append(connection)

            def ended(connection: Connection = connection) -> None:
                self.answers += 1
                if not connection.broken:
                    connection.transport.write(requests.next())

            connection.on_end = ended
            connection.transport.write(requests.next())

    async def streams(self, port: int, count: int, requests: Requests) -> None:
        """Writes. Opens streams, a few at a time, as a listening queue is not endless."""
        for first in range(0, count, 50):
            opened = await asyncio.gather(*(connect(port) for _ in range(first, min(count, first + 50))))
            for connection in opened:
                connection.transport.write(requests.next())
            self.connections += opened


async def latencies_s(port: int, seconds: float, gap_s: float, requests: Requests) -> list[float]:
    """One request at a time, a fixed pause between two: what an idle router adds. Raises WrongAnswer."""
    connections = [await connect(port) for _ in range(4)]
    found = []
    end = perf_counter() + seconds
    while perf_counter() < end:
        for connection in connections:
            request = requests.next()
            began = perf_counter()
            await connection.ask(request)
            found.append(perf_counter() - began)
            await asyncio.sleep(gap_s)
    for connection in connections:
        connection.transport.abort()
    return found
