"""Requests on their way, as an observer sees them: where each one went, what every worker would have cost,
and how it ended.

Rules kept. It watches only while somebody is connected. Prices are those that the decision was made by: they
are taken before the request is booked. At most `PER_S` requests a second are followed, however many come, and
of the workers' prices only the lowest are kept; what is left out is counted. Names that clients give are cut.
No prompt text is here, as there is none in what an observer is told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from heapq import nsmallest
from math import isfinite
from time import time
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from warmroute.observers import REFUSED
from warmroute_policies.errors import RoutingError
from warmroute_policies.types import CostShares, Decision, Outcome, RoutingRequest, Usage

if TYPE_CHECKING:
    from warmroute.exchange import Exchange
    from warmroute_policies.balancer import Balancer

log = logging.getLogger("warmroute")

PER_S = 20
"""More than a person can read; pricing them takes 0.2 % of a core with 8 workers."""

# Requests that come together are followed up to this number: half of a second's.
_BURST = 10

FOLLOWED_MAX = 1000
"""Requests that are followed and have not ended: 50 s of them. Long answers beyond that are left out."""

COSTS_MAX = 8
"""Workers whose prices are kept of one decision: the lowest, and the chosen one's."""

NAME_MAX = 128
"""Characters of a name that a client gave."""


class Cost(msgspec.Struct, gc=False):
    """What one worker would have cost."""

    worker: str
    eligible: bool
    total_s: float | None
    """Seconds of predicted delay, or the policy's own unit; None: it has no price."""
    shares_s: dict[str, float]
    predicted_hit_tokens: int


class Decided(msgspec.Struct):
    """A request that was routed; once more with the fields of its end when it has ended."""

    number: int
    request_id: str
    at_s: float
    model: str
    session: str | None
    worker: str | None
    """None: it was refused, and `reason` says why."""
    reason: str
    attempt: int
    prompt_tokens: int
    predicted_hit_tokens: int
    costs: list[Cost] | UnsetType = UNSET
    """Not said again at the end."""
    outcome: str | UnsetType = UNSET
    status: int | UnsetType | None = UNSET
    cached_tokens: int | UnsetType | None = UNSET
    ttft_s: float | UnsetType | None = UNSET
    duration_s: float | UnsetType = UNSET


class _Followed(msgspec.Struct):
    """A request that is followed and has not ended."""

    arrived_at_s: float
    session: str | None
    costs: list[CostShares]
    """All workers' until one is chosen, at once after the pricing; then those that are told."""


class Decisions:
    """An observer. State: the requests that are followed, when the next one may be, and how many were not."""

    def __init__(self, balancer: Balancer, tell: Callable[[Decided], None]) -> None:
        """`tell` is called with every decision and with every end."""
        self._balancer = balancer
        self._tell = tell
        self._followed: dict[int, _Followed] = {}
        self._next_at = 0.0
        self.skipped = 0
        """Requests that were not followed so far."""

    def clear(self) -> None:
        """Writes. Nobody watches any more."""
        self._followed.clear()

    def arrived(self, exchange: Exchange, request: RoutingRequest, now: float) -> None:
        """Writes. Prices the request, unless too many have come."""
        if now < self._next_at - (_BURST - 1) / PER_S or len(self._followed) >= FOLLOWED_MAX:
            self.skipped += 1
            return
        self._next_at = max(now, self._next_at) + 1 / PER_S
        costs: list[CostShares] = []
        try:
            _, _, costs = self._balancer.explain(request, now)
        except RoutingError:  # nobody can take it; `refused` follows
            pass
        except Exception as error:  # noqa: BLE001 -- the policy may be anybody's, and its fault is told by `route`
            log.debug("a decision could not be priced: %r", error)
        session = None if request.session is None else request.session[:NAME_MAX]
        self._followed[exchange.number] = _Followed(time(), session, costs)

    def routed(self, exchange: Exchange, decision: Decision, now: float) -> None:
        """Writes. Tells, and of the prices keeps what was told, for the next attempt."""
        followed = self._followed.get(exchange.number)
        if followed is not None:
            followed.costs = lowest(followed.costs, decision.worker)
            told = _decided(exchange, followed, decision)
            told.costs = [told_cost(cost) for cost in followed.costs]
            self._tell(told)

    def first_byte(self, exchange: Exchange, now: float) -> None:
        """Writes nothing: the end tells when it was."""

    def finished(self, exchange: Exchange, outcome: Outcome, usage: Usage | None, now: float) -> None:
        """Writes. Tells the end."""
        followed = self._followed.pop(exchange.number, None)
        decision = exchange.decision
        if followed is None or decision is None:
            return
        told = _decided(exchange, followed, decision)
        told.outcome = outcome.value
        told.status = exchange.status or None
        told.cached_tokens = None if usage is None else usage.cached_tokens
        ttft_s = exchange.ttft_s
        told.ttft_s = None if ttft_s is None else round(ttft_s, 6)
        told.duration_s = round(now - exchange.began_at, 6)
        if usage is not None and usage.prompt_tokens:
            told.prompt_tokens = usage.prompt_tokens
        self._tell(told)

    def refused(self, exchange: Exchange, code: str, now: float) -> None:
        """Writes. Tells that there was no worker for it."""
        followed = self._followed.pop(exchange.number, None)
        if followed is not None:
            told = _decided(exchange, followed, None)
            told.reason = code
            told.costs = [told_cost(cost) for cost in lowest(followed.costs, None)]
            told.outcome = REFUSED
            told.status = told.cached_tokens = told.ttft_s = None
            told.duration_s = round(now - exchange.began_at, 6)
            self._tell(told)


def _decided(exchange: Exchange, followed: _Followed, decision: Decision | None) -> Decided:
    return Decided(
        number=exchange.number,
        request_id=exchange.request_id.decode("latin-1"),
        at_s=round(followed.arrived_at_s, 3),
        model=exchange.parsed.model[:NAME_MAX],
        session=followed.session,
        worker=None if decision is None else decision.worker,
        reason="" if decision is None else decision.reason,
        attempt=0 if decision is None else decision.attempt,
        prompt_tokens=0 if decision is None else decision.prompt_tokens,
        predicted_hit_tokens=0 if decision is None else decision.predicted_hit_tokens,
    )


def lowest(costs: list[CostShares], chosen: str | None) -> list[CostShares]:
    """At most `COSTS_MAX` of the prices, in the order of the workers: the chosen one's and the lowest."""
    if len(costs) > COSTS_MAX:
        kept = nsmallest(COSTS_MAX, costs, key=lambda cost: (cost.worker != chosen, _total(cost)))
        costs = [cost for cost in costs if cost in kept]
    return costs


def _total(cost: CostShares) -> float:
    return cost.total_s if cost.eligible and isfinite(cost.total_s) else float("inf")


def told_cost(cost: CostShares) -> Cost:
    """As it is told: JSON has no infinity."""
    return Cost(
        cost.worker,
        cost.eligible,
        cost.total_s if isfinite(cost.total_s) else None,
        {name: value for name, value in cost.shares_s.items() if isfinite(value)},
        cost.predicted_hit_tokens,
    )
