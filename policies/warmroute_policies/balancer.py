"""The balancer: the one object that owns all routing state, and does no I/O.

Rules kept here. `route` reads, decides, books and inserts into the index in one synchronous call, so
that two requests which arrive together never score the same stale snapshot. Every request that was
routed meets exactly one `finish`. Time is an argument; nothing here waits.
"""

from __future__ import annotations

from math import inf
from operator import index
from typing import Final, final

from warmroute_policies.answers import Answered, Answers
from warmroute_policies.blocks import BLOCK_BYTES, NO_BLOCKS, PromptBlocks
from warmroute_policies.capacity import CapacityBelief, Lesson
from warmroute_policies.config import BalancerConfig
from warmroute_policies.errors import NoWorkers, UnknownModel
from warmroute_policies.fleet import Fleet
from warmroute_policies.ghosts import Ghost
from warmroute_policies.hits import NO_HITS, Hits
from warmroute_policies.index import Insertion, Match, PrefixIndex
from warmroute_policies.index import Statistics as IndexStatistics
from warmroute_policies.policy import Completed, Dispatched, FirstToken, FleetChanged, Policy, View
from warmroute_policies.pools import Pools
from warmroute_policies.reuse import Reuse
from warmroute_policies.sessions import Sessions
from warmroute_policies.speed import LearnedPrices
from warmroute_policies.survivors import Survivors, expected_there
from warmroute_policies.token_ratio import TokenRatio
from warmroute_policies.types import (
    CostShares,
    Decision,
    Outcome,
    RoutingRequest,
    Usage,
    WorkerId,
    WorkerSpec,
)
from warmroute_policies.values import Frozen

# How much index upkeep one tick may do; a step takes about 3 µs, so this is under 1 ms.
_MAINTENANCE_STEPS: Final = 200

# Blocks of the shortest prompt that is looked up and remembered. An engine's step has a floor, 7 ms for an
# 8B model on an H100, in which some 200 tokens are computed for nothing: less than a kilobyte is not worth
# a detour.
_LEAST_BLOCKS: Final = 2

# For crowding alone, while an engine's capacity is unknown: about what an 8B model leaves free on an 80 GB
# GPU (441k tokens).
_ASSUMED_KV_CAPACITY_TOKENS: Final = 400_000.0

_NO_GHOSTS: Final[list[Ghost]] = []

# A shorter answer does not fill one page of an engine's cache.
_ANSWER_TOKENS_MIN: Final = 16

# Python 3.11 asks an enum's class for a member by way of `__getattr__`, a tenth of a microsecond.
_OK: Final = Outcome.OK


@final
class _InFlight:
    """One request between `route` and `finish`."""

    __slots__ = (
        "beside", "booked", "decision", "dispatched_at", "expected", "failed", "first_token_at", "insertion",
        "request", "settled",
    )  # fmt: skip

    def __init__(
        self,
        request: RoutingRequest,
        decision: Decision,
        dispatched_at: float,
        insertion: Insertion | None,
        settled: bool,
        beside: int,
        expected: int,
        failed: tuple[WorkerId, ...],
    ) -> None:
        self.request = request
        self.decision = decision
        self.dispatched_at = dispatched_at
        self.insertion = insertion
        """What the index found at the insert; None: the prompt has no blocks, or that cache is gone."""
        self.settled = settled
        """No prefill was waiting on the slot: what was predicted was cached already."""
        self.beside = beside
        """Requests in flight on the slot at dispatch, without this one."""
        self.expected = expected
        """The depth at which what the slot lost in the index ends, if the slot was chosen on a credit for it
        (`survivors`); else 0."""
        self.failed = failed
        """Ids and not slots: a slot may meanwhile be another worker's."""
        self.first_token_at: float | None = None
        self.booked = True


class Statistics(Frozen, frozen=True, gc=False):
    """How much a balancer remembers, for metrics and people."""

    in_flight: int
    sessions: int
    session_turns_stayed: int
    session_turns_moved: int
    answers: int
    index: IndexStatistics


