"""One request's way through the router, from a whole body to the last byte of its answer.

    parse     the body says the model, the session and the prompt         dialects
    find      the owner of what the request is about, if one worker alone
              keeps that; who it is may have to be asked first            owners, owner_search
    identify  the prompt becomes a chain of block ids                     warmroute_policies.blocks
    tell      where engines tell what they hold: its tokens, too, which may
              take a thread                                               tokens
    admit     where there are limits: at once, when there is room, or not
              at all                                                      admission
    route     a worker is chosen and booked in one synchronous call       warmroute_policies.balancer
    send      to a warm connection; a failure before the answer's first
              byte goes to another worker                                 attempts, worker
    splice    the answer's bytes are handed on as they come, unless a tap
              is on them                                                  splice, taps
    finish    once, on every path: the books, the metrics, the log

Where hedging is on, a second leg may run beside this one before the first byte, and take its place
(`hedging`).

An exchange is its way there (`Attempts`) and its way back (`Splice`); the worker's connection calls what a
`Receiver` has, the client's calls `client_gone`. Two kinds are more than this: one whose body is passed on
while it comes (`upload`), and one that becomes a tunnel (`tunnel`). What they do in another way is a method
of its own here.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Final

from warmroute.attempts import RETRIED_STATUS, Attempts
from warmroute.dialects import BadRequest, Buffer, ParsedRequest, Parser
from warmroute.dialects.images import without_images
from warmroute.inject import UsageTap, with_usage
from warmroute.owner_search import owner_is_known
from warmroute.refusals import NO_WORKER_S, routing_error
from warmroute.usage import TAIL_BYTES, find_usage
from warmroute.wire.replies import RouterError
from warmroute_policies.blocks import NO_BLOCKS, PromptBlocks
from warmroute_policies.errors import RoutingError
from warmroute_policies.types import Decision, Outcome, RoutingRequest, Usage

if TYPE_CHECKING:
    from warmroute.admission import Admission
    from warmroute.client import ClientConnection
    from warmroute.gateway import Gateway
    from warmroute.plan import Plan
    from warmroute_policies.admission.ticket import Ticket

log: Final = logging.getLogger("warmroute")

# One decision in 16 is timed: the clock and the histogram would cost a twentieth of a decision.
_TIMED_EVERY_MASK: Final = 15

_NOT_PARSED: Final = ParsedRequest()

_FAULT: Final = RouterError(500, "internal_error", "the router could not route this request")

# Python 3.11 asks an enum's class for a member by way of `__getattr__`, a tenth of a microsecond.
_OK: Final = Outcome.OK


class Exchange(Attempts):
    """State: what came, what it waits for, and whether it has ended."""

    __slots__ = (
        "began_at", "expected_s", "finished", "first_piece", "parse", "parsed", "quiet_since", "seen_pieces",
        "ticket", "told_tokens", "went_on",
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
        super().__init__(gateway, client, plan, body, began_at, number, request_id)
        self.parse = parse
        self.parsed = _NOT_PARSED
        self.began_at = began_at
        self.ticket: Ticket | None = None
        """Where there are limits: what it asked to be let in with."""
        self.expected_s = 0.0
        """Predicted time to first byte on the first worker; only where workers are judged by it."""
        self.told_tokens = 0
        """Its prompt's tokens, where the router told them; what the engine counts is compared."""
        self.went_on = False
        """They were told from where an earlier turn ended."""
        self.first_piece = b""
        """Only of streams that count the prompt's tokens in their first event."""
        self.finished = False
        self.seen_pieces = 0
        """Pieces at the last look at the clock, and when that number had changed."""
        self.quiet_since = 0.0

    # --- there --------------------------------------------------------------------------------

    def start(self) -> None:
        """Parse, find, identify, tell, admit; then `go`, at once or when there is room."""
        gateway, plan = self.gateway, self.plan
        try:
            self.parsed = parsed = self.parse(self.body)
            if plan.kept is not None and not owner_is_known(self, plan.kept):
                return
            request = self._identify(plan, parsed)
            if gateway.tokens is not None:
                told = gateway.tokens.tell(self, request)
                if told is None:
                    return
                request = told
        except BadRequest as error:
            self._refuse(RouterError(400, "invalid_json", f"the request body is not valid: {error}"))
            return
        except Exception:  # a fault of ours must not cost the client an answer
            log.exception("the request could not be routed")
            self._refuse(_FAULT)
            return
        if gateway.admission is None or self._is_admitted(gateway.admission, request):
            self.go(request, self.let_in_at)

    def told(self, request: RoutingRequest) -> None:
        """The rest of `start`, for a request that waited for its tokens."""
        self.let_in_at = monotonic()  # telling them was not its worker's time
        admission = self.gateway.admission
        if admission is None or self._is_admitted(admission, request):
            self.go(request, self.let_in_at)

    def _identify(self, plan: Plan, parsed: ParsedRequest) -> RoutingRequest:
        """What the policy sees of the request."""
        gateway = self.gateway
        material, model = parsed.material, parsed.model
        added_tokens: int | None = None
        if self.owner is not None:
            # The beginning of its prompt is kept there: what is here says how long the rest is.
            ratio = gateway.balancer.beliefs.ratio
            material, added_tokens = b"", int(parsed.prompt_bytes / ratio.bytes_per_token(model))
        elif model in gateway.images.names:
            material = without_images(material)
        return RoutingRequest(
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

    def _is_admitted(self, admission: Admission, request: RoutingRequest) -> bool:
        """Whether it may go at once; else it waits for room, or was refused."""
        try:
            return admission.admits(self, request)
        except Exception:  # a fault of ours must not cost the client an answer
            log.exception("the request could not be routed")
            self._refuse(_FAULT)
            return False

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
        self._decided(decision, now)

    def _ask_for_usage(self) -> None:
        """In the stead of a client that did not ask; it will not see that it was asked."""
        body = with_usage(self.body)
        if body is not None:
            self.body = body
            self.tap = UsageTap()

    # --- back: called by the worker's connection ------------------------------------------------

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
            if status not in RETRIED_STATUS:  # else it was blamed when a retry was considered
                self.gateway.workers.failed(self._worker, "status")
            self._finish(Outcome.WORKER_ERROR, None)
        self._done()

    def _done(self) -> None:
        """The answer is written: the client's connection is free for its next request."""
        self.client.exchange_done()

    def _first_byte(self, piece: bytes, now: float) -> None:
        self.gateway.balancer.first_token(self.flight, now)
        if self.gateway.observers.watching:
            self.gateway.observers.first_byte(self, now)
        if self.plan.anthropic and self.parsed.stream:
            self.first_piece = piece[:TAIL_BYTES]

    def _decided(self, decision: Decision, now: float) -> None:
        if self.gateway.observers.watching:
            self.gateway.observers.routed(self, decision, now)

    def _waits_for_room(self) -> bool:
        admission = self.gateway.admission
        return admission is not None and admission.again(self)

    # --- trouble --------------------------------------------------------------------------------

    def client_gone(self) -> None:
        """The client closed its connection: the worker stops computing at once."""
        self.let_go()
        if self.decision is not None:
            self._finish(Outcome.CLIENT_GONE, None)
        elif self.ticket is not None and self.ticket.waiting:
            self._left_waiting(self.ticket)
        # Else nothing is booked: its owner or its tokens were being looked for, or a policy raised.

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

    @property
    def ttft_s(self) -> float | None:
        """Reads. Seconds from the whole request to the first byte of a stream; None: there was none, it is an
        error, which may come at once, or the answer came whole."""
        if not self.first_byte_at or self.status >= 400 or not self.parsed.stream:
            return None
        return self.first_byte_at - self.began_at

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
