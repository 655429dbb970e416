"""A shadow policy: what another policy would have done with the same requests; nothing of it is sent.

It has a balancer of its own, so its books, its index and its policy's memory follow its own decisions: what
it predicts to hit is what workers would hold had it been in charge. Of the live router it takes what no
policy changes: the fleet and its health, the believed sizes of caches, learned prices, what others have on
the workers, and when first tokens and ends came. Its load is therefore a would-be load at the live router's
pace.

Rules kept. What engines report corrects the live beliefs and no shadow's: it is about other placements. So
compare a shadow with a shadow of the live policy. A fault of the shadow ends the shadow and nothing else. It
costs a request one decision; the live request has been sent by then. Its index may be as large as the live
one (`index_max_bytes`).
"""

from __future__ import annotations

import dataclasses
import logging
from math import isfinite
from time import perf_counter
from typing import TYPE_CHECKING, Final

import msgspec

from warmroute.metrics.snapshot import ShadowRow
from warmroute.series import DECISION_BOUNDS_S, Histogram
from warmroute_policies.balancer import Balancer
from warmroute_policies.capacity import Lesson
from warmroute_policies.errors import RoutingError
from warmroute_policies.policy import Policy
from warmroute_policies.types import Decision, Outcome, RoutingRequest, Usage, WorkerId, WorkerSpec

if TYPE_CHECKING:
    from warmroute.exchange import Exchange

log: Final = logging.getLogger("warmroute")

# Python 3.11 asks an enum's class for a member by way of `__getattr__`, a tenth of a microsecond.
_RESTARTED: Final = Lesson.RESTARTED

# As for the live router's own decisions: one in 16 is timed.
_TIMED_EVERY_MASK: Final = 15

# A believed capacity is followed when it is off by more than this: to tell the shadow costs more than a
# twentieth of a cache matters.
_CAPACITY_SLACK: Final = 0.05

# Capacities followed at one tick: telling one costs 0.1 ms where there are 256 workers.
_CAPACITIES_PER_TICK: Final = 8


