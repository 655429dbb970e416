"""One request's way through the router, from a whole body to the last byte of its answer.

    parse     the body says the model, the session and the prompt         dialects
    find      the owner of what the request is about, if one worker alone
              keeps that; who it is may have to be asked first            owners, owner_search
    identify  the prompt becomes a chain of block ids                     warmroute_policies.blocks
    route     a worker is chosen and booked in one synchronous call       warmroute_policies.balancer
    send      to a warm connection; a failure before the answer's first
              byte goes to another worker                                 worker
    splice    the answer's bytes are handed on as they come, unless a tap is on them (`taps`)
    finish    once, on every path: the books, the metrics, the log

The callbacks are called by the worker's connection (`take_head`, `take_piece`, `answer_ended`,
`answer_broke`, `declines`) and by the client's (`client_gone`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final, final

from warmroute.dialects import BadRequest, Buffer, ParsedRequest, Parser
from warmroute.dialects.images import without_images
from warmroute.inject import UsageTap, with_usage
from warmroute.owners import IdTap, owner_failed, owner_left
from warmroute.usage import TAIL_BYTES, find_usage
from warmroute.wire.answers import AnswerHead, drop_connection_fields
from warmroute.wire.replies import RouterError
from warmroute.worker import WorkerConnection, WorkerPool
from warmroute_policies.blocks import NO_BLOCKS, PromptBlocks
from warmroute_policies.errors import RoutingError, UnknownModel
from warmroute_policies.types import Decision, Outcome, RoutingRequest, Usage, WorkerId

if TYPE_CHECKING:
    from warmroute.client import ClientConnection
    from warmroute.gateway import Gateway
    from warmroute.owners import Kept
    from warmroute.plan import Plan
    from warmroute.taps import Tap

log: Final = logging.getLogger("warmroute")

# An answer of these says nothing about the request: another worker may do better. Any other 5xx is
# passed on as it is.
_RETRIED_STATUS: Final = frozenset((500, 502, 503, 504))

# A warm connection that was closed just when it was used says so at once. Later, the worker had the request.
_STALE_WITHIN_S: Final = 1.0

# About the time after which an ejected worker is tried again.
_RETRY_AFTER_S: Final = 5

# Pieces of an answer whose ends are kept for the usage: an engine sends the counts, the end marker and
# the last chunk in up to three writes.
_TAIL_PIECES: Final = 4

# One decision in 16 is timed: the clock and the histogram would cost a twentieth of a decision.
_TIMED_EVERY_MASK: Final = 15

_NOT_PARSED: Final = ParsedRequest()

# Python 3.11 asks an enum's class for a member by way of `__getattr__`, a tenth of a microsecond.
_OK: Final = Outcome.OK


class _Words(dict[str, bytes]):
    """Reasons as bytes; policies have a handful of them."""

    def __missing__(self, reason: str) -> bytes:
        word = self[reason] = reason.encode()
        return word


_WORDS: Final = _Words()


@final
class Exchange:
    """State: what came, what was decided, which connection carries it, and how far the answer is."""

    __slots__ = (
        "began_at", "body", "client", "connecting", "connection", "decision", "finished", "first_byte_at",
        "first_piece", "gateway", "number", "on_fresh", "owner", "parse", "parsed", "pieces", "plan",
        "quiet_since", "reply_head", "request_id", "rerouted_at", "seen_pieces", "status", "tail", "tap",
        "trace_field",
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
        self.began_at = began_at
        self.number = number
        self.request_id = request_id
        self.parsed = _NOT_PARSED
        self.owner: WorkerId | None = None
        """The only worker that has what the request is about."""
        self.decision: Decision | None = None
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
        """Parse, identify, route, send."""
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
            if gateway.observers.watching:
                gateway.observers.arrived(self, request, self.began_at)
            self.decision = decision = gateway.route(request, self.began_at)
        except BadRequest as error:
            self._refuse(RouterError(400, "invalid_json", f"the request body is not valid: {error}"))
            return
        except RoutingError as error:
            self._refuse(routing_error(error))
            return
        except Exception:  # the policy may be anybody's: its fault must not cost the client an answer
            log.exception("the request could not be routed")
            self._refuse(RouterError(500, "internal_error", "the router could not route this request"))
            return
        gateway.exchanges[self.number] = self
        if plan.injects and parsed.stream:
            self._ask_for_usage()
        if not self.number & _TIMED_EVERY_MASK:
            gateway.metrics.decision_s.observe(monotonic() - self.began_at)
        self._send(decision)
        if gateway.observers.watching:
            gateway.observers.routed(self, decision, self.began_at)

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
            self.gateway.probe_sent(pool.worker_id, self.number)
        connection = pool.take()
        if connection is None:
            self._connect_to(pool)
        else:
            self._send_on(connection, pool)

    def _connect_to(self, pool: WorkerPool) -> None:
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
            self._worker_failed("connect", f"no connection to the worker: {error.strerror or error}")
        else:
            self.connecting = None
            self._send_on(connection, pool)

    def _send_on(self, connection: WorkerConnection, pool: WorkerPool) -> None:
        self.connection = connection
        body = self.body
        head = b"%b%b%bcontent-length: %d\r\nx-request-id: %b\r\n\r\n" % (
            self.plan.forwarded, pool.host_field, self.trace_field, len(body), self.request_id,
        )  # fmt: skip
        connection.send(self, head, body)

    # --- back: called by the worker's connection ------------------------------------------------

    def declines(self, status: int) -> bool:
        """Whether this answer is dropped because another worker is asked."""
        return status in _RETRIED_STATUS and self._another_worker("status")

    def take_head(self, head: AnswerHead, data: bytes) -> None:
        """The answer's head. It waits for the first byte behind it: until then another worker may be
        asked, and a stream's head comes long before its first token."""
        self.status = head.status
        if self.tap is not None:
            self.tap.begin(head, data, self._worker, http_10=self.plan.http_10)
        self.reply_head = self._reply_of(head, data)

    def _reply_of(self, head: AnswerHead, data: bytes) -> bytes:
        """The worker's head, or its head and body, with the router's own fields in it."""
        decision, connection, plan, line = self.decision, self.connection, self.plan, head.line
        assert decision is not None
        assert connection is not None
        if head.keep_alive and plan.plain and not head.until_close and not self.gateway.stopping:
            close = b""
        else:
            close, data = self._closing(head, data)
        return b"%b\r\nx-request-id: %b%b\r\nx-router-reason: %b\r\nx-router-predicted-hit-tokens: %d%b%b" % (
            line, self.request_id, connection.pool.name_field, _WORDS[decision.reason],
            decision.predicted_hit_tokens, close, data[len(line) :],
        )  # fmt: skip

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
        if self.status < 400:
            self.gateway.balancer.first_token(self.number, now)
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
        if self.tap is not None:
            self.tap.whole(head, data[end:], self._worker)
        if not self.plan.plain:
            data = self._reply_of(head, data[:end]) + data[end:]
        else:
            data = self._reply_of(head, data)
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
        self.connection = None
        status = self.status
        if status < 400:
            self._finish(_OK, find_usage(tail, self.first_piece))
        elif status < 500:
            self._finish(Outcome.CLIENT_ERROR, None)
        else:
            if status not in _RETRIED_STATUS:  # else it was blamed when a retry was considered
                self.gateway.worker_failed(self._worker, "status")
            self._finish(Outcome.WORKER_ERROR, None)
        self.client.exchange_done()

    def answer_broke(self, why: str) -> None:
        """The connection ended inside the answer, or its bytes are no answer."""
        connection = self.connection
        assert connection is not None
        was_stale = (
            connection.used
            and connection.silent
            and not self.on_fresh
            and monotonic() - max(self.began_at, self.rerouted_at) < _STALE_WITHIN_S
        )
        connection.close()
        self.connection = None
        if self.pieces:
            # The client has a part of the answer; only a cut tells it that the rest is missing.
            self.gateway.worker_failed(self._worker, "broken")
            self._finish(Outcome.WORKER_ERROR, None)
            self.client.cut()
        elif was_stale:
            # An idle connection that the worker had just closed: nobody failed, and nothing was computed.
            self.on_fresh = True
            self._connect_to(connection.pool)
        else:
            self._worker_failed("broken", why)

    # --- trouble --------------------------------------------------------------------------------

    def client_gone(self) -> None:
        """The client closed its connection: the worker stops computing at once."""
        if self.decision is None:
            self._let_go()  # a search, or nothing: a policy raised, and nothing is booked
            return
        self._let_go()
        self._finish(Outcome.CLIENT_GONE, None)

    def cancel(self) -> None:
        """The router stops and its patience is over."""
        self._let_go()
        self._finish(Outcome.CANCELLED, None)
        self.client.cut()

    def check_time(self, now: float) -> None:
        """Called about once a second: pieces are counted as they come and looked at only here."""
        settings = self.gateway.settings
        if self.pieces != self.seen_pieces:
            self.seen_pieces, self.quiet_since = self.pieces, now
        if now - self.began_at > settings.total_timeout_s:
            self._timed_out(f"the request took longer than {settings.total_timeout_s:g} s")
        elif not self.pieces:
            if now - self.began_at > settings.first_byte_timeout_s:
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
        self._let_go()
        if not client_stalls:
            self.gateway.worker_failed(self._worker, "timeout")
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

    def _another_worker(self, kind: str) -> bool:
        """Blames the worker; then sends the request to another one, within the budget for retries."""
        gateway = self.gateway
        assert self.decision is not None
        gateway.worker_failed(self._worker, kind)
        if self.decision.attempt >= gateway.settings.retries or self.owner is not None:
            return False
        if not gateway.retry_budget.take(monotonic(), gateway.requests):
            return False
        try:
            self.decision = gateway.balancer.reroute(self.number, monotonic())
        except RoutingError:
            return False
        gateway.metrics.retried(kind)
        self._let_go()
        self.on_fresh = False
        self.rerouted_at = monotonic()
        self._send(self.decision)
        if gateway.observers.watching:
            gateway.observers.routed(self, self.decision, self.rerouted_at)
        return True

    @property
    def _worker(self) -> WorkerId:
        assert self.decision is not None
        return self.decision.worker

    def _let_go(self) -> None:
        """Gives up the worker's connection, made or being made."""
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    # --- the end ----------------------------------------------------------------------------------

    def _refuse(self, error: RouterError) -> None:
        """No worker was asked."""
        self.finished = True
        self.gateway.exchanges.pop(self.number, None)
        self.status = error.status
        self.gateway.metrics.refused(error)
        if self.gateway.observers.watching:
            self.gateway.observers.refused(self, error.code, monotonic())
        self._reply(error)

    def _reply(self, error: RouterError) -> None:
        self.status = error.status
        self.client.reply(error, self.request_id, anthropic=self.plan.anthropic)
        self.client.exchange_done()

    def _finish(self, outcome: Outcome, usage: Usage | None) -> None:
        """Exactly once for every request that was routed."""
        if self.finished:
            return
        self.finished = True
        now = monotonic()
        gateway, number = self.gateway, self.number
        del gateway.exchanges[number]
        gateway.balancer.finish(number, outcome, usage, now)
        gateway.finished(self, outcome, usage, now)


def routing_error(error: RoutingError) -> RouterError:
    """What a client is told when no worker was found."""
    if isinstance(error, UnknownModel):
        return RouterError(404, "model_not_found", str(error), param="model")
    return RouterError(503, "no_worker", str(error), retry_after_s=_RETRY_AFTER_S)
