"""The measured requests through the simulated engine: the same arrivals, lengths, prompts and hits.

Each worker is an engine of its own, and requests go where they went. What a prompt finds in the cache comes
from its blocks where they are known, else from the measured hits, else it is nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

from warmroute_simulator.engine import (
    EngineConfig,
    EngineRequest,
    Event,
    Finished,
    FirstToken,
    KVCache,
    PagedCache,
    make_engine,
)
from warmroute_simulator.fitting.heads import common_heads
from warmroute_simulator.fitting.known_hits import KnownHits
from warmroute_simulator.fitting.measured import MeasuredRequest


@dataclass(slots=True)
class Simulated:
    """Columns, a row for each request that was replayed."""

    ttft_s: array[float]
    e2e_s: array[float]
    preemptions: int = 0


class Replay:
    """Requests, ready to be simulated again and again with other configurations.

    State: the requests by worker, and their prompts as their caches know them.
    """

    def __init__(self, requests: Sequence[MeasuredRequest], block_tokens: int) -> None:
        """`block_tokens`: of the engine, and of the blocks where the requests know theirs."""
        self._by_blocks = all(request.blocks is not None for request in requests)
        self._requests = requests
        self._rows: dict[str, list[tuple[float, EngineRequest]]] = {}
        heads = common_heads(requests, block_tokens)
        for row, request in enumerate(requests):
            if request.blocks is not None and self._by_blocks:
                prompt = request.blocks
            else:
                prompt = ((request.cached_tokens or 0) // block_tokens, heads[row])
            asked = EngineRequest(row, request.prompt_tokens, request.output_tokens, prompt)
            self._rows.setdefault(request.worker, []).append((request.arrival_s, asked))

    def run(self, config: EngineConfig) -> Simulated:
        """Reads. Raises ValueError when a request can never fit in the KV cache."""
        blank = array("d", [nan]) * len(self._requests)
        out = Simulated(blank, blank[:])
        for rows in self._rows.values():
            capacity = config.capacity_blocks
            cache: KVCache = PagedCache(capacity) if self._by_blocks else KnownHits(capacity)
            engine = make_engine(config, cache)
            for arrival_s, asked in rows:
                self._tell(out, engine.advance(arrival_s))
                engine.submit(asked, arrival_s)
            while (at := engine.next_event_at()) is not None:
                self._tell(out, engine.advance(at))
            out.preemptions += engine.totals.preemptions
        return out

    def _tell(self, out: Simulated, events: list[Event]) -> None:
        for event in events:
            row = event.request_id
            if isinstance(event, FirstToken):
                out.ttft_s[row] = event.at - self._requests[row].arrival_s
            elif isinstance(event, Finished):
                out.e2e_s[row] = event.at - self._requests[row].arrival_s
