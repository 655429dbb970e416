"""What a router believes of its workers without seeing into them, and what their answers teach it.

Beliefs are read in one place, `predict`: how long a prompt is and how much of it each worker holds. They are
corrected by three kinds of facts: what a worker declares, what an answer counts, and when its first token
came. Each belief is a module of its own; here is what a fact means to which of them, and in what order.

Rules kept. What policies go by is written to the fleet's columns: prices and capacities at once, what
compares workers at the tick. An answer teaches only beyond what its dispatch knew: what was inserted for it,
and whether anybody was waiting then. Nothing here knows the requests in flight: a restart is told to the
caller.
"""

from __future__ import annotations

from math import inf
from typing import Final, final

from warmroute_policies.answers import Answered, Answers
from warmroute_policies.blocks import BLOCK_BYTES, NO_BLOCKS, PromptBlocks
from warmroute_policies.capacity import CapacityBelief, Lesson
from warmroute_policies.config import BalancerConfig
from warmroute_policies.fleet import Fleet
from warmroute_policies.flights import Flight
from warmroute_policies.ghosts import Ghost
from warmroute_policies.hits import NO_HITS, Hits
from warmroute_policies.index import Match, PrefixIndex
from warmroute_policies.reuse import Reuse
from warmroute_policies.speed import LearnedPrices
from warmroute_policies.survivors import Survivors
from warmroute_policies.token_ratio import TokenRatio
from warmroute_policies.types import RoutingRequest, Usage, WorkerSpec

# Blocks of the shortest prompt that is looked up and remembered. An engine's step has a floor, 7 ms for an
# 8B model on an H100, in which some 200 tokens are computed for nothing: less than a kilobyte is not worth
# a detour.
LEAST_BLOCKS: Final = 2

# For crowding alone, while an engine's capacity is unknown: about what an 8B model leaves free on an 80 GB
# GPU (441k tokens).
_ASSUMED_KV_CAPACITY_TOKENS: Final = 400_000.0

# A shorter answer does not fill one page of an engine's cache.
_ANSWER_TOKENS_MIN: Final = 16

_NO_GHOSTS: Final[list[Ghost]] = []


