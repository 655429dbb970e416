"""A small streaming client of the OpenAI API: one protocol per connection, no task per request.

Why not httpx: client, router and engines share two cores in the demo, and a client that costs ten times the
router would measure itself. Framing is llhttp's, events are decoded only as far as they are needed.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import cast

import httptools
import msgspec

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 60.0
"""Of one whole answer: far beyond what an overloaded engine needs in the demo."""

_EVENT_END = b"\n\n"
_DATA = b"data: "
_DONE = b"[DONE]"


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] = []
    usage: _Usage | None = None


_CHUNK = msgspec.json.Decoder(_Chunk)


class Failed(Exception):
    """A request that got no whole answer; the message says why."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A whole streamed answer."""

    text: str
    ttft_s: float
    """To the first token's text, not to the head."""
    prompt_tokens: int
    cached_tokens: int
    """As the engine reports them."""


class _Connection(asyncio.Protocol):
    """State: one answer on its way. Also llhttp's callbacks."""

    def __init__(self) -> None:
        self.open = False
        self._transport: asyncio.Transport | None = None
        self._ended: asyncio.Future[None] | None = None
        self._begin()

    def _begin(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.pieces: list[str] = []
        self.body = bytearray()
        self.usage: _Usage | None = None
        self.first_text_at: float | None = None
        self.done = False

    # --- asyncio's callbacks ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class is none of asyncio's
        self.open = True

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(Failed(f"not an HTTP answer: {error}"))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._end(Failed("the connection was closed inside the answer"))

    # --- llhttp's callbacks -----------------------------------------------------------------------

    def on_body(self, data: bytes) -> None:
        self.body += data
        if self.parser.get_status_code() != 200:
            return
        *events, rest = self.body.split(_EVENT_END)
        if events:
            self.body = rest
            for event in events:
                self._event(bytes(event))

    def on_message_complete(self) -> None:
        status = self.parser.get_status_code()
        if status != 200:
            self._end(Failed(f"status {status}: {self.body[:200].decode('utf-8', 'replace')}"))
        elif not self.done:
            self._end(Failed("the stream ended without [DONE]"))
        else:
            self._end(None)

    # --- one request ------------------------------------------------------------------------------

    async def post(self, head: bytes, body: bytes) -> Answer:
        """Raises Failed."""
        assert self._transport is not None
        self._begin()
        self._ended = asyncio.get_running_loop().create_future()
        began = perf_counter()
        self._transport.writelines([head, body])
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await self._ended
        except TimeoutError:
            raise Failed(f"no whole answer within {ANSWER_TIMEOUT_S:g} s") from None
        if self.first_text_at is None:
            raise Failed("the answer had no text")
        if self.usage is None or self.usage.prompt_tokens_details is None:
            raise Failed("the answer did not tell its cached tokens")
        return Answer(
            "".join(self.pieces),
            self.first_text_at - began,
            self.usage.prompt_tokens,
            self.usage.prompt_tokens_details.cached_tokens or 0,
        )

    def close(self) -> None:
        """Closes at once, without waiting for what is on its way."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def _event(self, event: bytes) -> None:
        if not event.startswith(_DATA):
            return
        data = event[len(_DATA) :]
        if data == _DONE:
            self.done = True
            return
        try:
            chunk = _CHUNK.decode(data)
        except msgspec.DecodeError as error:
            self._end(Failed(f"an event that is no chunk: {error}"))
            self.close()
            return
        if chunk.usage is not None:
            self.usage = chunk.usage
        for choice in chunk.choices:
            if choice.delta.content:
                if self.first_text_at is None:
                    self.first_text_at = perf_counter()
                self.pieces.append(choice.delta.content)

    def _end(self, failure: Failed | None) -> None:
        if self._ended is not None and not self._ended.done():
            if failure is None:
                self._ended.set_result(None)
            else:
                self._ended.set_exception(failure)


class Client:
    """State: idle connections to one server."""

    def __init__(self, host: str, port: int, model: str) -> None:
        self._host, self._port, self._model = host, port, model
        self._idle: list[_Connection] = []

    async def chat(self, messages: list[dict[str, str]], tools: str, max_tokens: int, session: str) -> Answer:
        """One streamed chat completion. Raises Failed."""
        body = msgspec.json.encode(
            {
                "model": self._model,
                "messages": messages,
                **({"tools": msgspec.Raw(tools.encode())} if tools else {}),
                "max_tokens": max_tokens,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n"
            f"content-type: application/json\r\nx-session-id: {session}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode()
        connection = self._take() or await self._connect()
        try:
            answer = await connection.post(head, body)
        except BaseException:  # a cancellation too: nobody else knows this connection
            connection.close()
            raise
        if connection.open and connection.parser.should_keep_alive():
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        """Closes the idle connections; those in use are closed by the cancellation of their request."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        return None

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await asyncio.get_running_loop().create_connection(
                    _Connection, self._host, self._port
                )
        except TimeoutError:
            raise Failed("the router did not accept a connection in time") from None
        except OSError as error:
            raise Failed(f"no connection to the router: {error.strerror or error}") from None
        return connection
