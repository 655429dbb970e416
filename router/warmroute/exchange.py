"""One request's way through the router, from a whole body to the last byte of its answer.

    parse     the body says the model, the session and the prompt         dialects
    identify  the prompt becomes a chain of block ids                     warmroute_policies.blocks
    route     a worker is chosen and booked in one synchronous call       warmroute_policies.balancer
    send      to a warm connection; a failure before the answer's first
              byte goes to another worker                                 worker
    splice    the answer's bytes are handed on as they come
    finish    once, on every path: the books, the metrics, the log

The callbacks are called by the worker's connection (`take_head`, `take_piece`, `answer_ended`,
`answer_broke`, `declines`) and by the client's (`client_gone`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from warmroute.dialects import BadRequest, Parser
from warmroute.usage import TAIL_BYTES, find_usage
from warmroute.wire.answers import AnswerHead, ChunkedBody, UntilCloseBody, drop_connection_fields
from warmroute.wire.replies import RouterError
from warmroute.worker import Body, WorkerConnection, WorkerPool
from warmroute_policies.blocks import NO_BLOCKS, PromptBlocks
from warmroute_policies.errors import RoutingError, UnknownModel
from warmroute_policies.types import Decision, Outcome, RoutingRequest, Usage, WorkerId

if TYPE_CHECKING:
    from warmroute.client import ClientConnection
    from warmroute.gateway import Gateway
    from warmroute.plan import Plan


# An answer of these says nothing about the request: another worker may do better. Any other 5xx is
# passed on as it is.
_RETRIED_STATUS = frozenset((500, 502, 503, 504))

# About the time after which an ejected worker is tried again.
_RETRY_AFTER_S = 5

# Pieces of an answer whose ends are kept for the usage: an engine sends the counts, the end marker and
# the last chunk in up to three writes.
_TAIL_PIECES = 4


class Exchange:
    """State: what came, what was decided, which connection carries it, and how far the answer is."""

    __slots__ = (
        "_body", "_connecting", "_connection", "_gateway", "_on_fresh", "_parse", "_plan", "_reply_head",
        "_tail", "began_at", "client", "decision", "finished", "first_byte_at", "first_piece", "parsed",
        "pieces", "quiet_since", "request_id", "seen_pieces", "sent_at", "status", "wants_payload",
    )  # fmt: skip

    def __init__(
        self, gateway: Gateway, client: ClientConnection, plan: Plan, parse: Parser, body: bytes
    ) -> None:
        self._gateway = gateway
        self._plan = plan
        self._parse = parse
        self._body = body
        self._connection: WorkerConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._on_fresh = False
        self._reply_head = b""
        self._tail: deque[bytes] = deque(maxlen=_TAIL_PIECES)
        self.client = client
        self.began_at = self.sent_at = self.quiet_since = monotonic()
        self.request_id = plan.request_id or gateway.new_request_id()
        self.decision: Decision | None = None
        self.first_byte_at = 0.0
        self.first_piece = b""
        self.status = 0
        self.pieces = self.seen_pieces = 0
        self.finished = False
        self.wants_payload = plan.http_10
        """The client does not know chunked answers."""

    # --- there --------------------------------------------------------------------------------

    def start(self) -> None:
        """Parse, identify, route, send."""
        gateway, plan = self._gateway, self._plan
        gateway.exchanges.add(self)
        try:
            self.parsed = parsed = self._parse(self._body)
            request = RoutingRequest(
                gateway.next_number(),
                parsed.model,
                PromptBlocks(parsed.material, gateway.salt(parsed.model, parsed.cache_salt))
                if parsed.material
                else NO_BLOCKS,
                None,
                parsed.max_tokens,
                plan.session or parsed.session,
                parsed.priority,
                parsed.stream,
            )
            self.decision = gateway.balancer.route(request, self.began_at)
        except BadRequest as error:
            self._refuse(RouterError(400, "invalid_json", f"the request body is not valid: {error}"))
        except RoutingError as error:
            self._refuse(routing_error(error))
        else:
            gateway.metrics.routed(self.decision, parsed, monotonic() - self.began_at)
            self._send()

    def _send(self) -> None:
        """To a warm connection of the chosen worker; else connects, the only thing that awaits."""
        assert self.decision is not None
        pool = self._gateway.pools[self.decision.slot]
        if pool.probe:
            self._gateway.probe_sent(pool.worker_id)
        connection = None if self._on_fresh else pool.take()
        if connection is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect(pool))
        else:
            self._send_on(connection, pool)

    async def _connect(self, pool: WorkerPool) -> None:
        try:
            async with asyncio.timeout(self._gateway.settings.connect_timeout_s):
                connection = await pool.connect()
        except TimeoutError:
            self._connecting = None
            self._worker_failed("connect_timeout", "the worker did not accept a connection in time")
        except OSError as error:
            self._connecting = None
            self._worker_failed("connect", f"no connection to the worker: {error.strerror or error}")
        else:
            self._connecting = None
            self._send_on(connection, pool)

    def _send_on(self, connection: WorkerConnection, pool: WorkerPool) -> None:
        self._connection = connection
        self.sent_at = monotonic()
        body = self._body
        head = b"%b%bcontent-length: %d\r\nx-request-id: %b\r\n\r\n" % (
            self._plan.forwarded, pool.host_field, len(body), self.request_id,
        )  # fmt: skip
        connection.send(self, head, body)

    # --- back: called by the worker's connection ------------------------------------------------

    def declines(self, status: int) -> bool:
        """Whether this answer is dropped because another worker is asked."""
        return status in _RETRIED_STATUS and not self.finished and self._another_worker("status")

    def take_head(self, head: AnswerHead, data: bytes, rest: bytes, body: Body) -> None:
        """The answer's head. It waits for the first byte behind it: until then another worker may be
        asked, and a stream's head comes long before its first token."""
        self.status = head.status
        decision = self.decision
        assert decision is not None
        assert self._connection is not None
        if not head.keep_alive or self.wants_payload:
            data = drop_connection_fields(data, chunks_too=self.wants_payload)
        eol = data.find(b"\r\n")
        close = self.wants_payload or type(body) is UntilCloseBody or not self._plan.keep_alive
        self._reply_head = (
            b"%b\r\nx-request-id: %b%b\r\nx-router-reason: %b\r\nx-router-predicted-hit-tokens: %d%b%b"
            % (
                data[:eol],
                self.request_id,
                self._connection.pool.name_field,
                decision.reason.encode(),
                decision.predicted_hit_tokens,
                b"\r\nconnection: close" if close else b"",
                data[eol:],
            )
        )
        if close:
            self.client.close_after_reply = True
        if rest or body.done:
            self.take_piece(rest, body)

    def take_piece(self, data: bytes, body: Body) -> None:
        """A piece of the answer's body: handed on as it came."""
        if self.wants_payload and type(body) is ChunkedBody:
            data = body.take_payload()
        if self.pieces == 0:
            self._first_piece(data)
        else:
            self.client.transport.write(data)
        self.pieces += 1
        self._tail.append(data if len(data) <= TAIL_BYTES else data[-TAIL_BYTES:])

    def _first_piece(self, data: bytes) -> None:
        """From here on there is no way back: the client sees this answer."""
        now = self.first_byte_at = monotonic()
        assert self.decision is not None
        if self.status < 400:
            self._gateway.balancer.first_token(self.decision.request_id, now)
        if self._plan.anthropic and self.parsed.stream:
            self.first_piece = data[:TAIL_BYTES]
        self._body = b""
        self.client.write_head(self._reply_head, data)
        self._reply_head = b""

    def answer_ended(self) -> None:
        """The answer is complete."""
        self._connection = None
        status = self.status
        if status < 400:
            self._finish(Outcome.OK, find_usage(b"".join(self._tail), self.first_piece))
        elif status < 500:
            self._finish(Outcome.CLIENT_ERROR, None)
        else:
            self._gateway.worker_failed(self._worker, "status")
            self._finish(Outcome.WORKER_ERROR, None)
        self.client.exchange_done()

    def answer_broke(self, why: str) -> None:
        """The connection ended inside the answer, or its bytes are no answer."""
        connection = self._connection
        assert connection is not None
        was_stale = connection.used and connection.silent and not self._on_fresh
        connection.close()
        self._connection = None
        if self.pieces:
            # The client has a part of the answer; only a cut tells it that the rest is missing.
            self._gateway.worker_failed(self._worker, "broken")
            self._finish(Outcome.WORKER_ERROR, None)
            self.client.cut()
        elif was_stale:
            # An idle connection that the worker had just closed: nobody failed, and nothing was computed.
            self._on_fresh = True
            self._send()
        else:
            self._worker_failed("broken", why)

    # --- trouble --------------------------------------------------------------------------------

    def client_gone(self) -> None:
        """The client closed its connection: the worker stops computing at once."""
        self._let_go()
        self._finish(Outcome.CLIENT_GONE, None)

    def cancel(self) -> None:
        """The router stops and its patience is over."""
        self._let_go()
        self._finish(Outcome.CANCELLED, None)
        self.client.cut()

    def check_time(self, now: float) -> None:
        """Called about once a second: pieces are counted as they come and looked at only here."""
        settings = self._gateway.settings
        if self.pieces != self.seen_pieces:
            self.seen_pieces, self.quiet_since = self.pieces, now
        if now - self.began_at > settings.total_timeout_s:
            self._timed_out(f"the request took longer than {settings.total_timeout_s:g} s")
        elif not self.pieces:
            if now - self.sent_at > settings.first_byte_timeout_s:
                self._timed_out(f"the worker did not answer within {settings.first_byte_timeout_s:g} s")
        elif now - self.quiet_since > settings.idle_timeout_s:
            self._timed_out(f"no byte for {settings.idle_timeout_s:g} s")

    def pause(self) -> None:
        """The client reads more slowly than the worker writes."""
        if self._connection is not None:
            self._connection.transport.pause_reading()

    def resume(self) -> None:
        """The client has caught up."""
        if self._connection is not None:
            self._connection.transport.resume_reading()

    def _timed_out(self, why: str) -> None:
        client_stalls = self.pieces > 0 and self.client.paused
        self._let_go()
        if not client_stalls:
            self._gateway.worker_failed(self._worker, "timeout")
        self._finish(Outcome.CLIENT_GONE if client_stalls else Outcome.TIMEOUT, None)
        if self.pieces:
            self.client.cut()
        else:
            self._reply(RouterError(504, "worker_timeout", why))

    def _worker_failed(self, kind: str, why: str) -> None:
        """Before the first byte: another worker, or the end."""
        if not self._another_worker(kind):
            self._finish(Outcome.WORKER_ERROR, None)
            self._reply(RouterError(502, "worker_failed", why))

    def _another_worker(self, kind: str) -> bool:
        """Blames the worker; then sends the request to another one, within the budget for retries."""
        gateway = self._gateway
        assert self.decision is not None
        gateway.worker_failed(self._worker, kind)
        if self.decision.attempt >= gateway.settings.retries or not gateway.retry_budget.take(monotonic()):
            return False
        try:
            self.decision = gateway.balancer.reroute(self.decision.request_id, monotonic())
        except RoutingError:
            return False
        gateway.metrics.retried(kind)
        self._let_go()
        self._on_fresh = False
        self._send()
        return True

    @property
    def _worker(self) -> WorkerId:
        assert self.decision is not None
        return self.decision.worker

    def _let_go(self) -> None:
        """Gives up the worker's connection, made or being made."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- the end ----------------------------------------------------------------------------------

    def _refuse(self, error: RouterError) -> None:
        """No worker was asked."""
        self.finished = True
        self._gateway.exchanges.discard(self)
        self._gateway.metrics.refused(error)
        self._reply(error)

    def _reply(self, error: RouterError) -> None:
        self.status = error.status
        self.client.reply(error, self.request_id, anthropic=self._plan.anthropic)
        self.client.exchange_done()

    def _finish(self, outcome: Outcome, usage: Usage | None) -> None:
        """Exactly once for every request that was routed."""
        if self.finished:
            return
        self.finished = True
        now = monotonic()
        gateway = self._gateway
        gateway.exchanges.discard(self)
        assert self.decision is not None
        gateway.balancer.finish(self.decision.request_id, outcome, usage, now)
        gateway.finished(self, outcome, usage, now)


def routing_error(error: RoutingError) -> RouterError:
    """What a client is told when no worker was found."""
    if isinstance(error, UnknownModel):
        return RouterError(404, "model_not_found", str(error), param="model")
    return RouterError(503, "no_worker", str(error), retry_after_s=_RETRY_AFTER_S)
