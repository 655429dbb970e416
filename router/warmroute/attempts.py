"""The way there: a request goes to a worker, and to another one when that fails before its answer has begun.

Rules kept:

- Whoever fails is blamed once (`workers.failed`): it cannot be reached, its answer breaks, it answers a 5xx
  that says nothing about the request. An idle connection that turns out to be closed is nobody's failure, and
  a worker that is busy is not blamed.
- Another worker is asked `retries` times, within the budget for retries, and never once the client has a
  byte.
- Where all others are full, the request waits for room as any does that is not let in yet (`admission`).
- The body is kept until then, and let go at the first byte.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from time import monotonic
from typing import TYPE_CHECKING, Final

from warmroute.dialects import Buffer
from warmroute.owners import owner_failed
from warmroute.pool import OWN_LACK, WorkerPool
from warmroute.splice import Splice
from warmroute.tls import why_not_connected
from warmroute.wire.replies import RouterError
from warmroute_policies.errors import RoutingError, Saturated
from warmroute_policies.types import Decision, Outcome, Usage, WorkerId

if TYPE_CHECKING:
    from warmroute.client import ClientConnection
    from warmroute.gateway import Gateway
    from warmroute.hedging import Hedge
    from warmroute.plan import Plan
    from warmroute.wire.answers import AnswerHead
    from warmroute.worker import WorkerConnection

log: Final = logging.getLogger("warmroute")

# An answer of these says nothing about the request: another worker may do better. Any other 5xx is
# passed on as it is.
RETRIED_STATUS: Final = frozenset((500, 502, 503, 504))

# A warm connection that was closed just when it was used says so at once. Later, the worker had the request.
_STALE_WITHIN_S: Final = 1.0

_EXHAUSTED: Final = RouterError(
    503,
    "router_exhausted",
    "the router has no file or port left for a worker: raise its limit of open files",
    retry_after_s=1,
)


def _left_over(why: str) -> RouterError:
    return RouterError(502, "worker_failed", f"the worker failed, and no other took over: {why}")


class Attempts(Splice):
    """State: the request as it is sent, and what is known of the worker that has it now."""

    __slots__ = (
        "body", "connecting", "flight", "hedge", "let_in_at", "number", "on_fresh", "owner", "rerouted_at",
        "trace_field",
    )  # fmt: skip

    def __init__(
        self,
        gateway: Gateway,
        client: ClientConnection,
        plan: Plan,
        body: Buffer,
        began_at: float,
        number: int,
        request_id: bytes,
    ) -> None:
        super().__init__(gateway, client, plan, request_id)
        self.body = body
        """Kept until the client has a part of an answer: another worker may have to be asked."""
        self.let_in_at = began_at
        self.number = number
        self.flight = number
        """What the balancer books it as: its number, unless its hedge goes on without it."""
        self.hedge: Hedge | None = None
        """A second leg, running or to be; only until there is a first byte."""
        self.owner: WorkerId | None = None
        """The only worker that has what the request is about."""
        self.connecting: asyncio.Task[None] | None = None
        self.on_fresh = False
        """The warm connection turned out to be closed: a new one was made."""
        self.rerouted_at = 0.0
        self.trace_field = b""
        """Lines of the head for the worker that continue the client's trace; set by who traces."""

    @abstractmethod
    def refuse(self, error: RouterError) -> None:
        """Writes. There is no worker for it; it may have been with one that failed."""

    @abstractmethod
    def _decided(self, decision: Decision, now: float) -> None:
        """Writes. The request is on its way to this worker."""

    @abstractmethod
    def _waits_for_room(self) -> bool:
        """Writes. All other workers are full: whether the request may wait. Then `go_again` is called."""

    @abstractmethod
    def _finish(self, outcome: Outcome, usage: Usage | None) -> None:
        """Writes. Nothing more is sent or expected for this request. Twice is once."""

    @abstractmethod
    def _reply(self, error: RouterError) -> None:
        """Writes. The client gets the router's own answer."""

    # --- there --------------------------------------------------------------------------------

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
            if error.errno in OWN_LACK:
                self._finish(Outcome.CANCELLED, None)
                self._reply(_EXHAUSTED)
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

    # --- it did not answer ----------------------------------------------------------------------

    def declines(self, head: AnswerHead) -> bool:
        """Whether this answer is dropped because another worker is asked."""
        if head.busy:
            return self._reroute("busy")
        return head.status in RETRIED_STATUS and self._another_worker("status")

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
            if not self._waits_for_room():
                return False
            gateway.metrics.retried(kind)
            self.let_go()
            return True
        except RoutingError:
            return False
        except Exception:  # the policy may be anybody's
            log.exception("the request could not be routed again")
            return False
        gateway.metrics.retried(kind)
        self.let_go()
        self._resend(decision, now)
        return True

    def go_again(self, now: float) -> None:
        """It waited because all workers but the one that failed were full: now one has room, or none is
        left."""
        try:
            decision = self.gateway.balancer.reroute(self.flight, now)
        except RoutingError as error:
            self.refuse(_left_over(str(error)))
        except Exception:  # as above
            log.exception("the request could not be routed again")
            self.refuse(_left_over("the router could not choose one"))
        else:
            self.let_in_at = now  # what it waited for was not its next worker
            self._resend(decision, now)

    def _resend(self, decision: Decision, now: float) -> None:
        self.decision = decision
        self.on_fresh = False
        self.rerouted_at = now
        self._send(decision)
        self._decided(decision, now)

    def go_on_with(self, flight: int, decision: Decision) -> None:
        """Writes. The hedge takes this leg's place."""
        self.flight, self.decision = flight, decision
        self.on_fresh = True  # its connection has had the time to turn out closed
        self.rerouted_at = monotonic()
        self._decided(decision, self.rerouted_at)

    def let_go(self) -> None:
        """Writes. Gives up the worker's connection, made or being made."""
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _wins(self) -> None:
        if self.hedge is not None:
            self.hedge.first_answered(self.status, monotonic())
        self.body = b""
