"""One request's way through the router, from a whole body to the last byte of its answer.

    parse     the body says the model, the session and the prompt         dialects
    find      the owner of what the request is about, if one worker alone
              keeps that; who it is may have to be asked first            owners, owner_search
    identify  the prompt becomes a chain of block ids                     warmroute_policies.blocks
    admit     where there are limits: at once, when there is room, or not
              at all                                                      admission
    route     a worker is chosen and booked in one synchronous call       warmroute_policies.balancer
    send      to a warm connection; a failure before the answer's first
              byte goes to another worker                                 worker
    splice    the answer's bytes are handed on as they come, unless a tap is on them (`taps`)
    finish    once, on every path: the books, the metrics, the log

Where hedging is on, a second leg may run beside this one before the first byte, and take its place
(`hedging`).

The callbacks are called by the worker's connection (`take_head`, `take_piece`, `answer_ended`,
`answer_broke`, `declines`) and by the client's (`client_gone`). Two kinds of exchange are more than this: one
whose body is passed on while it comes (`upload`), and one that becomes a tunnel (`tunnel`). What they do in
another way is a method of its own here.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

from warmroute.dialects import BadRequest, Buffer, ParsedRequest, Parser
from warmroute.dialects.images import without_images
from warmroute.inject import UsageTap, with_usage
from warmroute.owners import IdTap, owner_failed, owner_left
from warmroute.refusals import NO_WORKER_S, routing_error
from warmroute.tls import why_not_connected
from warmroute.usage import TAIL_BYTES, find_usage
from warmroute.wire.answers import AnswerHead, drop_connection_fields
from warmroute.wire.cross_origin import without_cross_origin_fields
from warmroute.wire.replies import RouterError
from warmroute.worker import Receiver, WorkerConnection, WorkerPool
from warmroute_policies.blocks import NO_BLOCKS, PromptBlocks
from warmroute_policies.errors import RoutingError, Saturated
from warmroute_policies.types import Decision, Outcome, RoutingRequest, Usage, WorkerId

if TYPE_CHECKING:
    from warmroute.client import ClientConnection
    from warmroute.gateway import Gateway
    from warmroute.hedging import Hedge
    from warmroute.owners import Kept
    from warmroute.plan import Plan
    from warmroute.taps import Tap
    from warmroute_policies.admission.ticket import Ticket

log: Final = logging.getLogger("warmroute")

# An answer of these says nothing about the request: another worker may do better. Any other 5xx is
# passed on as it is.
_RETRIED_STATUS: Final = frozenset((500, 502, 503, 504))

# Nor do these, and nobody is to blame: the worker's queue is full, or it lost patience with the network.
_BUSY_STATUS: Final = frozenset((408, 429))

# A warm connection that was closed just when it was used says so at once. Later, the worker had the request.
_STALE_WITHIN_S: Final = 1.0

# Pieces of an answer whose ends are kept for the usage: an engine sends the counts, the end marker and
# the last chunk in up to three writes.
_TAIL_PIECES: Final = 4

# One decision in 16 is timed: the clock and the histogram would cost a twentieth of a decision.
_TIMED_EVERY_MASK: Final = 15

# What the router's own machine lacks when it cannot connect: no worker is to blame, another would not help.
_OWN_LACK: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM))

_NOT_PARSED: Final = ParsedRequest()

_FAULT: Final = RouterError(500, "internal_error", "the router could not route this request")

# Python 3.11 asks an enum's class for a member by way of `__getattr__`, a tenth of a microsecond.
_OK: Final = Outcome.OK


class _Words(dict[str, bytes]):
    """Reasons as bytes; policies have a handful of them."""

    def __missing__(self, reason: str) -> bytes:
        word = self[reason] = reason.encode()
        return word


_WORDS: Final = _Words()


class Exchange(Receiver):
    """State: what came, what was decided, which connection carries it, and how far the answer is."""

    __slots__ = (
        "began_at", "body", "client", "connecting", "connection", "decision", "expected_s", "finished",
        "first_byte_at", "first_piece", "flight", "gateway", "hedge", "let_in_at", "number", "on_fresh",
        "owner", "parse", "parsed", "pieces", "plan", "quiet_since", "reply_head", "request_id",
        "rerouted_at", "seen_pieces", "status", "tail", "tap", "ticket", "trace_field",
    )  # fmt: skip

    def __init__(
        self,
        gateway: Gateway,
        client: ClientConnection,
        plan: Plan,
        parse: Parser,
        body: Buffer,
        began_at: float,
        number: int,
        request_id: bytes,
    ) -> None:
        self.gateway = gateway
        self.client = client
        self.plan = plan
        self.parse = parse
        self.body = body
        """Kept until the client has a part of an answer: another worker may have to be asked."""
        self.began_at = self.let_in_at = began_at
        self.ticket: Ticket | None = None
        """Where there are limits: what it asked to be let in with."""
        self.number = number
        self.flight = number
        """What the balancer books it as: its number, unless its hedge goes on without it."""
        self.hedge: Hedge | None = None
        """A second leg, running or to be; only until there is a first byte."""
        self.request_id = request_id
        self.parsed = _NOT_PARSED
        self.owner: WorkerId | None = None
        """The only worker that has what the request is about."""
        self.decision: Decision | None = None
        self.expected_s = 0.0
        """Predicted time to first byte on the first worker; only where workers are judged by it."""
        self.connection: WorkerConnection | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.on_fresh = False
        """The warm connection turned out to be closed: a new one was made."""
        self.rerouted_at = 0.0
        self.trace_field = b""
        """Lines of the head for the worker that continue the client's trace; set by who traces."""
        self.reply_head = b""
        """The answer's head, which waits for the first byte behind it."""
        self.status = 0
        self.pieces = 0
        self.first_byte_at = 0.0
        self.first_piece = b""
        """Only of streams that count the prompt's tokens in their first event."""
        self.tap: Tap | None = None
        """Looks at the answer's body on its way."""
        self.tail: deque[bytes] | None = None
        """The ends of the last pieces; the usage is in there."""
        self.finished = False
        self.seen_pieces = 0
        """Pieces at the last look at the clock, and when that number had changed."""
        self.quiet_since = 0.0

    # --- there --------------------------------------------------------------------------------

    def start(self) -> None:
        """Parse, identify, admit; then `go`, at once or when there is room."""
        gateway, plan = self.gateway, self.plan
        try:
            self.parsed = parsed = self.parse(self.body)
            if plan.kept is not None and not self._is_at_hand(plan.kept):
                return
            material, model = parsed.material, parsed.model
            added_tokens: int | None = None
            if self.owner is not None:
                # The beginning of its prompt is kept there: what is here says how long the rest is.
                ratio = gateway.balancer.beliefs.ratio
                material, added_tokens = b"", int(parsed.prompt_bytes / ratio.bytes_per_token(model))
            elif model in gateway.images.names:
                material = without_images(material)
            request = RoutingRequest(
                self.number,
                model,
                PromptBlocks(material, gateway.salt(model, parsed.cache_salt)) if material else NO_BLOCKS,
                added_tokens,
                parsed.max_tokens,
                plan.session or parsed.session,
                parsed.priority,
                parsed.stream,
                self.owner,
            )
            admission = gateway.admission
            if admission is not None and not admission.admits(self, request):
                return
        except BadRequest as error:
            self._refuse(RouterError(400, "invalid_json", f"the request body is not valid: {error}"))
            return
        except Exception:  # a fault of ours must not cost the client an answer
            log.exception("the request could not be routed")
            self._refuse(_FAULT)
            return
        self.go(request, self.began_at)

    def go(self, request: RoutingRequest, now: float) -> None:
        """Route, send."""
        gateway, plan, parsed = self.gateway, self.plan, self.parsed
        self.let_in_at = now
        if gateway.observers.watching:
            gateway.observers.arrived(self, request, now)
        try:
            self.decision = decision = gateway.route(request, now)
        except RoutingError as error:
            self._refuse(routing_error(error))
            return
        except Exception:  # the policy may be anybody's
            log.exception("the request could not be routed")
            self._refuse(_FAULT)
            return
        gateway.exchanges[self.number] = self
        if plan.injects and parsed.stream:
            self._ask_for_usage()
        if gateway.times_matter:
            self.expected_s = gateway.balancer.fleet.queued_prefill_s[decision.slot]
        if not self.number & _TIMED_EVERY_MASK:
            gateway.metrics.decision_s.observe(monotonic() - now)
        self._send(decision)
        if gateway.hedging is not None and parsed.stream and plan.repeatable:
            self.hedge = gateway.hedging.watch(self, decision)
        if gateway.observers.watching:
            gateway.observers.routed(self, decision, now)

    def _is_at_hand(self, kept: Kept) -> bool:
        """Whether the worker is known that has to take the request, if any has to. Else the client is told,
        or `start` is called again when all workers have been asked."""
        gateway, thing = self.gateway, kept.thing or self.parsed.kept
        if kept.creates:
            self.tap = IdTap(gateway.owners, kept.creates)
        if not thing or self.owner is not None:
            return True
        self.owner = owner = gateway.owners.find(thing)
        if owner is None:
            self.connecting = asyncio.get_running_loop().create_task(self._find_owner(thing))
            return False
        if owner not in gateway.workers:
            self._refuse(owner_left(thing, owner))
            return False
        return True

    async def _find_owner(self, thing: str) -> None:
        found = await self.gateway.owner_search.find(thing, self.plan.head.fields)
        self.connecting = None
        if isinstance(found, RouterError):
            self._refuse(found)
        elif found not in self.gateway.workers:
            self._refuse(owner_left(thing, found))
        else:
            self.owner = found
            self.start()

    def _ask_for_usage(self) -> None:
        """In the stead of a client that did not ask; it will not see that it was asked."""
        body = with_usage(self.body)
        if body is not None:
            self.body = body
            self.tap = UsageTap()

    def _send(self, decision: Decision) -> None:
        """To a warm connection of the chosen worker; else connects, the only thing that awaits."""
        pool = self.gateway.pools[decision.slot]
        if pool.probe and self.plan.proves:
            self.gateway.workers.probe_sent(pool.worker_id, self.number)
        connection = self._warm(pool)
        if connection is None:
            self.connect_to(pool)
        else:
            self._send_on(connection, pool)

    def _warm(self, pool: WorkerPool) -> WorkerConnection | None:
        return pool.take()

    def connect_to(self, pool: WorkerPool) -> None:
        """Writes. Sends the request on a new connection."""
        self.connecting = asyncio.get_running_loop().create_task(self._connect(pool))

    async def _connect(self, pool: WorkerPool) -> None:
        try:
            async with asyncio.timeout(self.gateway.settings.connect_timeout_s):
                connection = await pool.connect()
        except TimeoutError:
            self.connecting = None
            self._worker_failed("connect_timeout", "the worker did not accept a connection in time")
        except OSError as error:
            self.connecting = None
            if error.errno in _OWN_LACK:
                self._exhausted()
                return
            self._worker_failed("connect", f"no connection to the worker: {why_not_connected(error)}")
        else:
            self.connecting = None
            self._send_on(connection, pool)

    def _send_on(self, connection: WorkerConnection, pool: WorkerPool) -> None:
        self.connection = connection
        connection.send(self, self.head_for(pool), self.body)

    def head_for(self, pool: WorkerPool) -> bytes:
        """Reads. The request's head, for a worker."""
        return b"%b%b%bcontent-length: %d\r\nx-request-id: %b\r\n\r\n" % (
            self.plan.forwarded, pool.host_field, self.trace_field, len(self.body), self.request_id,
        )  # fmt: skip

    # --- back: called by the worker's connection ------------------------------------------------

    def declines(self, status: int) -> bool:
        """Whether this answer is dropped because another worker is asked."""
        if status in _RETRIED_STATUS:
            return self._another_worker("status")
        return status in _BUSY_STATUS and self._reroute("busy")

    def take_head(self, head: AnswerHead, data: bytes) -> None:
        """The answer's head. It waits for the first byte behind it: until then another worker may be
        asked, and a stream's head comes long before its first token."""
        self.status = head.status
        if self.tap is not None:
            self.tap.begin(head, data, self._worker, http_10=self.plan.http_10)
        self.reply_head = self._reply_of(head, data)

    def _reply_of(self, head: AnswerHead, data: bytes) -> bytes:
        """The worker's head, or its head and body, with the router's own fields in it."""
        if self._stays(head):
            return self._with_fields(head.line, data, b"")
        close, data = self._closing(head, data)
        return self._with_fields(head.line, data, close)

    def _with_fields(self, line: bytes, data: bytes, close: bytes) -> bytes:
        decision, connection = self.decision, self.connection
        assert decision is not None
        assert connection is not None
        if self.plan.cross_origin is not None:
            close, data = close + self.plan.cross_origin, without_cross_origin_fields(data)
        return b"%b\r\nx-request-id: %b%b\r\nx-router-reason: %b\r\nx-router-predicted-hit-tokens: %d%b%b" % (
            line, self.request_id, connection.pool.name_field, _WORDS[decision.reason],
            decision.predicted_hit_tokens, close, data[len(line) :],
        )  # fmt: skip

    def _stays(self, head: AnswerHead) -> bool:
        """Whether both connections stay as they are behind this answer: there is nothing to change in it."""
        plan = self.plan
        return head.plain and plan.plain and not head.until_close and not self.gateway.stopping

    def _closing(self, head: AnswerHead, data: bytes) -> tuple[bytes, bytes]:
        """What the client's side of the connection makes different: its end, and old clients."""
        plan = self.plan
        data = drop_connection_fields(data, chunks_too=plan.http_10)
        stays = plan.keep_alive and not self.gateway.stopping
        if stays and not plan.http_10 and not head.until_close:
            return b"", data
        self.client.close_after_reply = True
        return b"\r\nconnection: close", data

    def take_piece(self, data: bytes) -> None:
        """A piece of the answer's body: handed on as it came."""
        if self.pieces:
            self.client.transport.write(data if self.tap is None else self.tap.take(data))
        else:
            self._take_first_piece(data)
        self.pieces += 1
        tail = self.tail
        if tail is None:
            tail = self.tail = deque(maxlen=_TAIL_PIECES)
        tail.append(data if len(data) <= TAIL_BYTES else data[-TAIL_BYTES:])

    def _take_first_piece(self, data: bytes) -> None:
        """From here on there is no way back: the client sees this answer."""
        now = self.first_byte_at = self.quiet_since = monotonic()
        if self.hedge is not None:
            self.hedge.first_answered(self.status, now)
        if self.status < 400:
            self.gateway.balancer.first_token(self.flight, now)
            if self.gateway.observers.watching:
                self.gateway.observers.first_byte(self, now)
            if self.plan.anthropic and self.parsed.stream:
                self.first_piece = data[:TAIL_BYTES]
        self.body = b""
        if self.tap is not None:
            data = self.tap.take(data)
        self.client.transport.write(self.reply_head + data)
        self.reply_head = b""

    def take_whole(self, head: AnswerHead, data: bytes, end: int) -> None:
        """Head and body at once, as a plain answer comes; the body begins at `end`."""
        self.pieces = 1
        self.status = head.status
        if self.hedge is not None:
            self.hedge.first_answered(head.status, monotonic())
        if self.tap is not None:
            self.tap.whole(head, data[end:], self._worker)
        if self._stays(head):
            data = self._with_fields(head.line, data, b"")
        else:  # fields are taken out, and none of the body's lines is one
            data = self._reply_of(head, data[:end]) + data[end:]
        self.client.transport.write(data)
        self._ended(data[-TAIL_BYTES:])

    def answer_ended(self) -> None:
        """The answer is complete."""
        if not self.pieces:
            self.take_piece(b"")  # a head without a body
        if self.tap is not None:
            self.client.transport.write(self.tap.end())
        self._ended(b"".join(self.tail or ()))

    def _ended(self, tail: bytes) -> None:
        if self.client.paused:
            self.resume()  # the next request on this connection may be another client's
        status, connection = self.status, self.connection
        self.connection = None
        if status < 500 and connection is not None:
            connection.pool.answered += 1
        if status < 400:
            self._finish(_OK, find_usage(tail, self.first_piece))
        elif status < 500:
            self._finish(Outcome.CLIENT_ERROR, None)
        else:
            if status not in _RETRIED_STATUS:  # else it was blamed when a retry was considered
                self.gateway.workers.failed(self._worker, "status")
            self._finish(Outcome.WORKER_ERROR, None)
        self._done()

    def _done(self) -> None:
        """The answer is written: the client's connection is free for its next request."""
        self.client.exchange_done()

    def answer_broke(self, why: str) -> None:
        """The connection ended inside the answer, or its bytes are no answer."""
        connection = self.connection
        assert connection is not None
        was_stale = (
            connection.used
            and connection.silent
            and not self.on_fresh
            and monotonic() - max(self.let_in_at, self.rerouted_at) < _STALE_WITHIN_S
        )
        connection.close()
        self.connection = None
        if self.pieces:
            # The client has a part of the answer; only a cut tells it that the rest is missing.
            self.gateway.workers.failed(self._worker, "broken")
            self._finish(Outcome.WORKER_ERROR, None)
            self.client.cut()
        elif was_stale:
            # An idle connection that the worker had just closed: nobody failed, and nothing was computed.
            self.on_fresh = True
            self.connect_to(connection.pool)
        else:
            self._worker_failed("broken", why)

    # --- trouble --------------------------------------------------------------------------------

    def client_gone(self) -> None:
        """The client closed its connection: the worker stops computing at once."""
        self.let_go()
        if self.decision is not None:
            self._finish(Outcome.CLIENT_GONE, None)
        elif self.ticket is not None and self.ticket.waiting:
            self._left_waiting(self.ticket)
        # Else nothing is booked: its owner was being looked for, or a policy raised.

    def worker_removed(self) -> None:
        """The worker left by force: answers that are on their way still arrive."""

    def cancel(self) -> None:
        """The router stops and its patience is over."""
        self.let_go()
        self._finish(Outcome.CANCELLED, None)
        self.client.cut()

    def leave_worker(self) -> None:
        """Writes. The worker drains and its deadline has passed: another one is asked where nothing has
        reached the client, else the answer is cut."""
        if self.pieces:
            self.cancel()
        elif not self._reroute("drained"):
            self.let_go()
            self._finish(Outcome.CANCELLED, None)
            text = "the worker was taken out of service before it answered"
            self._reply(RouterError(503, "worker_drained", text, retry_after_s=NO_WORKER_S))

    def check_time(self, now: float) -> None:
        """Called about once a second: pieces are counted as they come and looked at only here."""
        if self.ticket is not None and self.ticket.waiting:
            return  # for room at another worker than the one that failed, up to a deadline of its own
        settings = self.gateway.settings
        if self.pieces != self.seen_pieces:
            self.seen_pieces, self.quiet_since = self.pieces, now
        if now - self.began_at > settings.total_timeout_s:
            self._timed_out(f"the request took longer than {settings.total_timeout_s:g} s")
        elif not self.pieces:
            if now - self.let_in_at > settings.first_byte_timeout_s:
                self._timed_out(f"the worker did not answer within {settings.first_byte_timeout_s:g} s")
        elif now - self.quiet_since > settings.idle_timeout_s:
            self._timed_out(f"no byte for {settings.idle_timeout_s:g} s")

    def streams_since(self, now: float) -> float:
        """Reads. Seconds since the first byte of an answer that is no error; 0.0 before."""
        return now - self.first_byte_at if self.first_byte_at and self.status < 400 else 0.0

    @property
    def ttft_s(self) -> float | None:
        """Reads. Seconds from the whole request to the first byte of a stream; None: there was none, it is an
        error, which may come at once, or the answer came whole."""
        if not self.first_byte_at or self.status >= 400 or not self.parsed.stream:
            return None
        return self.first_byte_at - self.began_at

    def pause(self) -> None:
        """The client reads more slowly than the worker writes."""
        if self.connection is not None:
            self.connection.transport.pause_reading()

    def resume(self) -> None:
        """The client has caught up."""
        if self.connection is not None:
            self.connection.transport.resume_reading()

    def _timed_out(self, why: str) -> None:
        client_stalls = self.pieces > 0 and self.client.paused
        self.let_go()
        if not client_stalls:
            self.gateway.workers.failed(self._worker, "timeout")
        if not self.pieces:
            self.status = 504
        self._finish(Outcome.CLIENT_GONE if client_stalls else Outcome.TIMEOUT, None)
        if self.pieces:
            self.client.cut()
        else:
            self._reply(RouterError(504, "worker_timeout", why))

    def _worker_failed(self, kind: str, why: str) -> None:
        """Before the first byte: another worker, or the end."""
        if not self._another_worker(kind):
            error = RouterError(502, "worker_failed", why)
            if self.owner is not None:
                error = owner_failed(self.owner, why)
            self.status = error.status
            self._finish(Outcome.WORKER_ERROR, None)
            self._reply(error)

    def _exhausted(self) -> None:
        """The router has no file or port left for a connection."""
        self._finish(Outcome.CANCELLED, None)
        self._reply(
            RouterError(
                503, "router_exhausted",
                "the router has no file or port left for a worker: raise its limit of open files",
                retry_after_s=1,
            )
        )  # fmt: skip

    def _another_worker(self, kind: str) -> bool:
        """Blames the worker; then sends the request to another one, within the budget for retries."""
        self.gateway.workers.failed(self._worker, kind)
        return self._reroute(kind)

    def _reroute(self, kind: str) -> bool:
        """Sends the request to another worker, if there is one and the budget for retries allows it."""
        gateway = self.gateway
        assert self.decision is not None
        if self.hedge is not None and self.hedge.first_failed():
            return True
        if self.decision.attempt >= gateway.settings.retries or self.owner is not None:
            return False
        if not gateway.retry_budget.take(monotonic(), gateway.requests):
            gateway.metrics.retries_refused += 1
            return False
        now = monotonic()
        try:
            decision = gateway.balancer.reroute(self.flight, now)
        except Saturated:
            if gateway.admission is None or not gateway.admission.again(self):
                return False
            gateway.metrics.retried(kind)
            self.let_go()
            return True
        except RoutingError:
            return False
        gateway.metrics.retried(kind)
        self.let_go()
        self._resend(decision, now)
        return True

    def go_on_with(self, flight: int, decision: Decision) -> None:
        """Writes. The hedge takes this leg's place."""
        self.flight, self.decision = flight, decision
        self.on_fresh = True  # its connection has had the time to turn out closed
        self.rerouted_at = monotonic()
        if self.gateway.observers.watching:
            self.gateway.observers.routed(self, decision, self.rerouted_at)

    def go_again(self, now: float) -> None:
        """It waited because all workers but the one that failed were full: now one has room, or none is
        left."""
        try:
            decision = self.gateway.balancer.reroute(self.flight, now)
        except RoutingError as error:
            self.refuse(
                RouterError(502, "worker_failed", f"the worker failed, and no other took over: {error}")
            )
        else:
            self._resend(decision, now)

    def _resend(self, decision: Decision, now: float) -> None:
        self.decision = decision
        self.on_fresh = False
        self.rerouted_at = now
        self._send(decision)
        if self.gateway.observers.watching:
            self.gateway.observers.routed(self, decision, now)

    @property
    def _worker(self) -> WorkerId:
        assert self.decision is not None
        return self.decision.worker

    def let_go(self) -> None:
        """Writes. Gives up the worker's connection, made or being made."""
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    # --- the end ----------------------------------------------------------------------------------

    def refuse(self, error: RouterError) -> None:
        """There was no room for it; it may have been with a worker that failed."""
        if self.decision is None:
            self._refuse(error)
        else:
            self.status = error.status
            self._finish(Outcome.WORKER_ERROR, None)
            self._reply(error)

    def _refuse(self, error: RouterError) -> None:
        """No worker was asked."""
        self.finished = True
        self.status = error.status
        if self.ticket is not None and self.gateway.admission is not None:
            self.gateway.admission.turned_away(self.ticket)
        self.gateway.metrics.refused(error)
        if self.gateway.observers.watching:
            self.gateway.observers.refused(self, error.code, monotonic())
        self._reply(error)

    def _left_waiting(self, ticket: Ticket) -> None:
        """The client closed its connection before any worker was asked."""
        self.finished = True
        gateway = self.gateway
        if gateway.admission is not None:
            gateway.admission.left(ticket)
        if gateway.observers.watching:
            gateway.observers.refused(self, "client_gone", monotonic())

    def _reply(self, error: RouterError) -> None:
        self.status = error.status
        self.client.reply(
            error, self.request_id, anthropic=self.plan.anthropic, fields=self.plan.cross_origin
        )
        self._done()

    def _finish(self, outcome: Outcome, usage: Usage | None) -> None:
        """Exactly once for every request that was routed."""
        if self.finished:
            return
        self.finished = True
        now = monotonic()
        gateway = self.gateway
        if self.hedge is not None:
            self.hedge.give_up()
        del gateway.exchanges[self.number]
        gateway.balancer.finish(self.flight, outcome, usage, now)
        gateway.finished(self, outcome, usage, now)
