"""Requests at a fixed rate, whatever the answers take: plain ones, streams, sessions; some leave early."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field
from typing import cast

import httptools

# The longest that any answer may take: above all of the router's time-outs.
PATIENCE_S = 30.0

_SESSIONS = 60
_STREAMS = 0.5
_LEAVE = 0.01

# Connections that are kept for the next request; more would only cost.
_IDLE_MAX = 64

# How far ahead of its time a request may be sent, and how often is looked.
_TICK_S = 0.005


@dataclass
class Asked:
    """One request and what became of it. State until `ended_at` is set."""

    nonce: bytes
    stream: bool
    leaves: bool
    sent_at: float
    ended_at: float = 0.0
    status: int = 0
    """0: no answer's head came."""
    worker: str = ""
    body: bytes = b""
    whole: bool = False


class _Connection(asyncio.Protocol):
    """One connection to the router. State: the request that it carries, and llhttp's."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.asked: Asked | None = None
        self.ended: asyncio.Future[None] | None = None
        self.keeps = True
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, asked: Asked, data: bytes) -> asyncio.Future[None]:
        """Writes. The future ends with the answer, or with the connection."""
        assert self.transport is not None
        self.asked = asked
        self.ended = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        return self.ended

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self.asked is not None:
                self.asked.body += b"<not HTTP>" + data
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by llhttp."""
        if self.asked is not None and name.lower() == b"x-router-worker":
            self.asked.worker = value.decode()

    def on_headers_complete(self) -> None:
        """Called by llhttp."""
        if self.asked is not None:
            self.asked.status = self._parser.get_status_code()
        self.keeps = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """Called by llhttp."""
        if self.asked is not None:
            self.asked.body += body

    def on_message_complete(self) -> None:
        """Called by llhttp."""
        if self.asked is not None:
            self.asked.whole = True
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self.keeps = False
        self._end()

    def close(self) -> None:
        """Writes. Leaves."""
        self.keeps = False
        if self.transport is not None:
            self.transport.abort()
        self._end()

    def _end(self) -> None:
        self.asked = None
        if self.ended is not None and not self.ended.done():
            self.ended.set_result(None)


@dataclass
class Client:
    """State: idle connections, and all that was asked."""

    port: int
    chance: random.Random
    asked: list[Asked] = field(default_factory=list)
    _idle: list[_Connection] = field(default_factory=list)
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    async def play(self, rate: float, seconds: float) -> None:
        """Sends for so long, then waits for what is under way."""
        loop = asyncio.get_running_loop()
        began, sent = loop.time(), 0
        while loop.time() < began + seconds:
            for _ in range(int((loop.time() - began) * rate) - sent):
                sent += 1
                task = loop.create_task(self._ask(self._next()))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            await asyncio.sleep(_TICK_S)
        while self._running:
            await asyncio.wait(set(self._running))
        for connection in self._idle:
            connection.close()

    def _next(self) -> Asked:
        asked = Asked(
            nonce=b"nonce-%016x" % self.chance.getrandbits(64),
            stream=self.chance.random() < _STREAMS,
            leaves=self.chance.random() < _LEAVE,
            sent_at=asyncio.get_running_loop().time(),
        )
        self.asked.append(asked)
        return asked

    async def _ask(self, asked: Asked) -> None:
        loop = asyncio.get_running_loop()
        session = self.chance.randrange(_SESSIONS)
        patience_s = self.chance.random() * 0.1 if asked.leaves else PATIENCE_S
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(patience_s):
                connection = self._idle.pop() if self._idle else None
                if connection is None or not connection.keeps:
                    _, connection = await loop.create_connection(_Connection, "127.0.0.1", self.port)
                await connection.send(asked, _request(asked, session))
        except (OSError, TimeoutError):
            if connection is not None:
                connection.close()
        asked.ended_at = loop.time()
        if connection is not None and connection.keeps and len(self._idle) < _IDLE_MAX:
            self._idle.append(connection)
        elif connection is not None:
            connection.close()


def _request(asked: Asked, session: int) -> bytes:
    body = {
        "model": "m",
        "messages": [
            {"role": "system", "content": f"session {session} " * 60},
            {"role": "user", "content": "what next?"},
        ],
        "user": asked.nonce.decode(),
        "stream": asked.stream,
    }
    data = json.dumps(body).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-session-id: s%d\r\ncontent-length: %d\r\n\r\n%b"
        % (session, len(data), data)
    )
