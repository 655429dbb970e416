"""A WebSocket: a request that becomes a tunnel between its client and a worker.

The handshake is routed as any request is, and another worker is asked when one fails before it has answered.
A worker that agrees (101) gets what the client sends from then on, and the client what the worker sends; the
router looks at none of it. Rules kept:

- From the handshake to the end it is one request in flight: one `route`, one `finish`.
- Each side is read only as fast as the other one takes it. Either may end what it says and still listen; but
  where one of them is reached by TLS, which knows no such thing, the end of either is the end of both.
- It may last as long as somebody says something within `tunnel_idle_timeout_s`; `total_timeout_s` is for
  answers. It ends with the router's grace, or when its worker is removed by force.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from warmroute.dialects.query import named
from warmroute.exchange import Exchange
from warmroute.pool import WorkerPool
from warmroute.wire.answers import AnswerHead
from warmroute.worker import WorkerConnection
from warmroute_policies.types import Outcome, Usage

if TYPE_CHECKING:
    from warmroute.client import ClientConnection
    from warmroute.gateway import Gateway
    from warmroute.plan import Plan

_SWITCHING = 101


class Tunnel(Exchange):
    """State: an exchange's, and which sides have ended."""

    __slots__ = ("_client_ended", "_worker_ended", "opened")

    def __init__(
        self,
        gateway: Gateway,
        client: ClientConnection,
        plan: Plan,
        model: str,
        began_at: float,
        number: int,
        request_id: bytes,
    ) -> None:
        super().__init__(gateway, client, plan, named(model), b"", began_at, number, request_id)
        self.opened = False
        """The worker has agreed: from here on bytes are passed on as they come."""
        self._client_ended = False
        self._worker_ended = False

    # --- the handshake --------------------------------------------------------------------------

    def _warm(self, pool: WorkerPool) -> WorkerConnection | None:
        return None  # it would not come back

    def _send_on(self, connection: WorkerConnection, pool: WorkerPool) -> None:
        self.connection = connection
        head = b"%b%b%bconnection: Upgrade\r\nupgrade: websocket\r\nx-request-id: %b\r\n\r\n" % (
            self.plan.forwarded, pool.host_field, self.trace_field, self.request_id,
        )  # fmt: skip
        connection.send(self, head, b"")

    def switches(self) -> bool:
        return True

    def take_head(self, head: AnswerHead, data: bytes) -> None:
        if head.status != _SWITCHING:
            super().take_head(head, data)
            return
        self.status = head.status
        self.reply_head = self._with_fields(head.line, data, b"")
        super().take_piece(b"")  # at once: the client waits for it before it says a word
        self.opened = True
        self.gateway.metrics.tunnels += 1
        self.client.tunnel_opened(self)

    # --- both ways --------------------------------------------------------------------------------

    def take(self, data: bytes) -> None:
        """Writes. Bytes from the client."""
        self.pieces += 1
        if self.connection is not None and not self._client_ended:
            self.connection.transport.write(data)

    def take_piece(self, data: bytes) -> None:
        if self.opened:
            self.pieces += 1
            self.client.transport.write(data)
        else:
            super().take_piece(data)

    def worker_full(self) -> None:
        self.client.hold_reading()

    def worker_drained(self) -> None:
        self.client.go_on_reading()

    # --- the end ----------------------------------------------------------------------------------

    def client_ended(self) -> bool:
        """Writes. The client has said all it will say; whether it may still be told something."""
        self._client_ended = True
        if self._worker_ended or self.connection is None or not self._ends_apart(self.connection):
            self._close()
            return False
        self.connection.transport.write_eof()
        return True

    def worker_ended(self) -> bool:
        if not self.opened:
            return False
        self._worker_ended = True
        if self._client_ended or self.connection is None or not self._ends_apart(self.connection):
            self._close()
            return False
        self.client.transport.write_eof()
        return True

    def _ends_apart(self, connection: WorkerConnection) -> bool:
        """Reads. Whether one side may end before the other one."""
        return connection.transport.can_write_eof() and self.client.transport.can_write_eof()

    def answer_broke(self, why: str) -> None:
        if self._worker_ended:  # it does not listen any more either
            self.connection = None
            self._close()
        else:
            super().answer_broke(why)

    def client_gone(self) -> None:
        if self.opened:
            self.let_go()
            self._finish(Outcome.OK, None)
        else:
            super().client_gone()

    def worker_removed(self) -> None:
        if self.opened:
            self._close(waits=False)

    def check_time(self, now: float) -> None:
        if not self.opened:
            super().check_time(now)
        elif self.pieces != self.seen_pieces:
            self.seen_pieces, self.quiet_since = self.pieces, now
        elif now - self.quiet_since > self.gateway.settings.tunnel_idle_timeout_s:
            self._close(Outcome.TIMEOUT, waits=False)

    def _ended(self, tail: bytes) -> None:
        if self.opened:
            self.connection = None
            self._close()
        else:
            super()._ended(tail)

    def _close(self, outcome: Outcome = Outcome.OK, *, waits: bool = True) -> None:
        """Both sides, once they have what was written to them; unless it `waits`, what the worker has not
        read by now it never will."""
        if self.connection is not None:
            if waits:
                self.connection.finish()
            else:
                self.connection.close()
            self.connection = None
        self._finish(outcome, None)
        self.client.close_tunnel()

    def _finish(self, outcome: Outcome, usage: Usage | None) -> None:
        if self.opened and not self.finished:
            self.gateway.metrics.tunnels -= 1
        super()._finish(outcome, usage)
