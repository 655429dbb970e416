"""What the two kinds of scheduler have in common: the queue, who runs, who holds which blocks.

A scheduler decides at each step's start who computes what (`plan`); time is `model.Engine`'s. The rules are
in `vllm` and `sglang`.

Rules kept here. `running` is in the order of admission. A sequence of `running` either decodes, or it is in
the step in flight with a piece of its prompt, or it is `partial`, the only one whose prompt is cut at a
step's end, and then it is the last. A request starts behind its prefix hit, in whole blocks and short of its
last token: at least one token is always computed. Who is preempted keeps nothing but what the cache keeps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque

from warmroute_simulator.engine.cache import KVCache
from warmroute_simulator.engine.config import EngineConfig
from warmroute_simulator.engine.decode_batch import DecodeBatch
from warmroute_simulator.engine.events import Admitted, Event
from warmroute_simulator.engine.sequence import Sequence
from warmroute_simulator.engine.steps import Run, step_seconds
from warmroute_simulator.engine.totals import EngineTotals


class Scheduler(ABC):
    """State: the queue, the running sequences, the cache."""

    def __init__(self, config: EngineConfig, cache: KVCache, totals: EngineTotals) -> None:
        self.config = config
        self.cache = cache
        self.totals = totals
        self.waiting: deque[Sequence] = deque()
        self.running: dict[int, Sequence] = {}
        self.decoding = DecodeBatch(cache, config.block_tokens)
        self.partial: Sequence | None = None
        self.blocked = False
        """The head of the queue does not fit until somebody has released blocks."""

    @abstractmethod
    def plan(self, at: float, decided_at: float, events: list[Event]) -> Run:
        """Writes. The step that starts at `at`; requests that are ready by `decided_at` may join it.

        Somebody runs, or the head of the queue is ready.
        """

    def may_admit(self) -> bool:
        """Reads. Would the head of the queue be looked at, were it ready?"""
        return bool(self.waiting) and not self.blocked and len(self.running) < self.config.max_num_seqs

    def drop(self, sequence: Sequence) -> None:
        """Writes. The sequence runs no more, and its blocks are released."""
        del self.running[sequence.request_id]
        if sequence.decoding:
            self.decoding.leave(sequence)
        elif sequence is self.partial:
            self.partial = None
        self.cache.release(sequence.lease, sequence.held, self.config.block_tokens)
        sequence.held = 0
        self.blocked = False

    def preempt(self, sequence: Sequence) -> None:
        """Writes. The sequence is to be computed again; the caller queues it."""
        self.drop(sequence)
        sequence.computed = 0
        self.totals.preemptions += 1

    def admit_head(self, hit_blocks: int, at: float, events: list[Event]) -> None:
        """Writes. The head of the queue runs from now on, behind its prefix hit."""
        sequence = self.waiting.popleft()
        self.running[sequence.request_id] = sequence
        cache, block_tokens = self.cache, self.config.block_tokens
        sequence.lease = cache.acquire(sequence.prompt, hit_blocks)
        sequence.computed = sequence.held = hit_blocks * block_tokens
        if sequence.cached_tokens < 0:
            sequence.cached_tokens = sequence.computed
            sequence.named_tokens = cache.known(sequence.prompt) * block_tokens
            self.totals.prompt_tokens += sequence.prompt_tokens
            self.totals.cached_tokens += sequence.computed
            limit = (sequence.known - 1) // block_tokens
            lost = cache.lost(sequence.prompt, hit_blocks, limit) * block_tokens
            events.append(Admitted(sequence.request_id, at, sequence.computed, lost))

    def grow_prefill(self, sequence: Sequence, tokens: int, prefill: list[tuple[Sequence, int]]) -> bool:
        """Writes. Blocks for the next `tokens` tokens of the sequence, which join the step; False, and
        nothing changed, when there are not enough."""
        end = sequence.computed + tokens
        if not self.cache.grow(sequence.lease, sequence.held, end, self.config.block_tokens):
            return False
        sequence.held = end
        self.partial = sequence if end < sequence.known else None
        prefill.append((sequence, tokens))
        return True

    def take_prefill(self, sequence: Sequence, tokens: int, prefill: list[tuple[Sequence, int]]) -> None:
        """Writes. As `grow_prefill`, for blocks that have been counted on. Raises RuntimeError when they are
        not there: a sequence without blocks would never end."""
        if not self.grow_prefill(sequence, tokens, prefill):
            raise RuntimeError(f"no block for request {sequence.request_id}, which was promised some")

    def run_of(self, at: float, prefill: list[tuple[Sequence, int]], *, decodes: bool) -> Run:
        """The step, or as many equal decode steps as follow each other."""
        config, batch = self.config, self.decoding
        chunks = [(sequence.computed, tokens) for sequence, tokens in prefill]
        size = batch.size if decodes else 0
        took = step_seconds(config.latency, chunks, size, batch.context_tokens if decodes else 0)
        run = Run(at, took + config.step_overhead_s, prefill, decodes=decodes)
        if prefill or self.partial is not None or batch.streams:
            return run
        run.grow_s = config.latency.d2 * size / 1e6
        run.steps = 1 + batch.steps_in(self.cache.available, batch.steps_to_end() - 1)
        if self.may_admit():
            ready_at = self.waiting[0].ready_at
            run.steps = min(run.steps, run.steps_before(ready_at, overlap=config.overlap))
        return run
