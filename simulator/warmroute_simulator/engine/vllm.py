"""vLLM's rule (its V1 scheduler): decodes and pieces of prompts share a step.

1. Running sequences first: a token for each that decodes, then the rest of the prompt that the last step cut,
   within the step's token budget. When the cache has no room, the most recently admitted sequence is
   preempted: it goes back to the head of the queue, to be recomputed.
2. Then waiting requests, first come, first served, while budget, sequence slots and cache allow, and only if
   nobody was preempted. A request is admitted when its *whole* prompt fits in what is available, though this
   step may compute only a piece of it (`scheduler_reserve_full_isl`, vLLM's default since 0.19). The first
   that does not fit stops admission, until somebody has released blocks.
3. Blocks get their key when the step that fills them starts, so requests admitted together already share.
"""

from __future__ import annotations

from typing import final

from warmroute_simulator.engine.events import Event
from warmroute_simulator.engine.scheduler import Scheduler
from warmroute_simulator.engine.sequence import Sequence
from warmroute_simulator.engine.steps import Run


@final
class VllmScheduler(Scheduler):
    """Mixed steps."""

    def plan(self, at: float, decided_at: float, events: list[Event]) -> Run:
        before = self.totals.preemptions
        self._grow_decodes()
        prefill: list[tuple[Sequence, int]] = []
        budget = self.config.step_tokens - self.decoding.size
        partial = self.partial
        if partial is not None and budget:
            tokens = min(partial.known - partial.computed, budget)
            if self.grow_prefill(partial, tokens, prefill):
                budget -= tokens
            else:
                self._preempt_last()
        if self.totals.preemptions == before:
            self._admit(budget, prefill, at, decided_at, events)
        return self.run_of(at, prefill, decodes=self.decoding.size > 0)

    def _grow_decodes(self) -> None:
        batch = self.decoding
        for sequence in batch.opening():
            while sequence.decoding and not batch.grow(sequence):
                self._preempt_last()
        batch.tick()

    def _preempt_last(self) -> None:
        sequence = self.running[next(reversed(self.running))]
        self.preempt(sequence)
        self.waiting.appendleft(sequence)

    def _admit(
        self,
        budget: int,
        prefill: list[tuple[Sequence, int]],
        at: float,
        decided_at: float,
        events: list[Event],
    ) -> None:
        cache, block_tokens = self.cache, self.config.block_tokens
        while budget and self.may_admit():
            sequence = self.waiting[0]
            if sequence.ready_at > decided_at:
                return
            prompt, known = sequence.prompt, sequence.known
            hit_blocks = cache.match(prompt, (known - 1) // block_tokens)
            if not cache.fits(prompt, hit_blocks, -(-known // block_tokens) - hit_blocks):
                self.blocked = True
                return
            self.admit_head(hit_blocks, at, events)
            tokens = min(known - sequence.computed, budget)
            self.take_prefill(sequence, tokens, prefill)
            budget -= tokens