class Balancer:
    """State: the fleet with its work in flight, the prefix index, beliefs about capacity, prices and token
    lengths, sessions, recent answers, the requests in flight, and the policy."""

    def __init__(self, policy: Policy, config: BalancerConfig | None = None) -> None:
        self.config = config or BalancerConfig()
        self.policy = policy
        self.fleet = Fleet(dict(self.config.prices), self.config.default_price)
        self.index = PrefixIndex(self.config.index_max_bytes)
        self.capacity = CapacityBelief(self.index)
        self.reuse = Reuse()
        self.survivors = Survivors()
        self.lessons = dict.fromkeys(Lesson, 0)
        self.sessions = Sessions(self.config.sessions_max)
        self.answers = Answers(self.config.sessions_max)
        self.ratio = TokenRatio(self.config.bytes_per_token)
        self.learned_prices = LearnedPrices(
            self.config.prices, self.config.default_price, self.config.learned_prices
        )
        if self.config.learn_prices:
            for worker_class in self.config.learned_prices:
                self.fleet.set_price(worker_class, self.learned_prices.price(worker_class))
        self._pools = Pools(self.fleet)
        self._in_flight: dict[int, _InFlight] = {}
        self._no_match = self.index.match(NO_BLOCKS)
        self._policy_learns = getattr(policy, "learns", True)

    # --- a request's way ----------------------------------------------------------------------

    def route(self, request: RoutingRequest, now: float) -> Decision:
        """Writes. Picks a worker, books the request on it, and expects its prompt to be cached there.

        Raises UnknownModel or NoWorkers; then nothing is booked and no `finish` may follow. Raises
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

        Raises NoWorkers; the request is then on nobody's books, and its `finish` must still follow.
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
                if usage is not None:
                    self._learn(flight, usage)
                if self.config.learn_prices:
                    self._learn_price(flight, usage)
            elif flight.first_token_at is None:
                self._roll_back(flight)
        if self._policy_learns:
            self._tell_policy(flight, outcome, usage, now)

    def _tell_policy(self, flight: _InFlight, outcome: Outcome, usage: Usage | None, now: float) -> None:
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

    def explain(self, request: RoutingRequest, now: float) -> tuple[WorkerId, str, list[CostShares]]:
        """Reads. Where the request would go and the price of every worker; nothing is booked."""
        view, _, _ = self._view(request, ())
        choice = self.policy.decide(request, view, now)
        return self.fleet.worker_id(choice.slot), choice.reason, self.policy.explain(request, view, now)

    def _view(self, request: RoutingRequest, failed: tuple[WorkerId, ...]) -> tuple[View, Match, list[Ghost]]:
        """Reads. What the policy may look at: eligible workers and what each holds of the prompt. And what
        the index knows of the prompt, and what of the rest it gave up lately."""
        pool = self._pools.by_model.get(request.model) or self._pools.find(request.model)
        eligible, gate_s = pool.eligible, pool.gate_s
        if failed:
            tried = {self.fleet.slot_of.get(worker) for worker in failed}
            eligible = tuple(slot for slot in eligible if slot not in tried)
            gate_s = [inf if slot in tried else gate for slot, gate in enumerate(gate_s)]
        if not eligible:
            raise NoWorkers(request.model, len(pool.serving))
        blocks = request.blocks
        match = self.index.match(blocks) if blocks.count >= _LEAST_BLOCKS else self._no_match
        prompt_tokens = request.prompt_tokens
        block_tokens = blocks.tokens_per_block
        if block_tokens is None:
            bytes_per_token = self.ratio.known.get(request.model, self.ratio.first_guess)
            block_tokens = BLOCK_BYTES / bytes_per_token
            if prompt_tokens is None:
                prompt_tokens = int(blocks.bytes_len / bytes_per_token)
        elif prompt_tokens is None:
            prompt_tokens = int(blocks.count * block_tokens)
        hits, lost = NO_HITS, _NO_GHOSTS
        limit = prompt_tokens - 1  # engines always compute at least one token
        page = pool.engine_block_tokens
        if match.depths:
            tokens_at: dict[int, int] = {}
            for depth in set(match.depths.values()):
                tokens = min(int(depth * block_tokens), limit)
                tokens_at[depth] = tokens - tokens % page
            hits = Hits(match.depths, tokens_at)
            answered = self.answers.get(match.last_id)
            if answered is not None and match.depths.get(answered.slot) == match.depth:
                hits = self._credit_answer(blocks, answered, hits, limit, page)
        if match.depth < blocks.count >= _LEAST_BLOCKS:
            lost = self.index.evicted(blocks, match.depth)
            if lost:
                slots, end = self.index.haunted(lost)
                held, had = min(int(match.depth * block_tokens), limit), min(int(end * block_tokens), limit)
                hits = self.survivors.credit(hits, match.depth, slots, held, had, page)
        session = None if request.session is None else self.sessions.get(request.session)
        return View(self.fleet, eligible, gate_s, hits, prompt_tokens, session), match, lost

    def _credit_answer(
        self, blocks: PromptBlocks, answered: Answered, hits: Hits, limit: int, page: int
    ) -> Hits:
        """Reads. Adds the former answer to what the worker that wrote it holds of this prompt: whole pages,
        and not its last token, which was sampled and never computed."""
        tokens = min(answered.total_tokens - 1, limit)
        tokens -= tokens % page
        if tokens > hits[answered.slot] and blocks.continues(answered.end):
            return hits.credited(answered.slot, tokens)
        return hits

    def _dispatch(
        self,
        request: RoutingRequest,
        view: View,
        match: Match,
        lost: list[Ghost],
        failed: tuple[WorkerId, ...],
        now: float,
    ) -> _InFlight:
        """Writes. Decides and books."""
        choice = self.policy.decide(request, view, now)
        slot, hits, prompt_tokens = index(choice.slot), view.hits, view.prompt_tokens
        hit_tokens = hits.tokens(slot)
        fleet = self.fleet
        request_id, blocks = request.request_id, request.blocks
        settled, beside = fleet.queued_prefill_s[slot] == 0.0, fleet.inflight[slot]
        fleet.book(slot, request_id, prompt_tokens, prompt_tokens - hit_tokens, now, seen=request.stream)
        insertion, own_tokens = None, prompt_tokens
        if blocks.count >= _LEAST_BLOCKS:
            insertion = self.index.insert(slot, blocks, match)
            own_tokens -= insertion.shared * prompt_tokens // blocks.count
            self.reuse.learn(insertion, match.depth, lost, now)
        fleet.hold(slot, request_id, own_tokens)
        worker = fleet.ids[slot]
        if request.session is not None:
            self.sessions.seen(request.session, worker, prompt_tokens, now)
        decision = Decision(
            request_id,
            worker,
            slot,
            choice.reason,
            prompt_tokens,
            hit_tokens,
            hits.best,
            len(failed),
        )
        if self._policy_learns:
            self.policy.observe(Dispatched(request, slot, hit_tokens), now)
        expected = 0
        if expected_there(hits, slot):
            expected = min(self.index.haunted(lost)[1], blocks.count)
        return _InFlight(request, decision, now, insertion, settled, beside, expected, failed)

    def _unbook(self, flight: _InFlight, now: float) -> None:
        """Writes. Takes a booked request off its worker's books."""
        flight.booked = False
        self.fleet.release(flight.decision.slot, flight.request.request_id, now)

    def _roll_back(self, flight: _InFlight) -> None:
        """Writes. The prompt was not prefilled: forgets what its dispatch made believe."""
        insertion = flight.insertion
        if insertion is not None and insertion.count > insertion.held:
            self.index.forget(flight.decision.slot, flight.request.blocks, insertion.held)

    def _learn(self, flight: _InFlight, usage: Usage) -> None:
        """Writes. What an answer teaches: bytes per token, the cache's capacity, what is cached now."""
        prompt_tokens, insertion = usage.prompt_tokens, flight.insertion
        if not prompt_tokens or insertion is None:
            return
        request, slot = flight.request, flight.decision.slot
        blocks = request.blocks
        if blocks.tokens_per_block is None:
            self.ratio.learn(request.model, blocks.bytes_len, prompt_tokens)
        if usage.cached_tokens is not None and self.config.capacity_feedback:
            # This prompt's own ratio, which no average can beat.
            tokens_per_block = prompt_tokens * BLOCK_BYTES / blocks.bytes_len
            if flight.expected:
                there = usage.cached_tokens / tokens_per_block
                self.survivors.learn(there > (insertion.held + flight.expected) / 2)
            lesson = self.capacity.learn(
                slot,
                blocks,
                insertion,
                usage.cached_tokens,
                tokens_per_block,
                flight.settled,
                flight.dispatched_at,
            )
            if lesson is not Lesson.NOTHING:
                self.lessons[lesson] += 1
                self.fleet.kv_capacity_tokens[slot] = self.capacity.tokens(slot)
            if lesson is Lesson.RESTARTED:
                self._lose_cache(slot)
        if (usage.completion_tokens or 0) >= _ANSWER_TOKENS_MIN:
            total_tokens = prompt_tokens + (usage.completion_tokens or 0)
            self.answers.add(blocks.id_at(blocks.count - 1), Answered(slot, blocks.end(), total_tokens))

    def _learn_price(self, flight: _InFlight, usage: Usage | None) -> None:
        """Writes. What a prefill costs, from one that found nobody waiting and was seen to end. What was
        computed is the engine's word, or else the prediction's."""
        decision, first_token_at = flight.decision, flight.first_token_at
        if first_token_at is None or not flight.settled or decision.attempt or not flight.request.stream:
            return
        prompt_tokens, cached_tokens = decision.prompt_tokens, decision.predicted_hit_tokens
        if usage is not None:
            prompt_tokens = usage.prompt_tokens or prompt_tokens
            if usage.cached_tokens is not None:
                cached_tokens = usage.cached_tokens
        spec = self.fleet.spec(decision.slot)
        seconds = max(0.0, first_token_at - flight.dispatched_at - spec.rtt_s) * spec.weight
        worker_class = spec.worker_class
        price = self.learned_prices.learn(
            worker_class, seconds, prompt_tokens - cached_tokens, prompt_tokens, flight.beside
        )
        if price is not None:
            self.fleet.set_price(worker_class, price)

    # --- the fleet ----------------------------------------------------------------------------

    def add_worker(self, spec: WorkerSpec, now: float) -> None:
        """Writes. A new worker, healthy and empty. Raises ValueError when it is already present."""
        slot = self.fleet.add(spec, now)
        self._declare_capacity(slot, spec)
        self._fleet_changed(slot, spec, now, present=True)

    def update_worker(self, spec: WorkerSpec, now: float) -> None:
        """Writes. New declared facts (models, weight, capacity); work in flight and cache beliefs stay."""
        before = self.fleet.spec(self.fleet.slot_of[spec.worker_id])
        slot = self.fleet.replace(spec)
        if spec.kv_capacity_tokens != before.kv_capacity_tokens:
            self._declare_capacity(slot, spec)
        else:
            self.fleet.kv_capacity_tokens[slot] = self.capacity.tokens(slot)
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
        self.index.drop_slot(slot)
        self.capacity.drop_slot(slot)
        self.answers.drop_slot(slot)
        self._fleet_changed(slot, spec, now, present=False)

    def drain_worker(self, worker_id: WorkerId, draining: bool, now: float) -> None:
        """Writes. A draining worker keeps its requests and gets no new ones. Raises KeyError."""
        slot = self.fleet.slot_of[worker_id]
        self.fleet.draining[slot] = draining
        self._fleet_changed(slot, self.fleet.spec(slot), now, present=True)

    def set_health(self, worker_id: WorkerId, healthy: bool, now: float) -> None:
        """Writes. An unhealthy worker gets no requests. Raises KeyError."""
        slot = self.fleet.slot_of[worker_id]
        if self.fleet.healthy[slot] is not healthy:
            self.fleet.healthy[slot] = healthy
            self._fleet_changed(slot, self.fleet.spec(slot), now, present=True)

    def forget_cache(self, worker_id: WorkerId, now: float) -> None:
        """Writes. The worker's process began anew, so its KV cache is empty: forgets what it held.

        Its capacity, its books and its health stay. Its requests in flight may still finish; they teach
        nothing, since they were predicted from the former cache. Raises KeyError when it is not present.
        """
        slot = self.fleet.slot_of[worker_id]
        self.capacity.restarted(slot)
        self.fleet.kv_capacity_tokens[slot] = self.capacity.tokens(slot)
        self._lose_cache(slot)
        self._fleet_changed(slot, self.fleet.spec(slot), now, present=True)

    def _lose_cache(self, slot: int) -> None:
        """Writes. What was inserted before is no measure of the new cache: a miss of it is no lack of room,
        and a rollback would take what came since."""
        for flight in self._in_flight.values():
            if flight.decision.slot == slot and flight.booked:
                flight.insertion = None
        self.index.drop_slot(slot)
        self.answers.drop_slot(slot)

    def tick(self, now: float) -> bool:
        """Writes. Upkeep, to be called about once a second; at most a millisecond of work.

        True when work is left, as after a restart of a worker whose prefixes must be forgotten: the next
        call should come soon.
        """
        fleet, reuse = self.fleet, self.reuse
        fleet.tick(now)
        reuse.read_clock(self.index.clock, now)
        fleet.compare_capacities()
        since = reuse.tick_at(now - reuse.horizon_s())
        for slot, spec in fleet.slots():
            tokens_per_block = self._tokens_per_block(spec)
            self.capacity.measure(slot, tokens_per_block)
            capacity_tokens = fleet.alike_capacity_tokens[slot]
            if capacity_tokens == inf:
                capacity_tokens = _ASSUMED_KV_CAPACITY_TOKENS / self.config.replicas
            live_share = self.index.used_since(slot, since) * tokens_per_block / capacity_tokens
            fleet.crowding[slot] = reuse.crowding(live_share)
        return self.index.maintain(_MAINTENANCE_STEPS) >= _MAINTENANCE_STEPS

    def models(self) -> tuple[str, ...]:
        """Reads. Every model that some worker declares, sorted."""
        return self._pools.models()

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
            answers=len(self.answers),
            index=self.index.statistics(),
        )

    def _declare_capacity(self, slot: int, spec: WorkerSpec) -> None:
        """Writes. What the engine tells is the first belief, a router's share of it where there are several;
        answers correct it."""
        tokens = spec.kv_capacity_tokens
        share = None if tokens is None else tokens / self.config.replicas
        self.capacity.declare(slot, share, self._tokens_per_block(spec))
        self.fleet.kv_capacity_tokens[slot] = self.capacity.tokens(slot)
        self.fleet.compare_capacities()

    def _tokens_per_block(self, spec: WorkerSpec) -> float:
        """Reads. Of a block of bytes, as the answers to the worker's first model say."""
        return BLOCK_BYTES / self.ratio.bytes_per_token(spec.models[0] if spec.models else "")

    def _fleet_changed(self, slot: int, spec: WorkerSpec, now: float, *, present: bool) -> None:
        self._pools.rebuild(self.fleet)
        self.policy.observe(FleetChanged(spec.worker_id, slot, present), now)
