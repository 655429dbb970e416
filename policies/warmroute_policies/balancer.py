"""The balancer: the one object that owns all routing state, and does no I/O.

Rules kept here. `route` reads, decides, books and inserts into the index in one synchronous call, so
that two requests which arrive together never score the same stale snapshot. Every request that was
routed meets exactly one `finish`. Time is an argument; nothing here waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from operator import index
from typing import Final

import msgspec

from warmroute_policies.beliefs import LEAST_BLOCKS, Beliefs
from warmroute_policies.config import BalancerConfig
from warmroute_policies.errors import NoWorkers, Saturated, UnknownModel
from warmroute_policies.events import PolicySpec
from warmroute_policies.fleet import Fleet
from warmroute_policies.flights import Flight
from warmroute_policies.foreign import Foreign
from warmroute_policies.ghosts import Ghost
from warmroute_policies.index import Match, PrefixIndex
from warmroute_policies.index import Statistics as IndexStatistics
from warmroute_policies.known import BlockChange, KnownBlocks
from warmroute_policies.policy import Choice, Completed, Dispatched, FirstToken, FleetChanged, Policy, View
from warmroute_policies.pools import Pool, Pools
from warmroute_policies.pressure import Pressure
from warmroute_policies.sessions import Session, Sessions
from warmroute_policies.slow_start import SlowStart
from warmroute_policies.succession import take_over
from warmroute_policies.survivors import expected_there
from warmroute_policies.types import (
    CostShares,
    Decision,
    LoadReport,
    Outcome,
    RoutingRequest,
    Usage,
    WorkerId,
    WorkerSpec,
)
from warmroute_policies.values import Frozen

# How much index upkeep one tick may do; a step takes about 3 µs, so this is under 1 ms.
_MAINTENANCE_STEPS: Final = 200

OWNER: Final = "owner"
"""The reason of a decision that no policy made: only one worker has what the request is about."""

# Python 3.11 asks an enum's class for a member by way of `__getattr__`, a tenth of a microsecond.
_OK: Final = Outcome.OK


class Statistics(Frozen, frozen=True, gc=False):
    """How much a balancer remembers, for metrics and people."""

    in_flight: int
    sessions: int
    session_turns_stayed: int
    session_turns_moved: int
    answers: int
    index: IndexStatistics


class Balancer:
    """State: the fleet with its work in flight, the prefix index, what is believed beyond it, what is known
    where engines tell, sessions, the requests in flight, what others have in flight, and the policy."""

    def __init__(self, policy: Policy, config: BalancerConfig | None = None) -> None:
        self.config = config or BalancerConfig()
        self.policy = policy
        self.fleet = Fleet(dict(self.config.prices), self.config.default_price)
        self.index = PrefixIndex(self.config.index_max_bytes)
        self.beliefs = Beliefs(self.config, self.fleet, self.index)
        self.known = KnownBlocks(self.config.load_s())
        self.sessions = Sessions(self.config.sessions_max)
        self.slow_start = SlowStart(self.config.slow_start_s)
        self.pressure = Pressure(self.config.kv_pressure_gate)
        self.foreign = Foreign(
            self.fleet, self.pressure, self.config.load_stale_s, self.config.load_smoothing_s
        )
        self._pools = Pools(self.fleet, self.config.panic_threshold)
        self._in_flight: dict[int, Flight] = {}
        self._policy_learns = getattr(policy, "learns", True)
        self._untold: set[int] = set()
        """Requests in flight of which the policy was not told, so that it is not told of their end either."""

    # --- a request's way ----------------------------------------------------------------------

    def route(self, request: RoutingRequest, now: float) -> Decision:
        """Writes. Picks a worker, books the request on it, and expects its prompt to be cached there.

        Raises UnknownModel, NoWorkers or Saturated; then nothing is booked and no `finish` may follow. Raises
        ValueError when a request of that id is in flight: booking it twice would leak the first.
        """
        request_id, flights = request.request_id, self._in_flight
        if request_id in flights:
            raise ValueError(f"request {request_id} is already in flight")
        view, match, lost = self._view(request, ())
        flight = flights[request_id] = self._dispatch(request, view, match, lost, (), now)
        return flight.decision

    def reroute(self, request_id: int, now: float) -> Decision:
        """Writes. The worker failed before its first byte reached the client: takes the request off its
        books and picks another worker, never one that this request failed on.

        Raises NoWorkers or Saturated; the request is then on nobody's books, and its `finish` must still
        follow. After Saturated it may be asked for again, when there is room.
        """
        flight = self._in_flight[request_id]
        if flight.booked:
            self._unbook(flight, now)
            self._roll_back(flight)
        failed_on = flight.decision.worker
        if failed_on not in flight.failed:  # else the last attempt found nobody
            flight.failed = (*flight.failed, failed_on)
        try:
            view, match, lost = self._view(flight.request, flight.failed)
        except UnknownModel as error:  # known when the request came: its workers were removed since
            raise NoWorkers(error.model, 0) from None
        failed = flight.failed
        flight = self._in_flight[request_id] = self._dispatch(flight.request, view, match, lost, failed, now)
        self._untold.discard(request_id)
        return flight.decision

    def hedge(self, request_id: int, hedge_id: int, now: float) -> Decision:
        """Writes. The request's first byte is late: books it once more, as a flight of its own called
        `hedge_id`, on a worker that it is not on and has not failed on. Each of the two meets its own
        `finish`; the session stays where it was unless the hedge's answer is the one that is taken.

        Raises NoWorkers; then nothing is booked and no `finish` of the hedge may follow. Raises KeyError when
        the request is not in flight, ValueError when the hedge is.
        """
        flights = self._in_flight
        if hedge_id in flights:
            raise ValueError(f"request {hedge_id} is already in flight")
        first = flights[request_id]
        tried = first.failed
        if first.decision.worker not in tried:  # else the last attempt found nobody
            tried = (*tried, first.decision.worker)
        request = msgspec.structs.replace(first.request, request_id=hedge_id)
        try:
            view, match, lost = self._view(request, tried)
        except UnknownModel as error:  # known when the request came: its workers were removed since
            raise NoWorkers(error.model, 0) from None
        flight = flights[hedge_id] = self._dispatch(request, view, match, lost, tried, now, hedge=True)
        first.failed = (*first.failed, flight.decision.worker)
        return flight.decision

    def first_token(self, request_id: int, now: float) -> None:
        """Writes. The first byte of the answer came: the prefill is done. Twice is once."""
        flight = self._in_flight[request_id]
        if flight.first_token_at is None:
            flight.first_token_at = now
            slot = flight.decision.slot
            self.fleet.prefill_done(slot, request_id, now)
            if self._policy_learns and flight.booked:
                self.policy.observe(FirstToken(flight.request, slot, now - flight.dispatched_at), now)

    def finish(self, request_id: int, outcome: Outcome, usage: Usage | None, now: float) -> None:
        """Writes. The request ended, for whatever reason; exactly once per `route`."""
        flight = self._in_flight.pop(request_id)
        if flight.booked:  # else its worker was removed, or it failed everywhere
            self.fleet.release(flight.decision.slot, request_id, now)
            if outcome is _OK:
                if usage is not None and self.beliefs.learn(flight, usage):
                    self._cache_lost(flight.decision.slot)
                if self.config.learn_prices and flight.request.owner is None:  # else its prompt is unknown
                    self.beliefs.learn_price(flight, usage)
                if flight.hedge and flight.request.session is not None:
                    self._session_seen(flight.request.session, flight.decision, now, again=True)
            elif flight.first_token_at is None:
                self._roll_back(flight)
            if flight.will_hold is not None:
                self.known.settle(flight.decision.slot, flight.will_hold, now)
        if self._policy_learns and request_id not in self._untold:
            self._tell_policy(flight, outcome, usage, now)
        elif self._untold:
            self._untold.discard(request_id)

    def _tell_policy(self, flight: Flight, outcome: Outcome, usage: Usage | None, now: float) -> None:
        """Writes. The policy learns how the request went."""
        decision = flight.decision
        self.policy.observe(
            Completed(
                flight.request,
                decision.slot,
                outcome is _OK,
                None if flight.first_token_at is None else flight.first_token_at - flight.dispatched_at,
                decision.predicted_hit_tokens,
                usage,
            ),
            now,
        )

    def set_policy(self, policy: Policy, made_by: PolicySpec, now: float) -> None:
        """Writes. Another rule decides from now on; books, index, beliefs and sessions stay as they are.

        It is told of the fleet and of the requests in flight first. What it raises then leaves the former
        rule in charge. `made_by` makes the same rule again; it is for whoever records.
        """
        learns = bool(getattr(policy, "learns", True))
        take_over(policy, self.fleet, self._in_flight.values() if learns else (), now)
        self.policy, self._policy_learns = policy, learns
        self._untold = {
            request_id for request_id, flight in self._in_flight.items() if learns and not flight.booked
        }

    def explain(self, request: RoutingRequest, now: float) -> tuple[WorkerId, str, list[CostShares]]:
        """Reads. Where the request would go and the price of every worker; nothing is booked."""
        view, _, _ = self._view(request, ())
        choice = self.policy.decide(request, view, now) if request.owner is None else _owners(view)
        return self.fleet.worker_id(choice.slot), choice.reason, self.policy.explain(request, view, now)

    def line(self, model: str) -> str:
        """Reads. A name for the set of workers that serve the model."""
        return self._pools.line(model)

    def has_room(self, model: str, request_id: int | None = None) -> bool:
        """Reads. Whether some worker that serves the model has fewer requests than it may have, and for a
        request in flight, whether one has that it did not fail on. Raises UnknownModel or NoWorkers."""
        pool = self._pools.by_model.get(model) or self._pools.find(model)
        fleet = self.fleet
        if request_id is None and not fleet.full and pool.eligible:
            return True
        failed = () if request_id is None else self._in_flight[request_id].failed
        try:
            return bool(self._with_room(model, pool, failed))
        except Saturated:
            return False

    def session(self, name: str) -> Session | None:
        """Reads. What is remembered of the session that clients call so; later turns change it in place."""
        return self.sessions.get(name)

    def _view(self, request: RoutingRequest, failed: tuple[WorkerId, ...]) -> tuple[View, Match, list[Ghost]]:
        """Reads. What the policy may look at: eligible workers and what each holds of the prompt. And what
        the index knows of the prompt, and what of the rest it gave up lately."""
        pool = self._pools.by_model.get(request.model) or self._pools.find(request.model)
        eligible, kinds, gate_s = pool.eligible, pool.kinds, pool.gate_s
        if request.owner is not None:
            eligible, kinds, gate_s = self._only(request.owner, failed)
        elif failed or self.fleet.full:
            eligible = self._with_room(request.model, pool, failed)
            kinds = self.fleet.kinds(eligible)
            gate_s = [inf] * len(gate_s)
            for slot in eligible:
                gate_s[slot] = 0.0
        if self.slow_start.shares and request.owner is None:
            held_back = self.slow_start.held_back(eligible, self.fleet.inflight)
            if held_back:
                eligible, kinds, gate_s = self._without(held_back, eligible, gate_s)
        if self.pressure.slots and request.owner is None:
            held_back = self.pressure.held_back(eligible)
            if held_back:
                eligible, kinds, gate_s = self._without(held_back, eligible, gate_s)
        if not eligible:
            raise NoWorkers(request.model, len(pool.serving))
        prompt_tokens, hits, match, lost = self.beliefs.predict(request, pool.engine_block_tokens)
        if request.exact is not None and self.known.lanes:
            hits = self.known.predict(request.exact, hits, self.fleet.linear_s)
        session = None if request.session is None else self.sessions.get(request.session)
        return View(self.fleet, eligible, kinds, gate_s, hits, prompt_tokens, session), match, lost

    def _without(
        self, held_back: list[int], eligible: tuple[int, ...], gate_s: list[float]
    ) -> tuple[tuple[int, ...], tuple[int, ...], list[float]]:
        """Reads. Who is left without these, one of each kind, and the gates."""
        left = tuple([slot for slot in eligible if slot not in held_back])
        gate_s = [inf if slot in held_back else gate for slot, gate in enumerate(gate_s)]
        return left, self.fleet.kinds(left), gate_s

    def _only(
        self, owner: WorkerId, failed: tuple[WorkerId, ...]
    ) -> tuple[tuple[int, ...], tuple[int, ...], list[float]]:
        """Reads. The worker that has what the request is about: be it ejected or draining, nobody else can
        answer. Nothing eligible when it has left or has failed."""
        slot = self.fleet.slot_of.get(owner)
        eligible = () if slot is None or owner in failed else (slot,)
        gate_s = [0.0 if one == slot else inf for one in range(len(self.fleet.specs))]
        return eligible, eligible, gate_s

    def _with_room(self, model: str, pool: Pool, failed: tuple[WorkerId, ...]) -> tuple[int, ...]:
        """Reads. Who may take a request that failed on these. Raises NoWorkers, or Saturated when all who
        could are full."""
        fleet = self.fleet
        tried = {fleet.slot_of.get(worker) for worker in failed}
        able = [slot for slot in pool.eligible if slot not in tried]
        if not able:
            raise NoWorkers(model, len(pool.serving))
        full = fleet.full
        eligible = tuple([slot for slot in able if slot not in full])
        if not eligible:
            raise Saturated(model, len(able))
        return eligible

    def _dispatch(
        self,
        request: RoutingRequest,
        view: View,
        match: Match,
        lost: list[Ghost],
        failed: tuple[WorkerId, ...],
        now: float,
        *,
        hedge: bool = False,
    ) -> Flight:
        """Writes. Decides and books."""
        choice = self.policy.decide(request, view, now) if request.owner is None else _owners(view)
        slot, hits, prompt_tokens = index(choice.slot), view.hits, view.prompt_tokens
        hit_tokens = hits.tokens(slot)
        fleet = self.fleet
        request_id, blocks = request.request_id, request.blocks
        settled = fleet.queued_prefill_s[slot] == 0.0 and fleet.foreign_until[slot] <= now
        beside = fleet.inflight[slot]
        fleet.book(slot, request_id, prompt_tokens, prompt_tokens - hit_tokens, now, seen=request.stream)
        if fleet.recent is not None:
            self.foreign.sent(prompt_tokens - hit_tokens)
        insertion, own_tokens = None, prompt_tokens
        if blocks.count >= LEAST_BLOCKS:
            insertion = self.index.insert(slot, blocks, match)
            own_tokens -= insertion.shared * prompt_tokens // blocks.count
            self.beliefs.reuse.learn(insertion, match.depth, lost, now)
        fleet.hold(slot, request_id, own_tokens)
        decision = Decision(
            request_id,
            fleet.ids[slot],
            slot,
            choice.reason,
            prompt_tokens,
            hits.cached(slot),
            hits.best,
            len(failed),
        )
        if request.session is not None and not hedge:
            self._session_seen(request.session, decision, now, again=bool(failed))
        if self._policy_learns:
            self.policy.observe(Dispatched(request, slot, hit_tokens), now)
        expected = 0
        if expected_there(hits, slot):
            expected = min(self.index.haunted(lost)[1], blocks.count)
        flight = Flight(request, decision, now, insertion, settled, beside, expected, failed)
        if hedge:
            flight.hedge = True
        if request.exact is not None:
            flight.will_hold = self.known.expect(slot, request.exact)
        return flight

    def _session_seen(self, session: str, decision: Decision, now: float, *, again: bool) -> None:
        """Writes. A turn of the session was sent to the decision's worker."""
        self.sessions.seen(session, decision.worker, decision.prompt_tokens, now, again=again)

    def _unbook(self, flight: Flight, now: float) -> None:
        """Writes. Takes a booked request off its worker's books."""
        flight.booked = False
        self.fleet.release(flight.decision.slot, flight.request.request_id, now)

    def _roll_back(self, flight: Flight) -> None:
        """Writes. The prompt was not prefilled: forgets what its dispatch made believe."""
        insertion = flight.insertion
        if insertion is not None and insertion.count > insertion.held:
            self.index.forget(flight.decision.slot, flight.request.blocks, insertion.held)
        if flight.will_hold is not None:
            self.known.drop(flight.will_hold)
            flight.will_hold = None

    # --- the fleet ----------------------------------------------------------------------------

    def add_worker(self, spec: WorkerSpec, now: float) -> None:
        """Writes. A new worker, healthy and empty. Raises ValueError when it is already present."""
        slot = self.fleet.add(spec, now)
        self.beliefs.declare_capacity(slot, spec)
        self.slow_start.begin(slot, now)
        self._fleet_changed(slot, spec, now, present=True)

    def update_worker(self, spec: WorkerSpec, now: float) -> None:
        """Writes. New declared facts (models, weight, capacity); work in flight and cache beliefs stay."""
        before = self.fleet.spec(self.fleet.slot_of[spec.worker_id])
        slot = self.fleet.replace(spec)
        if spec.kv_capacity_tokens != before.kv_capacity_tokens:
            self.beliefs.declare_capacity(slot, spec)
        self._fleet_changed(slot, spec, now, present=True)

    def remove_worker(self, worker_id: WorkerId, now: float) -> None:
        """Writes. The worker is gone. Its requests in flight may still finish; they teach nothing.

        Raises KeyError when it is not present.
        """
        slot = self.fleet.slot_of[worker_id]
        for flight in self._in_flight.values():
            if flight.booked and flight.decision.slot == slot:
                self._unbook(flight, now)
        spec = self.fleet.spec(slot)
        self.fleet.remove(worker_id)
        self.beliefs.drop_slot(slot)
        self.known.doubt(slot)
        self.slow_start.end(slot)
        self.foreign.end(slot)
        self._fleet_changed(slot, spec, now, present=False)

    def drain_worker(self, worker_id: WorkerId, draining: bool, now: float) -> None:
        """Writes. A draining worker keeps its requests and gets no new ones. Raises KeyError."""
        slot = self.fleet.slot_of[worker_id]
        if self.fleet.draining[slot] and not draining:
            self.slow_start.begin(slot, now)
        self.fleet.draining[slot] = draining
        self._fleet_changed(slot, self.fleet.spec(slot), now, present=True)

    def set_health(self, worker_id: WorkerId, healthy: bool, now: float) -> None:
        """Writes. An unhealthy worker gets no requests. Raises KeyError."""
        slot = self.fleet.slot_of[worker_id]
        if self.fleet.healthy[slot] is not healthy:
            self.fleet.healthy[slot] = healthy
            if healthy:
                self.slow_start.begin(slot, now)
            self._fleet_changed(slot, self.fleet.spec(slot), now, present=True)

    def forget_cache(self, worker_id: WorkerId, now: float) -> None:
        """Writes. The worker's process began anew, so its KV cache is empty: forgets what it held.

        Its capacity, its books and its health stay. Its requests in flight may still finish; they teach
        nothing, since they were predicted from the former cache. Raises KeyError when it is not present.
        """
        slot = self.fleet.slot_of[worker_id]
        self.beliefs.restarted(slot)
        self._cache_lost(slot)
        self.slow_start.begin(slot, now)
        self._fleet_changed(slot, self.fleet.spec(slot), now, present=True)

    def report_load(self, worker_id: WorkerId, report: LoadReport, since: float, now: float) -> None:
        """Writes. The worker's engine said this of its load, at some moment from `since` to now. What others
        have there counts like the router's own from now on (`foreign`). Raises KeyError.
        """
        self.foreign.report(self.fleet.slot_of[worker_id], report, since, now)

    def _cache_lost(self, slot: int) -> None:
        """Writes. What was inserted before is no measure of the new cache: a miss of it is no lack of room,
        and a rollback would take what came since."""
        for flight in self._in_flight.values():
            if flight.decision.slot == slot and flight.booked:
                flight.insertion = None
                flight.settled = False  # nor does its time tell a price: what it missed was predicted there

    # --- what engines tell of their caches --------------------------------------------------------

    def know_blocks(
        self, worker_id: WorkerId, rank: int, block_tokens: int, *, complete: bool, now: float
    ) -> None:
        """Writes. From now on `blocks_changed` says what the rank's cache holds, which is nothing at first.
        Not `complete`: it may hold more. Said again, it changes that alone; another size begins anew.

        Raises KeyError when the worker is not present, ValueError for a size below 1.
        """
        if block_tokens < 1:
            raise ValueError(f"block_tokens of {worker_id} must be at least 1")
        self.known.know(self.fleet.slot_of[worker_id], rank, block_tokens, complete)

    def blocks_changed(
        self, worker_id: WorkerId, rank: int, changes: Sequence[BlockChange], now: float
    ) -> None:
        """Writes. Blocks came and went, in this order. Raises KeyError when the worker is not present or the
        rank's cache not known."""
        self.known.change(self.fleet.slot_of[worker_id], rank, changes)

    def blocks_cleared(self, worker_id: WorkerId, rank: int, now: float) -> None:
        """Writes. The rank's cache is empty. Raises KeyError as `blocks_changed`."""
        self.known.clear(self.fleet.slot_of[worker_id], rank)

    def doubt_blocks(self, worker_id: WorkerId, now: float) -> None:
        """Writes. What was told of the worker's cache counts no more: it is predicted by belief again. Raises
        KeyError when the worker is not present."""
        self.known.doubt(self.fleet.slot_of[worker_id])

    def tick(self, now: float) -> bool:
        """Writes. Upkeep, to be called about once a second; at most a millisecond of work.

        True when work is left, as after a restart of a worker whose prefixes must be forgotten: the next
        call should come soon.
        """
        self.fleet.tick(now)
        self.slow_start.tick(now)
        self.foreign.tick(now)
        self.beliefs.tick(now)
        more = self.known.tick(now)
        return self.index.maintain(_MAINTENANCE_STEPS) >= _MAINTENANCE_STEPS or more

    def models(self) -> tuple[str, ...]:
        """Reads. Every model that some worker declares, sorted."""
        return self._pools.models()

    def panicking(self) -> tuple[str, ...]:
        """Reads. The models whose workers get requests whether they are healthy or not (`pools`)."""
        return self._pools.panicking()

    def eligible(self) -> set[int]:
        """Reads. The slots that may take a request of some model."""
        return self._pools.eligible()

    def in_flight(self) -> int:
        """Reads. Requests routed and not finished."""
        return len(self._in_flight)

    def statistics(self) -> Statistics:
        """Reads. A snapshot of the sizes of everything that is remembered."""
        return Statistics(
            in_flight=len(self._in_flight),
            sessions=len(self.sessions),
            session_turns_stayed=self.sessions.turns_stayed,
            session_turns_moved=self.sessions.turns_moved,
            answers=len(self.beliefs.answers),
            index=self.index.statistics(),
        )

    def _fleet_changed(self, slot: int, spec: WorkerSpec, now: float, *, present: bool) -> None:
        self._pools.rebuild(self.fleet)
        self.policy.observe(FleetChanged(spec.worker_id, slot, present), now)


def _owners(view: View) -> Choice:
    """The only worker there is to choose; policies are told of the dispatch like of any other."""
    return Choice(view.eligible[0], OWNER)
