"""Hedged requests: a stream whose first byte is late is sent to a second worker as well, and the first byte
wins.

Late is later than `hedge_after_p` of the recent times to first byte of that model and that size of prefill.
Both legs are booked, each under an id of its own (`Balancer.hedge`), and each is finished once:

    the request's own leg answers first     the second is closed: its engine stops
    the second leg answers first            the first is closed; the exchange goes on with the second
    one leg fails                           its worker is blamed; the other goes on alone
    both fail                               as a request whose worker fails: another worker, or the end
    the client leaves, time is up           both are closed

Rules kept. Streams only: of a plain answer the first byte comes with the last, so its time says how long the
answer is. Nothing that a worker would keep (`Plan.repeatable`). One hedge per request, `hedge_budget_ratio`
of the requests in all, so that an overload is not doubled. Once a byte has reached the client there is one
leg, and no second chance. With hedging off a request pays one look at None where its answer begins and ends.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, Final, final

from warmroute.pool import OWN_LACK, WorkerPool
from warmroute.receiver import Receiver
from warmroute.wire.answers import AnswerHead
from warmroute.worker import WorkerConnection
from warmroute_policies.errors import RoutingError
from warmroute_policies.quantiles import RecentQuantile
from warmroute_policies.resilience import RetryBudget
from warmroute_policies.types import Decision, Outcome

if TYPE_CHECKING:
    from warmroute.exchange import Exchange
    from warmroute.gateway import Gateway

log: Final = logging.getLogger("warmroute")

# Hedges that may be saved up: a worker that stalls with ten streams waiting for it costs ten at once.
_SAVED: Final = 10.0

# Models and sizes whose times are kept, of 512 floats each; clients may name any model where workers accept
# any. Beyond it, times are kept by size alone.
_KINDS_MAX: Final = 512

# Prefills of one size class differ by a factor of two; below this many tokens they are all one step.
_LEAST_TOKENS: Final = 512
_LARGEST_CLASS: Final = 10

# An idle connection that the worker had closed shows at once, as for any request.
_STALE_WITHIN_S: Final = 1.0


@final
class Hedging:
    """State: recent times to first byte by model and size of the prefill, and the budget."""

    def __init__(self, gateway: Gateway, after_p: float, min_s: float, budget_ratio: float) -> None:
        self.gateway = gateway
        self._after_p = after_p
        self._min_s = min_s
        self._budget = RetryBudget(budget_ratio, 0.0, saved=_SAVED)
        self._times: dict[tuple[str, int], RecentQuantile] = {}

    def watch(self, exchange: Exchange, decision: Decision) -> Hedge:
        """Writes. To be called when a request for a stream was sent. Sets a timer where enough is known of
        such requests; in any case its time to first byte is to be told to what this returns."""
        missing = decision.prompt_tokens - decision.predicted_hit_tokens
        size = min(_LARGEST_CLASS, (missing // _LEAST_TOKENS).bit_length())
        model = exchange.parsed.model
        times = self._times.get((model, size))
        if times is None:
            if len(self._times) >= _KINDS_MAX:
                model = ""
            times = self._times.setdefault((model, size), RecentQuantile(self._after_p))
        usual_s = times.value()
        return Hedge(self, exchange, times, None if usual_s is None else max(self._min_s, usual_s))

    def allowed(self, now: float) -> bool:
        """Writes. Whether the budget has a hedge left."""
        return self._budget.fill(now, self.gateway.requests) >= 1.0

    def take(self, now: float) -> None:
        """Writes. A hedge was made."""
        self._budget.take(now, self.gateway.requests)


@final
class Hedge(Receiver):
    """State: a timer; then the second leg, its decision and its connection, until one of the two answers.

    The exchange owns it and lets go of it as soon as only one leg is left.
    """

    __slots__ = (
        "_connecting",
        "_connection",
        "_decision",
        "_exchange",
        "_head",
        "_head_bytes",
        "_hedging",
        "_number",
        "_on_fresh",
        "_pool",
        "_sent_at",
        "_timer",
        "_times",
        "_won",
    )  # fmt: skip

    def __init__(
        self, hedging: Hedging, exchange: Exchange, times: RecentQuantile, after_s: float | None
    ) -> None:
        self.plan = exchange.plan
        self._hedging = hedging
        self._exchange = exchange
        self._times = times
        self._number = -exchange.number
        """The second leg's id. Requests count upwards from 1, so nothing else is called so."""
        self._timer: asyncio.TimerHandle | None = None
        if after_s is not None:
            self._timer = asyncio.get_running_loop().call_later(after_s, self._begin)
        self._decision: Decision | None = None
        self._connection: WorkerConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._pool: WorkerPool | None = None
        """Whose connection is being made; the worker may have left the fleet since."""
        self._head: AnswerHead | None = None
        self._head_bytes = b""
        self._on_fresh = False
        self._sent_at = 0.0
        self._won = False

    # --- the second leg goes out ------------------------------------------------------------------

    def _begin(self) -> None:
        """The first byte is late."""
        self._timer = None
        exchange, gateway, now = self._exchange, self._hedging.gateway, monotonic()
        if not self._hedging.allowed(now):
            gateway.metrics.hedge_refused("budget")
            return
        try:
            decision = gateway.balancer.hedge(exchange.flight, self._number, now)
        except RoutingError:
            gateway.metrics.hedge_refused("no_worker")
            return
        except Exception:  # the policy may be anybody's: its fault must not cost the request its first leg
            log.exception("the request could not be hedged")
            return
        self._hedging.take(now)
        gateway.metrics.hedge_started()
        self._decision, self._sent_at = decision, now
        pool = gateway.pools[decision.slot]
        if pool.probe:
            gateway.workers.probe_sent(pool.worker_id, exchange.number)
        connection = pool.take()
        if connection is None:
            self._connect_to(pool)
        else:
            self._send_on(connection)

    def _connect_to(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._connecting = asyncio.get_running_loop().create_task(self._connect(pool))

    async def _connect(self, pool: WorkerPool) -> None:
        try:
            async with asyncio.timeout(self._hedging.gateway.settings.connect_timeout_s):
                connection = await pool.connect()
        except TimeoutError:
            self._connecting = None
            self._failed("connect_timeout")
        except OSError as error:
            self._connecting = None
            if error.errno in OWN_LACK:
                self._finish("failed", Outcome.CANCELLED)
            else:
                self._failed("connect")
        else:
            self._connecting = None
            self._send_on(connection)

    def _send_on(self, connection: WorkerConnection) -> None:
        self._connection = connection
        exchange = self._exchange
        connection.send(self, exchange.head_for(connection.pool), exchange.body)

    # --- called by its worker's connection --------------------------------------------------------

    def declines(self, head: AnswerHead) -> bool:
        """No failure of this leg reaches the client while the other one may still answer. What is wrong with
        the request is wrong for both."""
        if head.busy:
            self._finish("failed", Outcome.CANCELLED)
        elif head.status >= 500:
            self._failed("status")
        else:
            return False
        return True

    def take_head(self, head: AnswerHead, data: bytes) -> None:
        """Waits for the first byte behind it, as any head does."""
        self._head, self._head_bytes = head, data

    def take_piece(self, data: bytes) -> None:
        """The first byte of an answer: this leg has won."""
        head = self._head
        assert head is not None
        exchange = self._win(head.status)
        exchange.take_head(head, self._head_bytes)
        exchange.take_piece(data)

    def take_whole(self, head: AnswerHead, data: bytes, end: int) -> None:
        """An answer at once: this leg has won."""
        self._win(head.status).take_whole(head, data, end)

    def answer_ended(self) -> None:
        """Behind the piece that has won, or behind a head that has no body."""
        if not self._won:
            head = self._head
            assert head is not None
            self._win(head.status).take_head(head, self._head_bytes)
        self._exchange.answer_ended()

    def answer_broke(self, why: str) -> None:
        """Nothing of it has reached the client: the other leg goes on."""
        connection = self._connection
        assert connection is not None
        stale = connection.used and connection.silent and not self._on_fresh
        if stale and monotonic() - self._sent_at < _STALE_WITHIN_S:
            self._on_fresh = True
            connection.close()
            self._connection = None
            self._connect_to(connection.pool)
        else:
            self._failed("broken")

    # --- one leg is left --------------------------------------------------------------------------

    def first_answered(self, status: int, now: float) -> None:
        """Writes. The request's own leg has won; to be called at its first byte, hedged or not."""
        if status < 400:
            self._times.add(now - self._exchange.began_at)
        self._end("lost")

    def first_failed(self) -> bool:
        """Writes. The request's own leg has failed before its first byte; whether the second one carries the
        request now."""
        if self._decision is None:
            self._end("")
            return False
        self._hedging.gateway.metrics.hedge_ended("rescued")
        self._take_over(Outcome.WORKER_ERROR)
        return True

    def give_up(self) -> None:
        """Writes. The request ends without an answer."""
        self._end("given_up")

    def _win(self, status: int) -> Exchange:
        exchange, gateway = self._exchange, self._hedging.gateway
        if status < 400:
            self._times.add(monotonic() - exchange.began_at)
        gateway.metrics.hedge_ended("won")
        first = exchange.decision
        assert first is not None
        self._take_over(Outcome.CANCELLED)
        gateway.workers.judge(first.worker, exchange.number, Outcome.CANCELLED)
        if gateway.times_matter and not first.attempt:
            now = monotonic()  # at least so long: it would have taken longer yet
            gateway.workers.took(first.worker, now - exchange.began_at, exchange.expected_s, now)
        return exchange

    def _take_over(self, outcome: Outcome) -> None:
        """Writes. Ends the first leg; the exchange is this leg's from here on."""
        exchange, decision, connection = self._exchange, self._decision, self._connection
        assert decision is not None
        self._won = True
        exchange.hedge = None
        exchange.let_go()
        self._hedging.gateway.balancer.finish(exchange.flight, outcome, None, monotonic())
        exchange.go_on_with(self._number, decision)
        if connection is None:
            assert self._pool is not None
            self._let_go()
            exchange.connect_to(self._pool)
            return
        exchange.connection = connection
        if connection.exchange is self:  # else its answer came whole, and it is idle again
            connection.exchange = exchange
            if self._head is not None and outcome is not Outcome.CANCELLED:
                exchange.take_head(self._head, self._head_bytes)

    def _failed(self, kind: str) -> None:
        decision, gateway = self._decision, self._hedging.gateway
        assert decision is not None
        gateway.workers.failed(decision.worker, kind)
        self._finish("failed", Outcome.WORKER_ERROR)

    def _end(self, word: str) -> None:
        """Writes. The second leg is not needed, if there is one; `word` says why, for the metrics."""
        if self._decision is not None:
            self._finish(word, Outcome.CANCELLED)
            return
        self._exchange.hedge = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _finish(self, word: str, outcome: Outcome) -> None:
        decision, gateway, number = self._decision, self._hedging.gateway, self._exchange.number
        assert decision is not None
        self._exchange.hedge = None
        self._let_go()
        gateway.metrics.hedge_ended(word)
        gateway.balancer.finish(self._number, outcome, None, monotonic())
        gateway.workers.judge(decision.worker, number, outcome)

    def _let_go(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
