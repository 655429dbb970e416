"""One streamed request at a time on a kept connection, and what came of it.

The load generator shares a core with eight engines, so it reads no more than it must: events are decoded
until the first that holds text, which ends the time to the first token, and once more at the end.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import cast

import httptools
import msgspec

PATIENCE_S = 60.0
"""For one whole answer: some fifty times what an answer takes. A client that waits longer has given up."""


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta = msgspec.field(default_factory=_Delta)


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] = []
    usage: _Usage | None = None


_CHUNK = msgspec.json.Decoder(_Chunk)


class Asked(msgspec.Struct, frozen=True, gc=False):
    """What came of one request. Times in seconds."""

    lag_s: float
    """From when it was due to when it was sent: the generator's own fault, and in no other figure."""
    ttft_s: float = 0.0
    """From sending to the first text."""
    e2e_s: float = 0.0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int | None = None
    """As the answer tells; None: it does not."""
    error: str = ""
    """Why there is no whole answer; "" when there is one."""
    reason: str = ""
    """Why the router chose as it did, where it says so."""


class Connection(asyncio.Protocol):
    """State: one answer on its way. Also llhttp's callbacks."""

    def __init__(self) -> None:
        self.open = False
        self._ended: asyncio.Future[str] | None = None
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self._read = 0
        self._first_at: float | None = None
        self._reason = ""

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class is none of asyncio's
        self.open = True

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"not an HTTP answer: {error}")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._end("the connection was closed inside the answer")

    # llhttp's callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-router-reason":
            self._reason = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self._body += data
        if self._first_at is None and self._parser.get_status_code() == 200 and self._has_text():
            self._first_at = perf_counter()

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.open = False
        if status != 200:
            self._end(f"status {status}: {self._body[:120].decode('utf-8', 'replace')}")
        elif b"data: [DONE]" not in self._body[-64:]:
            self._end("the stream ended without [DONE]")
        else:
            self._end("")

    async def ask(self, head: bytes, body: bytes, due_at: float) -> tuple[Asked, str]:
        """Writes. What came of it, and the answer's text. `due_at` by `perf_counter`."""
        self._begin()
        self._ended = asyncio.get_running_loop().create_future()
        began = perf_counter()
        self._transport.writelines([head, body])
        try:
            async with asyncio.timeout(PATIENCE_S):
                error = await self._ended
        except TimeoutError:
            error = f"no whole answer within {PATIENCE_S:g} s"
            self.close()
        ended = perf_counter()
        if error:
            return Asked(began - due_at, error=error), ""
        usage, text = self._told()
        if self._first_at is None:
            return Asked(began - due_at, error="the answer has no text"), ""
        details = usage.prompt_tokens_details
        return Asked(
            began - due_at,
            self._first_at - began,
            ended - began,
            usage.prompt_tokens,
            usage.completion_tokens,
            None if details is None else details.cached_tokens,
            reason=self._reason,
        ), text

    def close(self) -> None:
        """Writes. At once; what is on its way is lost."""
        self.open = False
        self._transport.abort()

    def _has_text(self) -> bool:
        """Writes how far the events were read. Whether one of them holds text."""
        while (end := self._body.find(b"\n\n", self._read)) >= 0:
            chunk = _chunk(bytes(self._body[self._read : end]))
            self._read = end + 2
            if chunk is not None and any(choice.delta.content for choice in chunk.choices):
                return True
        return False

    def _told(self) -> tuple[_Usage, str]:
        """Reads. The answer's usage and text."""
        usage, pieces = _Usage(), []
        for event in bytes(self._body).split(b"\n\n"):
            chunk = _chunk(event)
            if chunk is not None:
                usage = chunk.usage or usage
                pieces += [choice.delta.content or "" for choice in chunk.choices]
        return usage, "".join(pieces)

    def _end(self, error: str) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(error)


def _chunk(event: bytes) -> _Chunk | None:
    """None for what is no chunk: comments, the end mark."""
    try:
        return _CHUNK.decode(event.removeprefix(b"data: "))
    except msgspec.DecodeError:
        return None


class Asker:
    """State: idle connections to one router."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Connection] = []

    async def ask(self, body: bytes, session: str, due_at: float) -> tuple[Asked, str]:
        """Writes. What came of a request, and the answer's text; every failure is a value."""
        sessions = f"x-session-id: {session}\r\nx-smg-routing-key: {session}\r\n" if session else ""
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\n"
            f"content-type: application/json\r\n{sessions}content-length: {len(body)}\r\n\r\n"
        ).encode()
        try:
            connection = self._take() or await self._connect()
        except OSError as error:
            return Asked(perf_counter() - due_at, error=f"no connection: {error.strerror or error}"), ""
        try:
            asked = await connection.ask(head, body, due_at)
        except asyncio.CancelledError:  # nobody else knows this connection
            connection.close()
            raise
        if connection.open:
            self._idle.append(connection)
        return asked

    def close(self) -> None:
        """Writes. Closes the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, "127.0.0.1", self._port)
        return connection
