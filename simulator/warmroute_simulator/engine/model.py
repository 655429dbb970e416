"""The engine: requests and time in, events out.

A worker computes one step after the other. At each step's start the scheduler decides, as vLLM does:

1. Running sequences first, in the order of their admission, each as many tokens as it still has to compute
   (one when it decodes) within the step's token budget. When the cache has no room for one of them, the
   most recently admitted sequence is preempted: it loses its blocks (they stay as cache) and goes back to
   the head of the queue, to be recomputed.
2. Then waiting requests, first come, first served, while budget, sequence slots and cache allow. A request
   starts behind its prefix hit, in whole blocks and short of its last token: one token at least is always
   computed. It is admitted only if its whole prompt fits in what is available. A request that does not fit
   is tried again after some sequence has released blocks.
3. Blocks get their key when the step that fills them starts, so requests admitted together already share.

At a step's end each sequence whose known tokens are all computed yields one token.

Where all running requests decode, nobody can be admitted and nobody wants every token as an event, the next
steps are equal, and `advance` jumps over them in closed form up to the next end of a request. The jump and
the step-by-step way give the same results.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from warmroute_simulator.engine.cache import KVCache, PagedCache
from warmroute_simulator.engine.config import EngineConfig
from warmroute_simulator.engine.events import Admitted, EngineRequest, Event, Finished, FirstToken, Tokens
from warmroute_simulator.engine.sequence import Sequence
from warmroute_simulator.engine.steps import Run, step_seconds


@dataclass(slots=True)
class EngineTotals:
    """Counters since the start. Prompt and cached tokens count at a request's first admission."""

    requests: int = 0
    finished: int = 0
    aborted: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    preemptions: int = 0
    first_tokens: int = 0
    ttft_sum_s: float = 0.0
    steps: int = 0
    busy_s: float = 0.0
    """Time in which steps ran."""


