"""A small HTTP/1.1 server on one asyncio protocol.

Requests are framed by llhttp (httptools); bodies are collected whole, answers are written by whoever handles
the request, through an `Exchange`. One request at a time per connection: what is pipelined waits, and past
`MAX_PIPELINED` the socket is not read. Frameworks cost more CPU per request than the engine model itself,
and a simulated fleet shares its machine with the router under test.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol, cast

import httptools
import msgspec

MAX_BODY_BYTES = 64 * 2**20
"""A prompt of a million tokens is about 4 MiB here; images as base64 need more."""
MAX_HEAD_BYTES = 64 * 1024
MAX_PIPELINED = 16
MAX_UNSENT_BYTES = 8 * 2**20
"""A client that does not read its answer is dropped past this much."""

_STATUS_LINE = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class HttpRequest:
    """One request: method, path without query, lower-case headers, whole body."""

    __slots__ = ("body", "headers", "keep_alive", "method", "path")

    def __init__(self, method: str, path: str, headers: dict[bytes, bytes], keep_alive: bool) -> None:
        self.method, self.path, self.headers, self.keep_alive = method, path, headers, keep_alive
        self.body: bytes | bytearray = b""


class Service(Protocol):
    """What handles requests. `handle` answers through the exchange, now or later."""

    connections: set[HttpConnection]

    def accept(self) -> bool:
        """May a new connection stay?"""

    def handle(self, exchange: Exchange) -> None: ...


class Exchange:
    """One request and its answer: either `respond`, or `start_stream`, `write`…, `end`.

    `on_disconnect` is called when the client goes away before the end.
    """

    __slots__ = ("_connection", "done", "on_disconnect", "request", "started")

    def __init__(self, connection: HttpConnection, request: HttpRequest) -> None:
        self._connection = connection
        self.request = request
        self.on_disconnect: Callable[[], None] | None = None
        self.started = False
        self.done = False

    def respond(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        head = self._head(status, content_type, f"content-length: {len(body)}")
        self._write(head if self.request.method == "HEAD" else head + body)
        self._finish()

    def respond_partly(self, body: bytes, keep_bytes: int) -> None:
        """Announce the whole body, send its first bytes, and abort the connection."""
        self._write(self._head(200, "application/json", f"content-length: {len(body)}") + body[:keep_bytes])
        self.abort(after_flush=True)

    def start_stream(self) -> None:
        self.started = True
        self._write(self._head(200, "text/event-stream; charset=utf-8", "transfer-encoding: chunked"))

    def write(self, data: bytes) -> None:
        """One HTTP chunk."""
        self._write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self, data: bytes) -> None:
        """A last chunk and the end of the stream."""
        self._write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        self._finish()

    def abort(self, *, after_flush: bool = False) -> None:
        """Break the connection; the client sees it die (after what was written has gone out, if asked)."""
        self.done = True
        self._connection.break_off(after_flush)

    def _head(self, status: int, content_type: str, length: str) -> bytes:
        close = "" if self.request.keep_alive else "connection: close\r\n"
        return _STATUS_LINE[status] + f"content-type: {content_type}\r\n{length}\r\n{close}\r\n".encode()

    def _write(self, data: bytes) -> None:
        self._connection.write(data)

    def _finish(self) -> None:
        self.done = True
        self._connection.exchange_done(self.request.keep_alive)


class HttpConnection(asyncio.Protocol):
    """One client connection. State: the parser, the exchange in progress, the requests behind it."""

    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self._service = service
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._current: Exchange | None = None
        self._waiting: deque[HttpRequest] = deque()
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._body = bytearray()
        self._request: HttpRequest | None = None

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface without the base class.
        stream = cast("asyncio.Transport", transport)
        if not self._service.accept():
            stream.abort()
            return
        self._transport = stream
        self._service.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "upgrades are not supported")
        except httptools.HttpParserError as error:
            self._refuse(400, f"malformed request: {error}")

    def eof_received(self) -> None:
        """A client that closes its side is gone, as for the engines' own servers: the transport closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._service.connections.discard(self)
        self._waiting.clear()
        exchange, self._current = self._current, None
        if exchange is not None and not exchange.done and exchange.on_disconnect is not None:
            exchange.on_disconnect()

    # The parser's side.

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body, self._head_bytes = b"", {}, bytearray(), 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value
        self._count_head(len(name) + len(value))

    def on_headers_complete(self) -> None:
        path = self._url.split(b"?", 1)[0].decode("latin-1")
        method = self._parser.get_method().decode("latin-1")
        self._request = HttpRequest(method, path, self._headers, self._parser.should_keep_alive())
        if self._headers.get(b"expect", b"").lower() == b"100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > MAX_BODY_BYTES:
            self._refuse(413, f"a body may have {MAX_BODY_BYTES} bytes")

    def on_message_complete(self) -> None:
        request, self._request = self._request, None
        if request is None or self._transport is None:
            return
        request.body = self._body
        if self._current is not None or self._waiting:
            self._waiting.append(request)
            if len(self._waiting) >= MAX_PIPELINED:
                self._transport.pause_reading()
        else:
            self._begin(request)

    # The exchange's side.

    @property
    def idle(self) -> bool:
        return self._current is None

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
            if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
                self._transport.abort()

    def exchange_done(self, keep_alive: bool) -> None:
        self._current = None
        if self._transport is None:
            return
        if not keep_alive:
            self._transport.close()
        elif self._waiting:
            # Not at once: the engine may be in the middle of handing out events.
            self._loop.call_soon(self._next)

    def break_off(self, after_flush: bool) -> None:
        if self._transport is not None:
            if after_flush:
                self._transport.close()
            else:
                self._transport.abort()

    def _next(self) -> None:
        if self._transport is not None and self._current is None and self._waiting:
            request = self._waiting.popleft()
            self._transport.resume_reading()
            self._begin(request)

    def _begin(self, request: HttpRequest) -> None:
        self._current = exchange = Exchange(self, request)
        self._service.handle(exchange)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, f"a request head may have {MAX_HEAD_BYTES} bytes")

    def _refuse(self, status: int, message: str) -> None:
        if self._transport is not None:
            error = {"message": message, "type": "BadRequestError", "param": None, "code": status}
            body = msgspec.json.encode({"error": error})
            head = (
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self._transport.write(_STATUS_LINE[status] + head.encode() + body)
            self._transport.close()
            self._transport = None
            self._request = None
