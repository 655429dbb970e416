"""The engine: requests and time in, events out.

A worker computes one step after the other. What a step computes is decided when it starts, by a scheduler:
`vllm` or `sglang`. At a step's end each sequence whose known tokens are all computed yields one token.

Where all running requests decode, nobody can be admitted and nobody wants every token as an event, the next
steps are equal, and `advance` jumps over them in closed form up to the next end of a request. The jump and
the step-by-step way give the same results.

Who may join a step: a request is ready `request_overhead_s` after it was submitted, and with `overlap` a
step takes in only who was ready when the step before it started. A step that follows idleness is decided on
when it starts.
"""

from __future__ import annotations

from typing import final

from warmroute_simulator.engine.cache import KVCache, PagedCache
from warmroute_simulator.engine.config import EngineConfig
from warmroute_simulator.engine.events import EngineRequest, Event, Finished, FirstToken, Tokens
from warmroute_simulator.engine.scheduler import Scheduler
from warmroute_simulator.engine.sequence import Sequence
from warmroute_simulator.engine.sglang import SglangScheduler
from warmroute_simulator.engine.steps import Run
from warmroute_simulator.engine.totals import EngineTotals
from warmroute_simulator.engine.vllm import VllmScheduler


@final
class Engine:
    """One worker. State: the scheduler with queue, running batch and cache; the run of steps in flight;
    `totals`.

    A driver calls `advance(now)` at or after `next_event_at()`, and before each `submit` and `abort`. `now`
    never decreases. An engine that is advanced late catches up: steps start when the step before them ended.
    """

    def __init__(self, config: EngineConfig, cache: KVCache | None = None) -> None:
        self.config = config
        self.cache: KVCache = PagedCache(config.capacity_blocks) if cache is None else cache
        self.totals = EngineTotals()
        self._scheduler: Scheduler = (
            VllmScheduler(config, self.cache, self.totals)
            if config.kind == "vllm"
            else SglangScheduler(config, self.cache, self.totals)
        )
        self._sequences: dict[int, Sequence] = {}
        self._run: Run | None = None
        self._free_at = 0.0
        self._last_start = 0.0

    def reconfigure(self, config: EngineConfig) -> None:
        """Writes. Latencies, limits and overheads from the next step that starts on. Equal steps that follow
        the one in flight are decided on anew.

        Raises ValueError when kind or blocks differ: that would be another engine.
        """
        if (config.kind, config.block_tokens) != (self.config.kind, self.config.block_tokens):
            raise ValueError("an engine keeps its kind and the size of its blocks")
        self.config = self._scheduler.config = config
        self._scheduler.blocked = False
        if self._run is not None:
            self._run.steps = 1

    @property
    def running(self) -> int:
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        return len(self._scheduler.waiting)

    @property
    def waiting_tokens(self) -> int:
        """Prompt tokens that are neither cached nor computed, of requests that wait and of the one whose
        prompt is cut."""
        scheduler, block_tokens = self._scheduler, self.config.block_tokens
        tokens = 0
        for sequence in scheduler.waiting:
            limit = (sequence.known - 1) // block_tokens
            tokens += sequence.known - self.cache.match(sequence.prompt, limit) * block_tokens
        partial = scheduler.partial
        return tokens if partial is None else tokens + max(0, partial.known - partial.held)

    @property
    def kv_usage(self) -> float:
        """Share of the cache that running sequences hold, 0 to 1."""
        return self.cache.in_use / self.cache.capacity

    def submit(self, request: EngineRequest, now: float) -> None:
        """Queue a request. Writes the queue; the next step that starts may admit it.

        Raises ValueError when the request can never fit in the cache, has no prompt, or its id is in use.
        """
        config, scheduler = self.config, self._scheduler
        total_tokens = request.prompt_tokens + request.output_tokens
        if request.prompt_tokens < 1 or request.output_tokens < 0:
            raise ValueError("a request needs at least one prompt token and no negative output")
        if -(-total_tokens // config.block_tokens) > self.cache.capacity:
            raise ValueError(f"{total_tokens} tokens can never fit in {self.cache.capacity} blocks")
        if request.request_id in self._sequences:
            raise ValueError(f"request id {request.request_id} is in use")
        sequence = Sequence(request, now, now + config.request_overhead_s)
        self._sequences[request.request_id] = sequence
        alone = not scheduler.waiting
        scheduler.waiting.append(sequence)
        self.totals.requests += 1
        run = self._run
        if run is not None and run.steps > 1 and alone and scheduler.may_admit():
            run.steps = min(run.steps, run.steps_before(sequence.ready_at, overlap=config.overlap))

    def abort(self, request_id: int) -> bool:
        """Drop a request wherever it is and release its blocks; no further event mentions it.

        The step in flight keeps its length. False when the id is not (or no longer) known.
        """
        sequence = self._sequences.pop(request_id, None)
        if sequence is None:
            return False
        sequence.alive = False
        self.totals.aborted += 1
        scheduler = self._scheduler
        if request_id in scheduler.running:
            scheduler.drop(sequence)
        else:
            if scheduler.waiting[0] is sequence:
                scheduler.blocked = False
            scheduler.waiting.remove(sequence)
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
        return self._next_start()

    def advance(self, now: float) -> list[Event]:
        """Do everything that happens up to and including `now`; events in order of time."""
        events: list[Event] = []
        while True:
            run = self._run
            if run is None:
                start = self._next_start()
                if start is None or start > now:
                    return events
                scheduler = self._scheduler
                ahead = self.config.overlap and scheduler.running
                self._run = run = scheduler.plan(start, self._last_start if ahead else start, events)
            ended = run.ended_by(now)
            if not ended:
                return events
            self._settle(run, ended, events)
            if ended < run.steps:
                run.skip(ended)
                return events
            self._last_start = run.end_of(ended - 1)
            self._free_at = run.end_of(ended)
            self._run = None

    def _next_start(self) -> float | None:
        """When the next step starts, if nothing else comes."""
        scheduler = self._scheduler
        if scheduler.running:
            return self._free_at
        if scheduler.waiting:
            return max(self._free_at, scheduler.waiting[0].ready_at)
        return None

    def _settle(self, run: Run, ended: int, events: list[Event]) -> None:
        """The first `ended` steps of `run` are over: grow, yield tokens, finish what is complete."""
        at = run.end_of(ended)
        totals, batch = self.totals, self._scheduler.decoding
        totals.steps += ended
        totals.busy_s += at - run.started_at
        if run.decodes:
            if run.steps > 1:
                batch.grow_through(min(ended, run.steps - 1))
            batch.settled += ended
            totals.output_tokens += batch.size * ended
            events += [Tokens(sequence.request_id, at, ended) for sequence in batch.streams]
            while (done := batch.pop_ended()) is not None:
                self._finish(done, at, events)
        for sequence, tokens in run.prefill:
            if sequence.alive:
                sequence.computed += tokens
                if sequence.computed == sequence.known:
                    self._prefilled(sequence, at, events)

    def _prefilled(self, sequence: Sequence, at: float, events: list[Event]) -> None:
        """All known tokens of a sequence are computed: it yields the next one, and decodes from now on."""
        totals = self.totals
        if sequence.output_tokens:
            if sequence.generated == 0:
                totals.first_tokens += 1
                totals.ttft_sum_s += at - sequence.submitted_at
                events.append(FirstToken(sequence.request_id, at, sequence.cached_tokens))
            elif sequence.token_events:
                events.append(Tokens(sequence.request_id, at, 1))
            sequence.generated += 1
            totals.output_tokens += 1
        if sequence.generated == sequence.output_tokens:
            self._finish(sequence, at, events)
        else:
            self._scheduler.decoding.join(sequence)

    def _finish(self, sequence: Sequence, at: float, events: list[Event]) -> None:
        self._scheduler.drop(sequence)
        del self._sequences[sequence.request_id]
        self.totals.finished += 1
        request = sequence.request
        events.append(
            Finished(request.request_id, at, request.reason, sequence.cached_tokens, sequence.generated)
        )


def make_engine(config: EngineConfig, cache: KVCache | None = None) -> Engine:
    """An engine with the scheduler that `config.kind` names."""
    return Engine(config, cache)