class Shadow:
    """State: a balancer of its own, which requests it has in flight, and counts. An `Observer`."""

    def __init__(self, name: str, policy: Policy, live: Balancer) -> None:
        self.name = name
        """As the operator spelled it."""
        self._live = live
        # Capacities and prices are the live router's: its answers are about its own decisions.
        config = dataclasses.replace(live.config, replicas=1, capacity_feedback=False, learn_prices=False)
        self._balancer = Balancer(policy, config)
        self._request: RoutingRequest | None = None
        """Arrived, and not yet routed by the live policy."""
        self._routed: set[int] = set()
        self._broken = False
        self._restarts = live.beliefs.lessons[_RESTARTED]
        """Restarts that answers have shown so far."""
        self.agreed = 0
        self.decisions = 0
        self.prompt_tokens = 0
        self.predicted_hit_tokens = 0
        self.failures = 0
        self.decision_s = Histogram(DECISION_BOUNDS_S)

    # --- requests, as an observer ---------------------------------------------------------------

    def arrived(self, exchange: Exchange, request: RoutingRequest, now: float) -> None:
        """Writes."""
        self._request = request

    def routed(self, exchange: Exchange, decision: Decision, now: float) -> None:
        """Writes. Decides as well; a retry is the same request to a shadow, whose workers do not fail."""
        request, self._request = self._request, None
        if request is None or self._broken:
            return
        timed = not request.request_id & _TIMED_EVERY_MASK
        began = perf_counter() if timed else 0.0
        try:
            chosen = self._balancer.route(request, now)
        except RoutingError:
            return  # all of its workers just became unhealthy
        except Exception:  # noqa: BLE001 -- the policy may be anybody's, and the live request is none of its business
            self._broke()
            return
        if timed:
            self.decision_s.observe(perf_counter() - began)
        self._routed.add(request.request_id)
        self.decisions += 1
        self.agreed += chosen.worker == decision.worker
        self.prompt_tokens += chosen.prompt_tokens
        self.predicted_hit_tokens += chosen.predicted_hit_tokens

    def first_byte(self, exchange: Exchange, now: float) -> None:
        """Writes."""
        if exchange.number in self._routed:
            try:
                self._balancer.first_token(exchange.number, now)
            except Exception:  # noqa: BLE001 -- as above
                self._broke()

    def finished(self, exchange: Exchange, outcome: Outcome, usage: Usage | None, now: float) -> None:
        """Writes. The counts of tokens are the request's; what was cached is another worker's affair, unless
        it has just shown that the live worker restarted."""
        if exchange.number in self._routed:
            self._routed.discard(exchange.number)
            if usage is not None:
                usage = Usage(usage.prompt_tokens, usage.completion_tokens, None)
            try:
                self._balancer.finish(exchange.number, outcome, usage, now)
            except Exception:  # noqa: BLE001 -- as above
                self._broke()
        restarts = self._live.beliefs.lessons[_RESTARTED]
        if restarts != self._restarts:
            self._restarts = restarts
            if exchange.decision is not None:
                self.cache_lost(exchange.decision.worker, now)

    def refused(self, exchange: Exchange, code: str, now: float) -> None:
        """Writes."""
        self._request = None

    def _broke(self) -> None:
        self.failures += 1
        self._broken = True
        self._routed.clear()
        log.exception("the shadow policy failed and decides no more", extra={"policy": self.name})

    # --- the fleet --------------------------------------------------------------------------------

    def follow(self, worker: WorkerId, now: float) -> None:
        """Writes. Something is new about the worker: it came, went, or changed its health or its facts."""
        if self._broken:
            return
        try:
            self._follow(worker, now)
        except Exception:  # noqa: BLE001 -- policies are told of every change
            self._broke()

    def _follow(self, worker: WorkerId, now: float) -> None:
        live, own, balancer = self._live.fleet, self._balancer.fleet, self._balancer
        slot = live.slot_of.get(worker)
        if slot is None:
            if worker in own.slot_of:
                balancer.remove_worker(worker, now)
            return
        spec = live.spec(slot)
        if worker not in own.slot_of:
            balancer.add_worker(self._with_capacity(slot, spec), now)
        mine = own.slot_of[worker]
        known = own.spec(mine).kv_capacity_tokens
        told = msgspec.structs.replace(spec, kv_capacity_tokens=known)
        if told != own.spec(mine):
            balancer.update_worker(told, now)
        if own.healthy[mine] is not live.healthy[slot]:
            balancer.set_health(worker, live.healthy[slot], now)
        if own.draining[mine] is not live.draining[slot]:
            balancer.drain_worker(worker, live.draining[slot], now)

    def cache_lost(self, worker: WorkerId, now: float) -> None:
        """Writes. The worker is another process than before."""
        if not self._broken and worker in self._balancer.fleet.slot_of:
            try:
                self._balancer.forget_cache(worker, now)
            except Exception:  # noqa: BLE001 -- as above
                self._broke()

    def tick(self, now: float) -> None:
        """Writes. Once a second: capacities and prices as the live router believes them, and upkeep."""
        if self._broken:
            return
        try:
            self._follow_beliefs(now)
            if self._live.fleet.recent is not None:
                self._follow_others(now)
            self._balancer.tick(now)
        except Exception:  # noqa: BLE001 -- as above
            self._broke()

    def _follow_beliefs(self, now: float) -> None:
        live, own = self._live.fleet, self._balancer.fleet
        left = _CAPACITIES_PER_TICK
        for slot, spec in live.slots():
            believed, known = live.kv_capacity_tokens[slot], own.spec(own.slot_of[spec.worker_id])
            if not isfinite(believed):
                continue
            if abs(believed - (known.kv_capacity_tokens or 0)) > _CAPACITY_SLACK * believed:
                self._balancer.update_worker(self._with_capacity(slot, known), now)
                left -= 1
                if not left:
                    break
        for worker_class, price in self._live.beliefs.learned_prices.prices().items():
            own.set_price(worker_class, price)

    def _follow_others(self, now: float) -> None:
        """Writes. What others have on the workers is there whoever decides."""
        live, own = self._live.fleet, self._balancer.fleet
        for slot, spec in live.slots():
            queue_s = max(0.0, live.foreign_until[slot] - now)
            mine = own.slot_of[spec.worker_id]
            own.set_foreign(mine, live.foreign_requests[slot], live.foreign_tokens[slot], queue_s, now)

    def _with_capacity(self, slot: int, spec: WorkerSpec) -> WorkerSpec:
        """Reads. The spec with the capacity that the live router believes its worker to have."""
        believed = self._live.fleet.kv_capacity_tokens[slot]
        return msgspec.structs.replace(
            spec, kv_capacity_tokens=max(1, int(believed)) if isfinite(believed) else None
        )

    # --- for people ---------------------------------------------------------------------------------

    def inflight(self) -> dict[WorkerId, int]:
        """Reads. Requests that each worker would have in flight."""
        fleet = self._balancer.fleet
        return {spec.worker_id: fleet.own_inflight(slot) for slot, spec in fleet.slots()}

    def row(self) -> ShadowRow:
        """Reads. For the metrics."""
        fleet = self._balancer.fleet
        return ShadowRow(
            self.name,
            self.agreed,
            self.decisions - self.agreed,
            self.prompt_tokens,
            self.predicted_hit_tokens,
            self.failures,
            self.decision_s,
            [
                (spec.worker_id, fleet.own_inflight(slot), fleet.queued_prefill_s[slot])
                for slot, spec in fleet.slots()
            ],
        )
