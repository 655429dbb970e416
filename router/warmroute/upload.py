"""A request whose body is passed on while it comes: a form with a file, audio, images.

Its head and the first bytes say which model is meant; then a worker is chosen, and what the client sends goes
straight to it, with a length or in chunks, as the client does. Rules kept:

- The client is not read while its worker is being connected or does not keep up: of a body of any length the
  router holds a few hundred kilobytes.
- Another worker is asked only while everything that came is still held. Hence a new connection for every
  upload: a warm one may have been closed a moment ago, and what was written to it would be lost.
- A worker may answer before it has the whole body. The answer is passed on, the worker's connection carries
  nothing else, and the client's is closed once it has the answer.
- While the body comes, the client has `body_timeout_s` from piece to piece, and the worker `idle_timeout_s`.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from warmroute.dialects import BadRequest
from warmroute.dialects.media import Media
from warmroute.dialects.query import named
from warmroute.exchange import Exchange
from warmroute.pool import WorkerPool
from warmroute.wire.answers import AnswerHead, drop_connection_fields
from warmroute.wire.bodies import BadBody, ChunkedBody
from warmroute.wire.replies import RouterError, too_large
from warmroute.worker import WorkerConnection
from warmroute_policies.types import Outcome

if TYPE_CHECKING:
    from warmroute.client import ClientConnection
    from warmroute.gateway import Gateway
    from warmroute.plan import Plan

KEPT_BYTES_MAX: Final = 512 * 1024
"""What is held of a body for another try: the part in which the model is looked for, and what one read of the
socket may bring behind it (256 KB)."""

_MODEL_TOO_LATE: Final = RouterError(
    400,
    "model_not_named",
    "several models are served here, and the field `model` is not in the first 64 KiB of the form: write it "
    "before the file, or name the model in the URL (?model=NAME)",
    param="model",
)


class Upload(Exchange):
    """State: an exchange's, what of the body is held, how much has come, and whether it is complete."""

    __slots__ = (
        "_came_at", "_chunks", "_full", "_kept", "_kept_whole", "_left", "_length", "_media", "_routed",
        "_scanner", "_seen_bytes", "_size", "complete", "completed_at",
    )  # fmt: skip

    def __init__(
        self,
        gateway: Gateway,
        client: ClientConnection,
        plan: Plan,
        media: Media,
        length: int,
        began_at: float,
        number: int,
        request_id: bytes,
    ) -> None:
        super().__init__(gateway, client, plan, media.parse, b"", began_at, number, request_id)
        self._media = media
        self._scanner = media.scanner()
        self._chunks = ChunkedBody() if plan.chunked else None
        self._length = self._left = length
        """Of the body, and what of it is still to come; only where there are no chunks."""
        self._size = 0
        """Bytes that have come."""
        self._seen_bytes = 0
        """As many at the last look at the clock, and when that number had changed."""
        self._came_at = began_at
        self._kept = bytearray()
        """All that has come, if `_kept_whole`."""
        self._kept_whole = True
        self._routed = False
        self._full = False
        """The worker does not keep up: the client is not read."""
        self.complete = False
        """All of the body has come."""
        self.completed_at = 0.0

    # --- there: called by the client's connection -----------------------------------------------

    def take(self, data: bytes) -> None:
        """Writes. Bytes as they came from the client."""
        chunks = self._chunks
        if chunks is None:
            piece, rest = data[: self._left], data[self._left :]
            self._left -= len(piece)
            self.complete = not self._left
        else:
            try:
                rest = chunks.feed(data)
            except BadBody as error:
                self._client_failed(RouterError(400, "bad_request", f"malformed chunks: {error}"))
                return
            piece = bytes(chunks.data)
            chunks.data.clear()
            self.complete = chunks.complete
        self._size += len(piece)
        if self._size > self.gateway.settings.max_body_bytes:
            self.complete = False
            self._client_failed(too_large(self.gateway.settings.max_body_bytes))
            return
        self.gateway.metrics.upload_bytes += len(piece)
        if self.complete:
            self.completed_at = monotonic()
            self.client.upload_complete(rest)
        if self.connection is not None:
            self._pass_on(self.connection, piece)
        else:
            self._kept += piece
            if not self._routed:
                self._find_model()

    def _pass_on(self, connection: WorkerConnection, piece: bytes) -> None:
        if self._kept_whole and len(self._kept) + len(piece) <= KEPT_BYTES_MAX:
            self._kept += piece
        else:
            self._kept_whole = False  # from here on nobody else can be asked
            self._kept.clear()
        framed = self._framed(piece)
        if framed:
            connection.transport.write(framed)

    def _framed(self, piece: bytes) -> bytes:
        """As it goes to the worker."""
        if self._chunks is None:
            return piece
        chunk = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
        return chunk + b"0\r\n\r\n" if self.complete else chunk

    def _find_model(self) -> None:
        """Goes on once it is known, or known that it will not be."""
        model, scanner = self._media.model, self._scanner
        if scanner is not None:
            try:
                scanner.look(self._kept, whole=self.complete)
            except BadRequest as error:
                self._client_failed(RouterError(400, "bad_request", str(error), param="model"))
                return
            if not scanner.done and not self.complete:
                return
            model = scanner.model
            if not (model or scanner.ended or self.complete) and self._has_to_name_one():
                self._client_failed(_MODEL_TOO_LATE)
                return
        self._routed = True
        self.parse = named(model)
        self.gateway.metrics.uploads += 1
        self.client.hold_reading()  # until there is somebody who takes what comes
        self.start()

    def _has_to_name_one(self) -> bool:
        return self._media.names_model and len(self.gateway.balancer.models()) > 1

    def _warm(self, pool: WorkerPool) -> WorkerConnection | None:
        return None

    def _send_on(self, connection: WorkerConnection, pool: WorkerPool) -> None:
        self.connection = connection
        self._full = False
        self._came_at = monotonic()  # the client could not send until now
        framing = (
            b"content-length: %d" % self._length if self._chunks is None else b"transfer-encoding: chunked"
        )
        head = b"%b%b%b%b\r\nx-request-id: %b\r\n\r\n" % (
            self.plan.forwarded, pool.host_field, self.trace_field, framing, self.request_id,
        )  # fmt: skip
        connection.send(self, head, self._framed(bytes(self._kept)))
        if not self._full:
            self.client.go_on_reading()

    def worker_full(self) -> None:
        self._full = True
        if not self.complete:
            self.client.hold_reading()

    def worker_drained(self) -> None:
        self._full = False
        self._came_at = monotonic()  # nor until now
        self.client.go_on_reading()

    # --- back -------------------------------------------------------------------------------------

    def keeps(self, head: AnswerHead) -> bool:
        return head.keep_alive and self.complete

    def _closing(self, head: AnswerHead, data: bytes) -> tuple[bytes, bytes]:
        if self.complete:
            return super()._closing(head, data)
        self.client.close_after_reply = True
        return b"\r\nconnection: close", drop_connection_fields(data, chunks_too=self.plan.http_10)

    def _stays(self, head: AnswerHead) -> bool:
        return self.complete and super()._stays(head)

    def _done(self) -> None:
        if self.complete:
            self.client.exchange_done()
        else:
            self.client.answered_early()

    # --- trouble ----------------------------------------------------------------------------------

    def check_body(self, now: float) -> None:
        """Called about once a second while the body comes."""
        settings = self.gateway.settings
        if self._size != self._seen_bytes:
            self._seen_bytes, self._came_at = self._size, now
        # What is needed to route it has the time that any body has, however it dribbles.
        quiet_s = now - (self._came_at if self._routed else self.began_at)
        if self._routed and self.connection is None:
            pass  # the client is not read, and connecting has an end of its own
        elif self._full and quiet_s > settings.idle_timeout_s:
            self._timed_out(f"the worker has not read the request's body for {settings.idle_timeout_s:g} s")
        elif not self._full and quiet_s > settings.body_timeout_s:
            self._client_failed(RouterError(408, "body_timeout", "the request's body came too slowly"))

    def check_time(self, now: float) -> None:
        settings = self.gateway.settings
        if self.ticket is not None and self.ticket.waiting:
            return  # as any exchange
        if self.pieces or now - self.began_at > settings.total_timeout_s:
            super().check_time(now)
        elif self.complete and now - max(self.completed_at, self.let_in_at) > settings.first_byte_timeout_s:
            self._timed_out(f"the worker did not answer within {settings.first_byte_timeout_s:g} s")

    def _reroute(self, kind: str) -> bool:
        if not self._kept_whole or not super()._reroute(kind):
            return False
        self.client.hold_reading()
        return True

    def _worker_failed(self, kind: str, why: str) -> None:
        super()._worker_failed(kind, why if self.complete else f"{why}, before it had the whole request")

    def _client_failed(self, error: RouterError) -> None:
        """What came is no request, or does not come. The worker is not to blame, and has not answered."""
        if not self._routed:
            self._refuse(error)
            return
        self.let_go()
        self._finish(Outcome.CLIENT_GONE, None)
        if self.pieces:
            self.client.cut()
        else:
            self._reply(error)

    def _reply(self, error: RouterError) -> None:
        if not self.complete:
            self.client.close_after_reply = True
        super()._reply(error)
