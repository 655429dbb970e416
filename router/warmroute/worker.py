"""The router's side of one connection to a worker: what an answer does on its way through.

A `WorkerConnection` carries one exchange at a time. It frames the answer, hands every piece on as it
came, and goes back to its pool when the answer ended cleanly. No task and no future is made for a
request on a warm connection; only connecting awaits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Final, cast

from warmroute.dialects import Buffer
from warmroute.receiver import Receiver
from warmroute.wire import answers
from warmroute.wire.answers import AnswerHead, BadAnswer, Body, ChunkedBody, UntilCloseBody, body_of

if TYPE_CHECKING:
    from warmroute.pool import WorkerPool

# Below, joining head and body costs less than a second buffer in the write.
_JOINED_BYTES_MAX: Final = 16 * 1024


class WorkerConnection(asyncio.Protocol):
    """State: the transport, the exchange that it carries, and where in the answer it is."""

    __slots__ = (
        "_body", "_head", "_held", "_said_end", "_surplus", "exchange", "idle_since", "pool",
        "transport", "used",
    )  # fmt: skip

    def __init__(self, pool: WorkerPool) -> None:
        self.pool = pool
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.exchange: Receiver | None = None
        self.used = False
        """It carried an exchange before this one: the worker may have closed it while it was idle."""
        self.idle_since = 0.0
        """When its last exchange ended; 0.0: never carried one."""
        self._held = b""
        self._head: AnswerHead | None = None
        self._body: Body | None = None
        self._surplus = False
        """Bytes came behind the end of an answer."""
        self._said_end = False
        """The worker ended the connection in order; over TLS the socket's end alone says nothing."""

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        exchange, body = self.exchange, self._body
        if exchange is None:
            self.close()  # nobody asked
        elif body is None:
            self._take_head(exchange, data)
        else:
            self._take_body(exchange, body, data)

    def eof_received(self) -> bool:
        self._said_end = True
        return self.exchange is not None and self.exchange.worker_ended()

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.worker_full()

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.worker_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self.pool.forget(self)
        if exc is not None and self.exchange is not None and self._head is None:
            self._read_last_words()
        exchange = self.exchange
        if exchange is None:
            return
        if type(self._body) is UntilCloseBody and exc is None and self._said_end:  # a reset is no end
            self.exchange = self._body = None
            exchange.answer_ended()
        else:
            exchange.answer_broke(str(exc) if exc else "the worker closed the connection")

    def _read_last_words(self) -> None:
        """A worker may refuse a request and close before it has read it. The reset that follows overtakes its
        answer, which lies in the socket and is read nowhere else. Not over TLS: there lies no text."""
        if self.pool.tls is not None:
            return
        endpoint = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            data = os.read(endpoint.fileno(), answers.HEAD_BYTES_MAX)
            if data:
                self.data_received(data)

    # --- one exchange ---------------------------------------------------------------------------

    def send(self, exchange: Receiver, head: bytes, body: Buffer) -> None:
        """Writes. Starts an exchange on this idle connection."""
        self.exchange = exchange
        self._head = None
        self.used = self.idle_since > 0.0
        if len(body) < _JOINED_BYTES_MAX:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))

    @property
    def silent(self) -> bool:
        """Reads. Not one byte of the answer has come."""
        return self._head is None and not self._held

    def close(self) -> None:
        """Writes. Gives the connection up, and with it what it carries: the worker stops computing."""
        self.exchange = None
        self.pool.forget(self)
        self.transport.abort()

    def finish(self) -> None:
        """Writes. Gives the connection up once the worker has what was written to it."""
        self.exchange = None
        self.pool.forget(self)
        self.transport.close()

    def _take_head(self, exchange: Receiver, data: bytes) -> None:
        if self._held:
            data = self._held + data
            self._held = b""
        try:
            found = self.pool.heads.read(data)
        except BadAnswer as error:
            self.used = False  # no stale connection: it said something
            exchange.answer_broke(str(error))
            return
        if found is None:
            self._held = data
            return
        head, length, end = found
        if not 200 <= head.status < 400:
            if head.status == 101 and exchange.switches():
                self._switch(exchange, head, data, end)
                return
            if head.status < 200:
                self._pass_interim(exchange, head, data[end:])
                return
            if exchange.declines(head):
                return
        if length == len(data) - end and exchange.keeps(head):
            self.exchange = None
            self.pool.give_back(self)
            exchange.take_whole(head, data, end)
            return
        self._head = head
        self._body = body = body_of(head, length, payload=exchange.plan.http_10)
        exchange.take_head(head, data[:end])
        self._take_body(exchange, body, data[end:])

    def _switch(self, exchange: Receiver, head: AnswerHead, data: bytes, end: int) -> None:
        """From here on it is another protocol, until one of the two closes."""
        self._head = head
        self._body = body = UntilCloseBody()
        exchange.take_head(head, data[:end])
        if self.exchange is not None and len(data) > end:
            self._take_body(exchange, body, data[end:])

    def _pass_interim(self, exchange: Receiver, head: AnswerHead, data: bytes) -> None:
        """Drops interim answers (1xx): what clients may ask of them, the router does itself."""
        self.used = False  # whatever happens from here on: the worker had the request
        try:
            while head.status < 200:
                if head.status == 101:
                    raise BadAnswer("the worker changes to a protocol that nobody asked for")
                found = self.pool.heads.read(data)
                if found is None:
                    self._held = data
                    return
                head, _, end = found
                if head.status == 101:
                    break
                if head.status < 200:
                    data = data[end:]
        except BadAnswer as error:
            exchange.answer_broke(str(error))
        else:
            self._take_head(exchange, data)

    def _take_body(self, exchange: Receiver, body: Body, data: bytes) -> None:
        try:
            used = body.feed(data)
        except BadAnswer as error:
            exchange.answer_broke(str(error))
            return
        if used < len(data):
            piece = data[:used]
            self._surplus = True
        else:
            piece = data
        if exchange.plan.http_10 and type(body) is ChunkedBody:
            piece = body.take_payload()
        if piece:
            exchange.take_piece(piece)
        if body.done:
            head = self._head
            assert head is not None
            self._free(exchange, head)
            exchange.answer_ended()

    def _free(self, exchange: Receiver, head: AnswerHead) -> None:
        """The answer ended. Only a connection with nothing left over may carry another one."""
        self.exchange = self._body = None
        if exchange.keeps(head) and not self._surplus:
            self.pool.give_back(self)
        else:
            self.close()