class Engine:
    """One worker. State: the queue, the running batch, the cache, the run of steps in flight, `totals`.

    A driver calls `advance(now)` at or after `next_event_at()`, and before each `submit`. `now` never
    decreases. An engine that is advanced late catches up: steps start when the step before them ended.
    """

    def __init__(self, config: EngineConfig, cache: KVCache | None = None) -> None:
        self.config = config
        self.cache: KVCache = PagedCache(config.capacity_blocks) if cache is None else cache
        self.totals = EngineTotals()
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._sequences: dict[int, Sequence] = {}
        self._run: Run | None = None
        self._free_at = 0.0
        self._head_does_not_fit = False

    def reconfigure(self, config: EngineConfig) -> None:
        """Writes. Latencies, limits and overheads from the next step that starts on; the cache stays what it
        is. Equal steps that follow the one in flight are decided anew."""
        self.config = config
        if self._run is not None:
            self._run.steps = 1

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        """Share of the cache that running sequences hold, 0 to 1."""
        return self.cache.in_use / self.cache.capacity

    def submit(self, request: EngineRequest, now: float) -> None:
        """Queue a request. Writes the queue; the next step that starts may admit it.

        Raises ValueError when the request can never fit in the cache, has no prompt, or its id is in use.
        """
        total_tokens = request.prompt_tokens + request.output_tokens
        if request.prompt_tokens < 1 or request.output_tokens < 0:
            raise ValueError("a request needs at least one prompt token and no negative output")
        if -(-total_tokens // self.config.block_tokens) > self.cache.capacity:
            raise ValueError(f"{total_tokens} tokens can never fit in {self.cache.capacity} blocks")
        if request.request_id in self._sequences:
            raise ValueError(f"request id {request.request_id} is in use")
        sequence = Sequence(request, now)
        self._sequences[request.request_id] = sequence
        self._waiting.append(sequence)
        self.totals.requests += 1
        if self._run is None:
            self._free_at = max(self._free_at, now)
        else:
            self._run.steps = 1

    def abort(self, request_id: int) -> bool:
        """Drop a request wherever it is and release its blocks; no further event mentions it.

        The step in flight keeps its length. False when the id is not (or no longer) known.
        """
        sequence = self._sequences.pop(request_id, None)
        if sequence is None:
            return False
        sequence.alive = False
        self.totals.aborted += 1
        if sequence in self._running:
            self._running.remove(sequence)
            self._release(sequence)
        else:
            if self._waiting[0] is sequence:
                self._head_does_not_fit = False
            self._waiting.remove(sequence)
        if self._run is not None:
            self._run.steps = 1
        return True

    def reset_prefix_cache(self) -> None:
        """Forget all cached blocks that no running sequence uses."""
        self.cache.clear()

    def next_event_at(self) -> float | None:
        """When `advance` has something to do; None while the engine is idle. Reads only."""
        if self._run is not None:
            return self._run.end_of(self._run.steps)
        return self._free_at if self._running or self._waiting else None

    def advance(self, now: float) -> list[Event]:
        """Do everything that happens up to and including `now`; events in order of time."""
        events: list[Event] = []
        while True:
            run = self._run
            if run is None:
                if not (self._running or self._waiting) or self._free_at > now:
                    return events
                self._run = run = self._schedule(self._free_at, events)
            ended = run.ended_by(now)
            if not ended:
                return events
            self._settle(run, ended, events)
            if ended == run.steps:
                self._free_at = run.end_of(ended)
                self._run = None
            else:
                run.skip(ended)
                return events

    def _schedule(self, at: float, events: list[Event]) -> Run:
        config, cache = self.config, self.cache
        block_tokens = config.block_tokens
        budget = config.step_tokens
        prefill: list[tuple[Sequence, int]] = []
        decode: list[Sequence] = []
        preempted = False
        index = 0
        while index < len(self._running) and budget > 0:
            sequence = self._running[index]
            tokens = min(sequence.known - sequence.computed, budget)
            prompt = sequence.prompt
            while not cache.grow(prompt, sequence.held, sequence.computed + tokens, block_tokens):
                preempted = True
                if self._preempt_last() is sequence:
                    break
            else:
                sequence.held = sequence.computed + tokens
                budget -= tokens
                if tokens == 1 and sequence.generated:
                    decode.append(sequence)
                else:
                    prefill.append((sequence, tokens))
                index += 1
        if not preempted:
            self._admit(budget, prefill, at, events)
        context = sum(sequence.held for sequence in decode)
        chunks = [(sequence.computed, tokens) for sequence, tokens in prefill]
        first_s = step_seconds(config.latency, chunks, len(decode), context) + config.step_overhead_s
        run = Run(at, first_s, 0.0, 1, prefill, decode)
        if not prefill and len(decode) == len(self._running):
            run.grow_s = config.latency.d2 * len(decode) / 1e6
            run.steps = self._equal_steps(decode)
        return run

    def _admit(
        self, budget: int, prefill: list[tuple[Sequence, int]], at: float, events: list[Event]
    ) -> None:
        cache, block_tokens = self.cache, self.config.block_tokens
        while self._waiting and budget > 0 and len(self._running) < self.config.max_num_seqs:
            if self._head_does_not_fit:
                return
            sequence = self._waiting[0]
            prompt, known = sequence.prompt, sequence.known
            hit_blocks = cache.match(prompt, (known - 1) // block_tokens)
            if not cache.fits(prompt, hit_blocks, -(-known // block_tokens) - hit_blocks):
                self._head_does_not_fit = True
                return
            self._waiting.popleft()
            self._running.append(sequence)
            cache.acquire(prompt, hit_blocks)
            sequence.computed = sequence.held = hit_blocks * block_tokens
            if sequence.cached_tokens < 0:
                sequence.cached_tokens = sequence.computed
                self.totals.prompt_tokens += sequence.prompt_tokens
                self.totals.cached_tokens += sequence.computed
                lost = cache.lost(prompt, hit_blocks, (known - 1) // block_tokens) * block_tokens
                events.append(Admitted(sequence.request.request_id, at, sequence.computed, lost))
            tokens = min(known - sequence.computed, budget)
            cache.grow(prompt, sequence.held, sequence.computed + tokens, block_tokens)
            sequence.held = sequence.computed + tokens
            budget -= tokens
            prefill.append((sequence, tokens))

    def _equal_steps(self, decode: list[Sequence]) -> int:
        """How many steps like the one that starts now can follow each other."""
        admissible = self._waiting and not self._head_does_not_fit
        if admissible and len(self._running) < self.config.max_num_seqs:
            return 1
        steps = min(sequence.output_tokens - sequence.generated for sequence in decode)
        if any(sequence.token_events for sequence in decode):
            return 1
        block_tokens, available = self.config.block_tokens, self.cache.available

        def fits(steps: int) -> bool:
            more = steps - 1
            return available >= sum(
                -(-(sequence.held + more) // block_tokens) + (-sequence.held // block_tokens)
                for sequence in decode
            )

        if fits(steps):
            return steps
        low, high = 1, steps
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def _settle(self, run: Run, ended: int, events: list[Event]) -> None:
        """The first `ended` steps of `run` are over: grow, yield tokens, finish what is complete."""
        at = run.end_of(ended)
        self.totals.steps += ended
        self.totals.busy_s += at - run.started_at
        for sequence, tokens in run.prefill:
            if sequence.alive:
                sequence.computed += tokens
                if sequence.computed == sequence.known:
                    self._yield_tokens(sequence, 1, at, events)
        decode = [sequence for sequence in run.decode if sequence.alive]
        if run.steps > 1:
            self._grow_through(decode, min(ended, run.steps - 1))
        for sequence in decode:
            sequence.computed += ended
            self._yield_tokens(sequence, ended, at, events)

    def _grow_through(self, decode: list[Sequence], more: int) -> None:
        """Take the blocks of `more` further decode steps, in the order in which single steps would."""
        block_tokens, cache = self.config.block_tokens, self.cache
        if all(sequence.held // block_tokens >= cache.known(sequence.prompt) for sequence in decode):
            for sequence in decode:  # blocks that nobody else can meet: the order does not matter
                cache.grow(sequence.prompt, sequence.held, sequence.held + more, block_tokens)
                sequence.held += more
            return
        changes: list[tuple[int, int]] = []
        for order, sequence in enumerate(decode):
            opens = -sequence.held % block_tokens + 1
            changes += [(step, order) for step in range(opens, more + 1, block_tokens)]
            fills = -sequence.held % block_tokens or block_tokens
            changes += [(step, order) for step in range(fills, more + 1, block_tokens)]
        changes.sort()
        held = [sequence.held for sequence in decode]
        for step, order in changes:
            sequence = decode[order]
            cache.grow(sequence.prompt, sequence.held, held[order] + step, block_tokens)
            sequence.held = held[order] + step
        for order, sequence in enumerate(decode):
            sequence.held = held[order] + more

    def _yield_tokens(self, sequence: Sequence, count: int, at: float, events: list[Event]) -> None:
        request = sequence.request
        if request.output_tokens:
            if sequence.generated == 0:
                self.totals.first_tokens += 1
                self.totals.ttft_sum_s += at - sequence.submitted_at
                events.append(FirstToken(request.request_id, at, sequence.cached_tokens))
            elif request.token_events:
                events.append(Tokens(request.request_id, at, count))
            sequence.generated += count
            self.totals.output_tokens += count
        if sequence.generated == request.output_tokens:
            self._running.remove(sequence)
            self._release(sequence)
            del self._sequences[request.request_id]
            self.totals.finished += 1
            events.append(
                Finished(request.request_id, at, request.reason, sequence.cached_tokens, sequence.generated)
            )

    def _preempt_last(self) -> Sequence:
        sequence = self._running.pop()
        self._release(sequence)
        sequence.computed = 0
        self._waiting.appendleft(sequence)
        self.totals.preemptions += 1
        return sequence

    def _release(self, sequence: Sequence) -> None:
        self.cache.release(sequence.prompt, sequence.held, self.config.block_tokens)
        sequence.held = 0
        self._head_does_not_fit = False


def make_engine(config: EngineConfig, cache: KVCache | None = None) -> Engine:
    """An engine with the scheduler that `config.kind` names."""
    return Engine(config, cache)
