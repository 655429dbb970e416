"""SGLang's rule: prefill first.

1. As long as waiting requests can be taken up, a step computes prompts and nobody decodes: the prompt that
   the last step cut, then waiting requests, first come, first served, up to `step_tokens` tokens together
   (`chunked_prefill_size`; the last prompt is cut to fit) and `prefill_tokens` (`max_prefill_tokens`).
2. A request is admitted while prompt and answer fit in what is available less a reserve: the tokens that the
   running sequences have still to generate, each at most 4,096 of them, times the new-token ratio. The first
   that does not fit stops admission, until somebody has released blocks. Answers are as long as their limit
   here: what a client allows beyond what the model says is not known to the simulation.
3. Otherwise every running sequence decodes. When the cache has no room for all, sequences are retracted,
   those with the fewest output tokens first (of equals the longest prompt), to the end of the queue.
4. The ratio starts at 0.7 times the conservativeness and falls linearly to 14 % of that over 600 decode
   steps. A retraction sets it to what the running answers show to be needed. It is as at the start whenever
   nobody runs.

Prompts that are admitted together do not share what they compute: the tree learns of it when they are done.
Described after SGLang 0.5's scheduler and the model of it in Dynamo's mocker.
"""

from __future__ import annotations

from typing import Final, final

from warmroute_simulator.engine.cache import KVCache
from warmroute_simulator.engine.config import EngineConfig
from warmroute_simulator.engine.events import Event
from warmroute_simulator.engine.scheduler import Scheduler
from warmroute_simulator.engine.sequence import Sequence
from warmroute_simulator.engine.steps import Run
from warmroute_simulator.engine.totals import EngineTotals

RESERVED_OUTPUT_TOKENS: Final = 4096
"""SGLang counts no more than these of an answer to come (`SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION`)."""
FIRST_RATIO: Final = 0.7
"""`SGLANG_INIT_NEW_TOKEN_RATIO`; times `--schedule-conservativeness`, which is 1."""
LAST_RATIO: Final = 0.7 * 0.14
"""`SGLANG_MIN_NEW_TOKEN_RATIO_FACTOR`."""
RATIO_STEPS: Final = 600
"""`SGLANG_NEW_TOKEN_RATIO_DECAY_STEPS`."""
RETRACT_STEPS: Final = 20
"""Steps that a retraction wants to make room for (`SGLANG_RETRACT_DECODE_STEPS`)."""


@final
class SglangScheduler(Scheduler):
    """Prefill steps and decode steps. State beside the base's: where the new-token ratio was set last."""

    def __init__(self, config: EngineConfig, cache: KVCache, totals: EngineTotals) -> None:
        super().__init__(config, cache, totals)
        self._ratio = FIRST_RATIO
        self._ratio_since = 0

    def plan(self, at: float, decided_at: float, events: list[Event]) -> Run:
        if not self.running:
            self._set_ratio(FIRST_RATIO)
        prefill = self._prefill(at, decided_at, events)
        if prefill:
            return self.run_of(at, prefill, decodes=False)
        batch = self.decoding
        if batch.opens() > self.cache.available:
            self._retract()
        for sequence in batch.opening():
            batch.take(sequence, sequence.offset + batch.clock)
        batch.tick()
        return self.run_of(at, prefill, decodes=True)

    def _prefill(self, at: float, decided_at: float, events: list[Event]) -> list[tuple[Sequence, int]]:
        config, cache, block_tokens = self.config, self.cache, self.config.block_tokens
        prefill: list[tuple[Sequence, int]] = []
        chunk, whole = config.step_tokens, config.prefill_tokens
        charged = 0.0
        partial = self.partial
        if partial is not None:
            tokens = min(partial.known - partial.computed, chunk)
            self.take_prefill(partial, tokens, prefill)
            chunk, whole = chunk - tokens, whole - tokens
            if self.partial is None:
                charged += _reserved(partial.output_tokens - partial.generated)
        if chunk < block_tokens or whole <= 0 or not self.may_admit():
            return prefill
        charged += self._reserve()
        promised = 0
        taken: list[tuple[Sequence, int]] = []
        while chunk >= block_tokens and whole > 0 and self.may_admit():
            sequence = self.waiting[0]
            if sequence.ready_at > decided_at:
                break
            prompt, known = sequence.prompt, sequence.known
            hit_blocks = cache.match(prompt, (known - 1) // block_tokens)
            missing = known - hit_blocks * block_tokens
            blocks = -(-missing // block_tokens)
            output = _reserved(sequence.output_tokens - sequence.generated)
            room = (cache.available - promised) * block_tokens - charged
            fits = missing + output < room and cache.fits(prompt, hit_blocks, blocks + promised)
            if self.running and not fits:
                self.blocked = True
                break
            if missing >= whole and (prefill or taken):
                break
            tokens = missing
            if tokens > chunk:
                tokens = chunk // block_tokens * block_tokens
                output = 0
            self.admit_head(hit_blocks, at, events)
            taken.append((sequence, tokens))
            promised += blocks
            charged += output
            chunk, whole = chunk - tokens, whole - tokens
        for sequence, tokens in taken:
            self.take_prefill(sequence, tokens, prefill)
        return prefill

    def _reserve(self) -> float:
        """Tokens that those who decode are expected to generate yet."""
        batch = self.decoding
        to_come = sum(
            _reserved(sequence.output_tokens - batch.generated(sequence)) for sequence in batch.sequences()
        )
        decay = (FIRST_RATIO - LAST_RATIO) / RATIO_STEPS
        ratio = self._ratio - decay * (batch.settled - self._ratio_since)
        return max(LAST_RATIO, ratio) * to_come

    def _retract(self) -> None:
        batch = self.decoding
        while batch.opens() > self.cache.available and batch.size > 1:
            sequence = min(
                reversed(self.running.values()),
                key=lambda running: (batch.generated(running), -running.prompt_tokens),
            )
            self.preempt(sequence)
            self.waiting.append(sequence)
        left = batch.sequences()
        generated = sum(batch.generated(sequence) for sequence in left) + RETRACT_STEPS * len(left)
        limits = sum(sequence.output_tokens for sequence in left)
        self._set_ratio(min(1.0, generated / (limits + 1)))

    def _set_ratio(self, ratio: float) -> None:
        self._ratio, self._ratio_since = ratio, self.decoding.settled


def _reserved(output_tokens: int) -> int:
    return min(output_tokens, RESERVED_OUTPUT_TOKENS)
