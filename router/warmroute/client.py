"""The router's side of a client's connection: frames requests, one exchange at a time, in order.

An inference request becomes an `Exchange`: an `Upload` if its body is passed on while it comes, a `Tunnel`
if it is a WebSocket. Anything else is handed, framed, to the control plane (FastAPI behind uvicorn's
protocol), on the same connection and port. Requests that are pipelined wait until the answer before them has
ended.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from warmroute.client_pipe import ClientPipe
from warmroute.dialects import Buffer
from warmroute.exchange import Exchange
from warmroute.tunnel import Tunnel
from warmroute.upload import KEPT_BYTES_MAX, Upload
from warmroute.wire.bodies import BadBody, ChunkedBody, SizedBody
from warmroute.wire.heads import HEAD_BYTES_MAX, BadHead, take_trace_fields
from warmroute.wire.replies import RouterError, too_large

if TYPE_CHECKING:
    from warmroute.control.bridge import ControlProtocol
    from warmroute.dialects.media import Media
    from warmroute.gateway import Gateway
    from warmroute.plan import Plan

# Pipelined bytes that are held behind a running exchange before the client is not read any further.
_BACKLOG_BYTES_MAX: Final = 64 * 1024

# How a TLS handshake begins, and no request: a record of that kind, version 3.
_HANDSHAKE: Final = b"\x16\x03"

Body = SizedBody | ChunkedBody


class ClientConnection(ClientPipe):
    """State: the request being read (head, then body), and the exchange being answered."""

    __slots__ = (
        "_backlog", "_body", "_control", "_gateway", "_held", "_plan", "_reserved", "_tunnel", "_upload",
        "exchange", "trace_fields",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, peer: str | None = None) -> None:
        super().__init__(peer)
        self._gateway = gateway
        self.exchange: Exchange | None = None
        self._upload: Upload | None = None
        """The exchange, while it takes the body as it comes."""
        self._tunnel: Tunnel | None = None
        """The exchange, once it takes whatever comes."""
        self._control: ControlProtocol | None = None
        self._held = b""
        """The beginning of a head."""
        self._plan: Plan | None = None
        self._body: Body | None = None
        """The request whose body is being read, and what is here of it."""
        self._reserved = 0
        """Bytes of the body that count against the router's buffer, until the answer has ended."""
        self._backlog = b""
        self.trace_fields = b""
        """Trace fields of the request that is being read or answered; only where the router traces."""

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(self._gateway.settings.max_client_buffer_bytes)
        clients = self._gateway.clients
        clients.add(self)
        if len(clients) > self._gateway.settings.max_connections:
            self._refuse(RouterError(503, "too_many_connections", "the router has as many clients as it may"))

    def data_received(self, data: bytes) -> None:
        if (
            self.exchange is not None
            or self._backlog  # what came before these bytes is still to be read
            or self.paused
            or (self._control is not None and self._control.busy)
        ):
            if self._upload is not None:
                self._upload.take(data)
                return
            if self._tunnel is not None:
                self._tunnel.take(data)
                return
            self._backlog += data
            if len(self._backlog) > _BACKLOG_BYTES_MAX:
                self.hold_reading()
        elif self.refused:
            self.silent = False
        elif self._plan is None or self._body is None:
            self._take_head(self._held + data if self._held else data)
        else:
            self._take_body(self._plan, self._body, data)

    def eof_received(self) -> bool:
        # A client that closed its side is gone: there is no half-open HTTP client.
        return self._tunnel is not None and self._tunnel.client_ended()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gateway.clients.discard(self)
        self._upload = self._tunnel = None
        self._forget_body()
        if self._control is not None:
            self._control.connection_lost(exc)
        if self.exchange is not None:
            exchange, self.exchange = self.exchange, None
            exchange.client_gone()

    def pause_writing(self) -> None:
        self.paused = True
        if self._control is not None:
            self.waiting_since = monotonic()
            self._control.pause_writing()
        if self.exchange is not None:
            self.exchange.pause()

    def resume_writing(self) -> None:
        self.paused = False
        if self._control is not None:
            self._control.resume_writing()
        if self.exchange is not None:
            self.exchange.resume()
        elif not self.refused:
            self._read_on()

    # --- one request ----------------------------------------------------------------------------

    def _take_head(self, data: bytes) -> None:
        if data.startswith(b"\r\n"):  # an empty line before a request is forgiven (RFC 9112 section 2.2)
            data = data.lstrip(b"\r\n")
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or end > HEAD_BYTES_MAX:
            if len(data) > HEAD_BYTES_MAX:
                self._refuse(RouterError(431, "head_too_large", "the request's head is too large"))
                return
            if b"\n\n" in data:  # its end, as the client sees it
                self._refuse(RouterError(400, "bad_request", "not an HTTP/1.1 request: bare line feeds"))
                return
            if data.startswith(_HANDSHAKE):
                self._gateway.connection_failed("tls_on_plain_port", self.address, "it begins with TLS")
                self.transport.close()
                return
            if not self._held:
                self.waiting_since = monotonic()
            self._held = data
            return
        self._held = b""
        head = data[:end]
        if self._gateway.tracing is not None:
            head, self.trace_fields = take_trace_fields(head)
        try:
            plan, length = self._gateway.heads.read(head)
        except BadHead as error:
            self._refuse(RouterError(400, "bad_request", f"not an HTTP/1.1 request: {error}"))
            return
        size = len(data) - end
        if size >= length <= self._gateway.small_body_bytes and not plan.chunked:
            body = data[end : end + length]
            if size > length:
                self._backlog = data[end + length :]
            self._request(plan, body)
        else:
            self._expect_body(plan, length, data, end)

    def _expect_body(self, plan: Plan, length: int, data: bytes, start: int) -> None:
        """A body that is large, not here yet, or comes in chunks."""
        gateway = self._gateway
        if plan.refusal is not None:
            self._refuse(plan.refusal, plan)
            return
        if length > gateway.settings.max_body_bytes:
            self._refuse(too_large(gateway.settings.max_body_bytes), plan)
            return
        if plan.media is not None and (plan.chunked or len(data) - start < length):
            self._pass_body_on(plan, plan.media, length, data[start:])
            return
        self._reserved = length
        if not gateway.hold(length):
            self._refuse(_FULL, plan)
            return
        begun = len(data) - start
        if begun == length and not plan.chunked:
            # All of it is here: 128 KB less to copy.
            self._request(plan, memoryview(data)[start:])
            return
        if plan.expects_continue and not begun and not plan.http_10:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.waiting_since = monotonic()
        self._plan = plan
        self._body = body = ChunkedBody() if plan.chunked else SizedBody(length)
        if begun:
            self._take_body(plan, body, data[start:])

    def _pass_body_on(self, plan: Plan, media: Media, length: int, begun: bytes) -> None:
        """A body that goes to the worker while it comes."""
        gateway = self._gateway
        self._reserved = KEPT_BYTES_MAX if plan.chunked else min(length, KEPT_BYTES_MAX)
        if not gateway.hold(self._reserved):
            self._refuse(_FULL, plan)
            return
        if plan.expects_continue and not begun and not plan.http_10:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.close_after_reply = not plan.keep_alive or gateway.stopping
        number = gateway.requests = gateway.requests + 1
        self.exchange = self._upload = upload = Upload(
            gateway, self, plan, media, length, monotonic(), number, gateway.request_id(plan, number)
        )
        if begun:
            upload.take(begun)

    def _take_body(self, plan: Plan, body: Body, data: bytes) -> None:
        gateway, before = self._gateway, body.held_bytes
        try:
            rest = body.feed(data)
        except BadBody as error:
            self._refuse(RouterError(400, "bad_request", f"malformed chunks: {error}"), plan)
            return
        more = body.held_bytes - before
        self._reserved += more
        held = not more or gateway.hold(more)
        if body.held_bytes > gateway.settings.max_body_bytes:
            self._refuse(too_large(gateway.settings.max_body_bytes), plan)
        elif not held:
            self._refuse(_FULL, plan)
        elif body.complete:
            self._backlog = rest
            self._plan = self._body = None
            self._request(plan, body.whole())

    def _forget_body(self) -> None:
        self._plan = self._body = None
        self._release_body()

    def _release_body(self) -> None:
        """The request's body is not held any longer."""
        self._gateway.release(self._reserved)
        self._reserved = 0

    def _request(self, plan: Plan, body: Buffer) -> None:
        """A whole request."""
        self.close_after_reply = not plan.keep_alive or self._gateway.stopping
        if plan.refusal is not None:
            self._gateway.turned_away(plan.refusal, self, plan)
            self.reply(plan.refusal, plan.request_id, anthropic=plan.anthropic, fields=plan.cross_origin)
            self._next()
        elif plan.parse is not None:
            gateway = self._gateway
            number = gateway.requests = gateway.requests + 1
            self.exchange = exchange = Exchange(
                gateway, self, plan, plan.parse, body, monotonic(), number,
                plan.request_id or b"%b%08x" % (gateway.request_id_prefix, number),
            )  # fmt: skip
            exchange.start()
        elif plan.tunnel is not None:
            gateway = self._gateway
            number = gateway.requests = gateway.requests + 1
            self.exchange = tunnel = Tunnel(
                gateway, self, plan, plan.tunnel, monotonic(), number, gateway.request_id(plan, number)
            )
            tunnel.start()
        else:
            if self._control is None:
                self._control = self._gateway.control.protocol(self.transport, self._control_done)
            self._control.serve(plan, body)

    # --- the answer -----------------------------------------------------------------------------

    def exchange_done(self) -> None:
        """The exchange's answer is written, whole."""
        self.exchange = None
        self._next()

    def answered_early(self) -> None:
        """The upload's answer is written, and the client still sends: it is to see the answer."""
        self.exchange = self._upload = None
        self._release_body()
        self.linger()
        self.go_on_reading()

    def upload_complete(self, rest: bytes) -> None:
        """The upload has its body; what came behind it is the next request."""
        self._upload = None
        self._backlog = rest

    def tunnel_opened(self, tunnel: Tunnel) -> None:
        """The worker has agreed: there is no HTTP on this connection any more."""
        self._tunnel = tunnel
        early, self._backlog = self._backlog, b""
        if early:
            tunnel.take(early)
        self.go_on_reading()

    def close_tunnel(self) -> None:
        """Closes, once the client has what was written to it."""
        self.exchange = self._tunnel = None
        self.waiting_since = monotonic()
        self.transport.close()

    def cut(self) -> None:
        """The answer cannot be completed: the client must see that. Closing alone would be the regular end of
        an answer without length."""
        self.exchange = self._upload = self._tunnel = None
        super().cut()

    def close_if_idle(self, since: float) -> None:
        """The router stops: closes a connection that has no request, and had none since that moment. An
        answer of the control plane that its reader has not taken since then is not waited for."""
        if self._control is not None and self._control.busy:
            if self.paused and self.waiting_since <= since:
                self.transport.abort()
        elif self.exchange is None and self._plan is None and not self._held and self.waiting_since <= since:
            self.transport.close()

    def check_time(self, now: float) -> None:
        """Called about once a second."""
        settings, waited_s = self._gateway.settings, now - self.waiting_since
        if self.exchange is not None:
            if self._upload is not None:
                self._upload.check_body(now)
            return
        if self._control is not None and self._control.busy:
            if self.paused and waited_s > settings.idle_timeout_s:
                self.transport.abort()
        elif self.refused:
            self.check_linger(now)
        elif self._plan is not None:
            if waited_s > settings.body_timeout_s:
                self._refuse(RouterError(408, "body_timeout", "the request's body came too slowly"))
        elif self._held:
            if waited_s > settings.head_timeout_s:
                self._refuse(RouterError(408, "head_timeout", "the request's head came too slowly"))
        elif waited_s > settings.keepalive_timeout_s:
            if self.transport.is_closing():  # it does not even take the rest of its last answer
                self.transport.abort()
            else:
                self.transport.close()
                self.waiting_since = now

    def _control_done(self) -> None:
        """The control plane has answered."""
        self._next()

    def _next(self) -> None:
        """The connection is free: close it, or go on with what the client has pipelined."""
        self.waiting_since = monotonic()
        if self._reserved:
            self._release_body()
        if self.close_after_reply:
            self.transport.close()
        elif not self.paused:
            self._read_on()

    def _read_on(self) -> None:
        self.go_on_reading()
        if self._backlog:
            # Not from here: a client that pipelines a thousand requests would nest a thousand calls.
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._backlog and self.exchange is None and not self.transport.is_closing():
            data, self._backlog = self._backlog, b""
            self.data_received(data)

    def _refuse(self, error: RouterError, plan: Plan | None = None) -> None:
        """An answer before the request's end. What else the client sends is read and dropped for a while:
        closing at once would reset the connection and lose the answer on its way."""
        self._forget_body()
        self._held = b""
        self.close_after_reply = True
        anthropic = plan is not None and plan.anthropic
        self._gateway.turned_away(error, self, plan)
        self.reply(
            error,
            None if plan is None else plan.request_id,
            anthropic=anthropic,
            fields=None if plan is None else plan.cross_origin,
        )
        self.linger()


_FULL: Final = RouterError(
    503, "buffers_full", "the router holds as many request bodies as it may", retry_after_s=1
)
