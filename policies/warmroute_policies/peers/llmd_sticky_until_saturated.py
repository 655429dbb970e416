"""`llmd_sticky_until_saturated`: a holder of most of the prompt, until others are 18 s sooner.

    S = {i : hit_i ≥ 0.8},   all workers when S is empty or when
        min over S of Q_i/R − min over the others of Q_i/R  >  18 s,      R = 15,928 tokens/s
    argmin over S of min(Q_i + n − h_i, 4,194,304);     ties are drawn

    Q_i   uncached tokens of the requests that were sent to i and have shown no first token
    h_i   what the approximate index says that i holds of the prompt, hit_i its share

Source: llm-d-router ebab687, the default of its guides since "Sticky until saturated" (llm-d's blog,
2026-08-17): `prefix-cache-affinity-filter` (plugin.go), then `token-load-scorer`, then `max-score-picker`,
over `approx-prefix-cache-producer` (here `llmd_index`) and `inflight-load-producer` (here `books`).

As published, the valve compares queues without the prompt at hand, and opens when the gap is above
18 s · R = 286,704 tokens, not at it. Opened, it puts all others beside the holders, and the least cost may
be a holder's again. There is no other term: a worker that is busy with decoding looks idle. R is the speed
of one chunk of 8,192 tokens on Qwen3-32B over two H100; it belongs to the hardware, so a fair comparison on
another sets `r_peak`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Final

from warmroute_policies.algorithms.counts import rows
from warmroute_policies.chance import draw, pick_least
from warmroute_policies.config import require
from warmroute_policies.peers.books import Books
from warmroute_policies.peers.llmd_index import LlmdIndex, LlmdIndexConfig, PrefixMatch
from warmroute_policies.policy import Choice, Completed, Dispatched, FirstToken, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

_STICKY: Final = "sticky"
_RELEASED: Final = "released"
_COLD: Final = "cold"

# `queueThresholdTokens`, 128 requests of 32k tokens: scores end there, so beyond it all workers are alike.
_LOAD_TOKENS_MAX: Final = 4_194_304


@dataclass(frozen=True, slots=True)
class LlmdStickyUntilSaturatedConfig(LlmdIndexConfig):
    """Parameters of `llmd_sticky_until_saturated`, those of its index first."""

    threshold: float = 0.8
    """`affinityThreshold`: the cached share of a prompt that makes a worker sticky."""
    max_ttft_penalty_s: float = 18.0
    """`maxTTFTPenaltyMs`: what staying may cost; 0: any price."""
    r_peak: float = 15_928.0
    """`peakPrefillThroughput`, tokens per second: Qwen3-32B, two H100, vLLM 0.19, one chunk of 8,192."""

    def __post_init__(self) -> None:
        LlmdIndexConfig.__post_init__(self)
        require(0 <= self.threshold <= 1, "threshold must be between 0 and 1")
        require(self.max_ttft_penalty_s >= 0, "max_ttft_penalty_s must not be negative")
        require(self.r_peak > 0, "r_peak must be above 0")


class LlmdStickyUntilSaturated:
    """State: the index, and the books of what waits."""

    name = "llmd_sticky_until_saturated"

    def __init__(self, config: LlmdStickyUntilSaturatedConfig | None = None, seed: int = 0) -> None:
        self.config = config or LlmdStickyUntilSaturatedConfig()
        self._seed = seed
        self._index = LlmdIndex(self.config)
        self._books = Books()

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads. `sticky`: one that holds most of the prompt; `released`: they are too busy; `cold`: nobody
        holds that much."""
        self._index.follow(view.fleet)
        match = self._index.match(request)
        pool, reason = self._pool(match, view)
        costs = [inf] * len(view.gate_s)
        for slot in pool:
            costs[slot] = self._load(match, slot)
        return Choice(pick_least(costs, draw(self._seed, request.request_id)), reason)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes. Prompts are indexed and their uncached tokens booked at the dispatch, and taken off the
        books at the first token or the end."""
        if isinstance(event, Dispatched):
            request, slot = event.request, event.slot
            self._books.book(request.request_id, slot, self._index.match(request).uncached(slot))
            self._index.add(request, slot)
        elif isinstance(event, FirstToken | Completed):
            self._books.release(event.request.request_id)
        elif not event.present:
            self._index.drop(event.slot)
            self._books.drop(event.slot)

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. Totals are tokens to compute before the first token; workers out of the pool stand behind
        all that are in it."""
        match = self._index.match(request)
        pool, _ = self._pool(match, view)
        beyond = 1 + max(self._load(match, slot) for slot in view.eligible)
        return rows(
            view,
            lambda slot: self._load(match, slot) + (0 if slot in pool else beyond),
            lambda slot: {
                "queued_tokens": self._queued(slot),
                "uncached_tokens": match.uncached(slot),
                "hit": match.hit(slot),
            },
        )

    def _pool(self, match: PrefixMatch, view: View) -> tuple[Iterable[int], str]:
        """The workers that the filter leaves, and why."""
        config = self.config
        sticky = [slot for slot in view.eligible if match.hit(slot) >= config.threshold]
        if not sticky:
            return view.eligible, _COLD
        others = set(view.eligible).difference(sticky)
        if others and config.max_ttft_penalty_s > 0:
            penalty_tokens = min(map(self._queued, sticky)) - min(map(self._queued, others))
            if penalty_tokens / config.r_peak > config.max_ttft_penalty_s:
                return view.eligible, _RELEASED
        return sticky, _STICKY

    def _queued(self, slot: int) -> int:
        return self._books.queued_tokens.get(slot, 0)

    def _load(self, match: PrefixMatch, slot: int) -> int:
        return min(self._queued(slot) + match.uncached(slot), _LOAD_TOKENS_MAX)