@final
class Beliefs:
    """State: beliefs about capacities, returns, evicted prefixes, token lengths, prices and former answers.

    It writes to the fleet's columns and tells the index what follows; both are the balancer's.
    """

    def __init__(self, config: BalancerConfig, fleet: Fleet, index: PrefixIndex) -> None:
        self._config = config
        self._fleet = fleet
        self._index = index
        self._no_match = index.match(NO_BLOCKS)
        self.capacity = CapacityBelief(index)
        self.reuse = Reuse()
        self.survivors = Survivors()
        self.answers = Answers(config.sessions_max)
        self.ratio = TokenRatio(config.bytes_per_token)
        self.learned_prices = LearnedPrices(config.prices, config.default_price, config.learned_prices)
        if config.learn_prices:
            for worker_class in config.learned_prices:
                fleet.set_price(worker_class, self.learned_prices.price(worker_class))
        self.lessons = dict.fromkeys(Lesson, 0)
        """How many answers taught what of a capacity."""

    # --- what a prompt meets ------------------------------------------------------------------

    def predict(self, request: RoutingRequest, page: int) -> tuple[int, Hits, Match, list[Ghost]]:
        """Reads. The prompt's length in tokens, and how many of these each worker is believed to hold, in
        whole pages of `page` tokens. And what the index knows of the prompt, and what of the rest it gave up
        lately."""
        blocks = request.blocks
        match = self._index.match(blocks) if blocks.count >= LEAST_BLOCKS else self._no_match
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
        if match.depths:
            tokens_at: dict[int, int] = {}
            for depth in set(match.depths.values()):
                tokens = min(int(depth * block_tokens), limit)
                tokens_at[depth] = tokens - tokens % page
            hits = Hits(match.depths, tokens_at)
            answered = self.answers.get(match.last_id)
            if answered is not None and match.depths.get(answered.slot) == match.depth:
                hits = self._credit_answer(blocks, answered, hits, limit, page)
        if match.depth < blocks.count >= LEAST_BLOCKS:
            lost = self._index.evicted(blocks, match.depth)
            if lost:
                slots, end = self._index.haunted(lost)
                held, had = min(int(match.depth * block_tokens), limit), min(int(end * block_tokens), limit)
                hits = self.survivors.credit(hits, match.depth, slots, held, had, page)
        return prompt_tokens, hits, match, lost

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

    # --- what answers teach -------------------------------------------------------------------

    def learn(self, flight: Flight, usage: Usage) -> bool:
        """Writes. What an answer teaches: bytes per token, the cache's capacity, what is cached now.

        True when it shows that the worker restarted: what it held before is forgotten then.
        """
        prompt_tokens, insertion = usage.prompt_tokens, flight.insertion
        if not prompt_tokens or insertion is None:
            return False
        request, slot, restarted = flight.request, flight.decision.slot, False
        blocks = request.blocks
        if blocks.tokens_per_block is None:
            self.ratio.learn(request.model, blocks.bytes_len, prompt_tokens)
        if usage.cached_tokens is not None and self._config.capacity_feedback:
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
                self._fleet.kv_capacity_tokens[slot] = self.capacity.tokens(slot)
            if lesson is Lesson.RESTARTED:
                restarted = True
                self.answers.drop_slot(slot)  # the index knows: `capacity` told it
        if (usage.completion_tokens or 0) >= _ANSWER_TOKENS_MIN:
            total_tokens = prompt_tokens + (usage.completion_tokens or 0)
            self.answers.add(blocks.id_at(blocks.count - 1), Answered(slot, blocks.end(), total_tokens))
        return restarted

    def learn_price(self, flight: Flight, usage: Usage | None) -> None:
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
        spec = self._fleet.spec(decision.slot)
        seconds = max(0.0, first_token_at - flight.dispatched_at - spec.rtt_s) * spec.weight
        worker_class = spec.worker_class
        price = self.learned_prices.learn(
            worker_class, seconds, prompt_tokens - cached_tokens, prompt_tokens, flight.beside
        )
        if price is not None:
            self._fleet.set_price(worker_class, price)

    # --- what workers tell, and time ----------------------------------------------------------

    def declare_capacity(self, slot: int, spec: WorkerSpec) -> None:
        """Writes. What the engine tells is the first belief, a router's share of it where there are several;
        answers correct it."""
        tokens = spec.kv_capacity_tokens
        share = None if tokens is None else tokens / self._config.replicas
        self.capacity.declare(slot, share, self._tokens_per_block(spec))
        self._fleet.kv_capacity_tokens[slot] = self.capacity.tokens(slot)
        self._fleet.compare_capacities()

    def restore_capacity(self, slot: int, spec: WorkerSpec, tokens: float) -> None:
        """Writes. What an earlier router believed."""
        self.capacity.declare(slot, tokens, self._tokens_per_block(spec))
        self._fleet.kv_capacity_tokens[slot] = self.capacity.tokens(slot)
        self._fleet.compare_capacities()

    def restarted(self, slot: int) -> None:
        """Writes. The worker's cache is known to be empty; its capacity stays."""
        self.capacity.restarted(slot)
        self._fleet.kv_capacity_tokens[slot] = self.capacity.tokens(slot)
        self._lose_cache(slot)

    def drop_slot(self, slot: int) -> None:
        """Writes. The worker is gone; the next one in this slot is another."""
        self._lose_cache(slot)
        self.capacity.drop_slot(slot)

    def _lose_cache(self, slot: int) -> None:
        """Writes. Nothing that was cached there is any more."""
        self._index.drop_slot(slot)
        self.answers.drop_slot(slot)

    def measure_capacities(self) -> None:
        """Writes. Tells the index every capacity in blocks, whose length in tokens has changed."""
        for slot, spec in self._fleet.slots():
            self.capacity.measure(slot, self._tokens_per_block(spec))

    def tick(self, now: float) -> None:
        """Writes. Reads the index's clock, compares capacities, and measures how much of what is asked for
        nobody holds and how crowded each cache is."""
        fleet, reuse = self._fleet, self.reuse
        reuse.read_clock(self._index.clock, now)
        fleet.compare_capacities()
        fleet.fresh_share = reuse.fresh_share
        since = reuse.tick_at(now - reuse.horizon_s())
        for slot, spec in fleet.slots():
            tokens_per_block = self._tokens_per_block(spec)
            self.capacity.measure(slot, tokens_per_block)
            capacity_tokens = fleet.alike_capacity_tokens[slot]
            if capacity_tokens == inf:
                capacity_tokens = _ASSUMED_KV_CAPACITY_TOKENS / self._config.replicas
            live_share = self._index.used_since(slot, since) * tokens_per_block / capacity_tokens
            fleet.crowding[slot] = reuse.crowding(live_share)

    def _tokens_per_block(self, spec: WorkerSpec) -> float:
        """Reads. Of a block of bytes, as the answers to the worker's first model say."""
        return BLOCK_BYTES / self.ratio.bytes_per_token(spec.models[0] if spec.models else "")
