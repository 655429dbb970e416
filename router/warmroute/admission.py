"""Lets requests in: at once, when there is room, or not at all. The core decides (`policies: admission`).

    admits    a new request: its tenant's rate limits, then room at a worker that serves it; else it waits
    again     a request whose worker failed while all others are full: it waits at the head
    finished  a request ended: what it cost is corrected, and whoever is next goes

Rules kept. A request that waits is on nobody's books and in no index: it is routed when there is room, from
what is known then. Whoever waits is overtaken by nobody of its line: room is given away in one place,
`_serve`, which runs after all that happens in the same turn of the event loop. Nothing is forgotten: beside
that everything is looked at every `_LOOK_S` while somebody waits. A client that leaves takes its request with
it; but one whose body is passed on is not read while it waits, and is missed only when it goes on.

While workers are sick those that wait for them go on waiting until their deadlines; where none is left they
are told at once. New requests are told at once in both cases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast, final

from warmroute import refusals
from warmroute.admission_counts import DISPLACED, LEFT, REFUSED, SERVED, TIMEOUT, AdmissionCounts
from warmroute.config.admission import parse_tenant
from warmroute.refusals import routing_error
from warmroute_policies.admission.buckets import Buckets, Rate
from warmroute_policies.admission.pace import Pace
from warmroute_policies.admission.queue import Queue
from warmroute_policies.admission.ticket import Ticket
from warmroute_policies.errors import NoWorkers, RoutingError
from warmroute_policies.types import RoutingRequest, Usage

if TYPE_CHECKING:
    from warmroute.config import Settings
    from warmroute.exchange import Exchange
    from warmroute.gateway import Gateway

# A deadline is noticed up to this much late; looking costs microseconds.
_LOOK_S: Final = 0.1

# Answers are seldom longer: a client that allows more says "as much as it takes", which predicts nothing.
_ANSWER_TOKENS_MAX: Final = 1024

# The longest queues are the interesting ones.
_TENANTS_SHOWN: Final = 20


@final
class _Owner:
    """Whose ticket it is, as long as it waits: later it would hold the exchange, which holds the ticket, and
    such a circle is garbage that nobody collects."""

    __slots__ = ("exchange", "request")

    def __init__(self, exchange: Exchange, request: RoutingRequest | None) -> None:
        self.exchange = exchange
        self.request = request
        """None: it was routed before."""


def is_limited(settings: Settings) -> bool:
    """Whether anything is to be admitted at all; without limits every request goes at once."""
    limits: list[float | None] = [settings.max_inflight]
    limits += [settings.rate_limit_requests_per_s, settings.rate_limit_prompt_tokens_per_s]
    for tenant in map(parse_tenant, settings.tenant):
        limits += [tenant.requests_per_s, tenant.prompt_tokens_per_s]
    return any(limit is not None for limit in limits)


class Admission:
    """State: who waits, buckets, the pace, whether `_serve` is due, and counts."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._callers = callers = gateway.callers
        settings = gateway.settings
        self._max_inflight = inf if settings.max_inflight is None else float(settings.max_inflight)
        self._queue_size = settings.queue_size
        self._queue = Queue(callers.weights)
        self._pace = Pace()
        others = Rate(
            settings.rate_limit_requests_per_s or inf, settings.rate_limit_prompt_tokens_per_s or inf
        )
        named = {name: tenant.rate(others) for name, tenant in callers.tenants.items()}
        self._buckets: Buckets | None = None
        if any(rate.limited for rate in (others, *named.values())):
            self._buckets = Buckets(others, named, settings.rate_limit_burst_s)
        self._due: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.counts = AdmissionCounts(callers.classes, list(callers.tenants))
        for code in refusals.BUSY:
            gateway.metrics.refusals.setdefault(code, 0)

    # --- a request's way ------------------------------------------------------------------------

    def admits(self, exchange: Exchange, request: RoutingRequest) -> bool:
        """Writes. Whether the request may go at once. Else it waits, and `exchange.go` is called when there
        is room; or it was refused."""
        now = exchange.began_at
        ticket = self._ticket(exchange, self._prompt_tokens(exchange, request), now)
        if self._buckets is not None:
            exceeded = self._buckets.take(ticket.tenant, ticket.tokens, now)
            if exceeded is not None:
                self.counts.too_fast(exchange.plan.caller, exceeded.what)
                exchange.refuse(refusals.too_fast(exceeded))
                return False
        exchange.ticket = ticket
        if request.owner is not None or self._goes_at_once(exchange, ticket):
            return True
        if self._finds_a_place(ticket, now):
            ticket.owner = _Owner(exchange, request)
            self._queue.add(ticket)
            self._watch()
        else:
            exchange.refuse(refusals.queue_full(self._queue.count, self._retry_s(now)))
        return False

    def again(self, exchange: Exchange) -> bool:
        """Writes. Its worker failed, and the others are full: whether it may wait; `exchange.go_again` is
        called when there is room. It keeps its place in `max_inflight`."""
        if not self._queue_size:
            return False
        now = monotonic()
        tokens = 0 if exchange.ticket is None else exchange.ticket.tokens
        exchange.ticket = ticket = self._ticket(exchange, tokens, now)
        ticket.owner = _Owner(exchange, None)
        self._queue.add_again(ticket)
        self._watch()
        return True

    def finished(self, exchange: Exchange, usage: Usage | None, now: float) -> None:
        """Writes. A request that was routed has ended."""
        ticket = exchange.ticket
        if ticket is not None:
            self._leave(ticket)  # if it waited again
            if self._buckets is not None and usage is not None and usage.prompt_tokens:
                self._buckets.settle(ticket.tenant, usage.prompt_tokens - ticket.tokens, now)
        self._pace.ended(now)
        self.room()

    def turned_away(self, ticket: Ticket) -> None:
        """Writes. No worker was asked: the request costs its tenant nothing."""
        self._leave(ticket)
        if self._buckets is not None:
            self._buckets.give_back(ticket.tenant, ticket.tokens, monotonic())

    def left(self, ticket: Ticket) -> None:
        """Writes. The client of a request that waits has gone."""
        self.counts.exits[ticket.rank][LEFT] += 1
        self.turned_away(ticket)

    def room(self) -> None:
        """Writes. There may be room: whoever is next goes, once all that happens now has happened."""
        if self._due is None and self._queue.waiting:
            self._due = asyncio.get_running_loop().call_soon(self._serve)

    # --- who is next ------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Whose time is over is told; whoever has room goes."""
        self._due = None
        now = monotonic()
        for ticket in self._queue.expire(now):
            self._too_late(ticket, now)
        while self._queue.waiting:
            found = self._queue.pop(self._may)
            if found is None:
                break
            owner = _owner(found)
            found.owner = None
            exchange, request = owner.exchange, owner.request
            if request is not None:
                exchange.go(request, now)
                self._has_waited(exchange, found, now)
            else:
                exchange.go_again(now)

    def _has_waited(self, exchange: Exchange, ticket: Ticket, now: float) -> None:
        counts, rank = self.counts, ticket.rank
        if exchange.decision is None:
            counts.exits[rank][REFUSED] += 1
        else:
            counts.exits[rank][SERVED] += 1
            counts.waited_s[rank].observe(now - ticket.arrived_at)
            counts.let_in(exchange.plan.caller, rank, ticket.tokens)

    def _may(self, ticket: Ticket) -> bool:
        """Whether there is room for it, or nobody left to wait for: then `go` tells the client."""
        owner = _owner(ticket)
        exchange, again = owner.exchange, owner.request is None
        if not again and len(self._gateway.exchanges) >= self._max_inflight:
            return False
        model = exchange.parsed.model
        try:
            return self._gateway.balancer.has_room(model, exchange.flight if again else None)
        except NoWorkers as error:
            return again or not error.serving
        except RoutingError:
            return True

    def _goes_at_once(self, exchange: Exchange, ticket: Ticket) -> bool:
        try:
            room = self._gateway.balancer.has_room(exchange.parsed.model)
        except RoutingError:
            return True  # `route` says it again, and the client is told
        if not room or self._due is not None or self._queue.stands(ticket.line):
            return False
        if len(self._gateway.exchanges) >= self._max_inflight:
            return False
        self.counts.let_in(exchange.plan.caller, ticket.rank, ticket.tokens)
        return True

    def _finds_a_place(self, ticket: Ticket, now: float) -> bool:
        """Whether the ticket may wait; somebody else may have to make way."""
        if self._queue.count < self._queue_size:
            return True
        other = self._queue.makes_way(ticket.rank, ticket.tenant) if self._queue_size else None
        if other is None:
            return False
        self.counts.exits[other.rank][DISPLACED] += 1
        _owner(other).exchange.refuse(refusals.displaced(self._retry_s(now)))
        return True

    def _too_late(self, ticket: Ticket, now: float) -> None:
        exchange = _owner(ticket).exchange
        ticket.owner = None
        error = refusals.too_late(now - ticket.arrived_at, self._retry_s(now))
        self.counts.exits[ticket.rank][TIMEOUT] += 1
        try:
            self._gateway.balancer.has_room(exchange.parsed.model)
        except RoutingError as why:  # it was not the queue that it waited for
            exchange.refuse(routing_error(why))
        else:
            exchange.refuse(error)

    def _leave(self, ticket: Ticket) -> None:
        self._queue.leave(ticket)
        ticket.owner = None

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._due is None:
            self._serve()
        if self._queue.waiting:
            self._watch()

    # --- what is asked ----------------------------------------------------------------------------

    def _ticket(self, exchange: Exchange, tokens: int, now: float) -> Ticket:
        caller, parsed, settings = exchange.plan.caller, exchange.parsed, self._gateway.settings
        answer_tokens = min(max(parsed.max_tokens or 0, 0), _ANSWER_TOKENS_MAX)
        return Ticket(
            exchange.number,
            self._gateway.balancer.line(parsed.model),
            self._callers.rank(caller, parsed.priority),
            caller.tenant,
            caller.weight,
            tokens,
            float(max(1, tokens) + answer_tokens),
            now,
            now + min(settings.queue_timeout_s, settings.total_timeout_s, caller.patience_s),
        )

    def _prompt_tokens(self, exchange: Exchange, request: RoutingRequest) -> int:
        """By the model's ratio, as learned; of what has no prompt to look up, by the whole body."""
        size = request.blocks.bytes_len or len(exchange.body)
        return max(1, int(size / self._gateway.balancer.beliefs.ratio.bytes_per_token(request.model)))

    def _retry_s(self, now: float) -> int:
        return self._pace.retry_s(self._queue.count, now)

    def lengths(self) -> list[int]:
        """Reads. Requests that wait, by class."""
        return self._queue.lengths()

    def view(self) -> dict[str, Any]:
        """Reads. For /debug/state."""
        now = monotonic()
        tenants = sorted(self._queue.tenants().items(), key=lambda item: -item[1])
        classes = self.counts.classes
        oldest = map(self._queue.oldest, range(len(classes)))
        return {
            "waiting": dict(zip(classes, self._queue.lengths(), strict=True)),
            "oldest_s": dict(zip(classes, _ages(oldest, now), strict=True)),
            "waiting_again": self._queue.again,
            "waiting_by_tenant": dict(tenants[:_TENANTS_SHOWN]),
            "ended_per_s": round(self._pace.per_s(now), 3),
            "rate_limit_buckets": 0 if self._buckets is None else len(self._buckets),
        }


def _owner(ticket: Ticket) -> _Owner:
    return cast(_Owner, ticket.owner)


def _ages(moments: Iterable[float | None], now: float) -> list[float | None]:
    return [None if moment is None else round(now - moment, 3) for moment in moments]
