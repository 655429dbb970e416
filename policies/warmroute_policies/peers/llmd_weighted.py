"""`llmd_weighted`: the highest sum of three scores, for a short queue, an empty KV cache and a long prefix.

    argmax over eligible i of  2·queue_i + 2·(1 − kv_i) + 3·hit_i;     ties are drawn

    queue_i  (max w − w_i) / (max w − min w), and 1 when all are equal;  w_i requests that wait on i
    kv_i     tokens in use over the KV capacity, at most 1
    hit_i    what the approximate index says that i holds of the prompt, over its length

Source: llm-d-router ebab687, the fallback when nothing is configured (pkg/epp/config/loader/defaults.go):
`queue-scorer`, `kv-cache-utilization-scorer` and `prefix-cache-scorer` (its `matchLengthWeight` 0), then
`max-score-picker`, over `approx-prefix-cache-producer` (here `llmd_index`).

As published, the queue counts by rank and not by length: one waiting request more than anybody else is worth
as much as a thousand, namely 2 of 7.

What stands for the numbers that the original polls every 50 ms: w_i is what was sent to i and has shown no
first token, which includes the prompt that i is working on; tokens in use are those of the prompts in flight,
shared blocks once, without what was generated since. Both are exact at the moment of the decision, so this
port does not suffer from stale polls. An engine that declares no capacity counts as one of 500,000 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

from warmroute_policies.algorithms.counts import rows
from warmroute_policies.blocks import TOKENS_PER_BLOCK
from warmroute_policies.chance import draw, pick_least
from warmroute_policies.config import require
from warmroute_policies.peers.active_blocks import ActiveBlocks
from warmroute_policies.peers.books import Books
from warmroute_policies.peers.lengths import block_ids, prompt_tokens
from warmroute_policies.peers.llmd_index import LlmdIndex, LlmdIndexConfig
from warmroute_policies.policy import Choice, Completed, Dispatched, FirstToken, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

_SCORE: Final = "score"

# What the index's default size is reckoned from (types.go): an 8B model's KV beside its weights on 80 GB.
_KV_CAPACITY_TOKENS: Final = 500_000


@dataclass(frozen=True, slots=True)
class LlmdWeightedConfig(LlmdIndexConfig):
    """Parameters of `llmd_weighted`, those of its index first."""

    queue_weight: float = 2.0
    kv_weight: float = 2.0
    prefix_weight: float = 3.0

    def __post_init__(self) -> None:
        LlmdIndexConfig.__post_init__(self)
        weights = (self.queue_weight, self.kv_weight, self.prefix_weight)
        require(min(weights) >= 0, "queue_weight, kv_weight and prefix_weight must not be negative")


class LlmdWeighted:
    """State: the index, the books of what waits, and the blocks in use."""

    name = "llmd_weighted"

    def __init__(self, config: LlmdWeightedConfig | None = None, seed: int = 0) -> None:
        self.config = config or LlmdWeightedConfig()
        self._seed = seed
        self._index = LlmdIndex(self.config)
        self._books = Books()
        self._active = ActiveBlocks()

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads."""
        self._index.follow(view.fleet)
        costs = [inf] * len(view.gate_s)
        for slot, queue, kv, prefix in self._missing(request, view):
            costs[slot] = queue + kv + prefix
        return Choice(pick_least(costs, draw(self._seed, request.request_id)), _SCORE)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes. A prompt is indexed, waits and is in use from its dispatch; it waits until the first token
        and is in use until the end."""
        if isinstance(event, Dispatched):
            request, slot = event.request, event.slot
            ids = block_ids(request, request.blocks.count)
            self._books.book(request.request_id, slot, self._index.match(request).uncached(slot))
            self._index.add(request, slot)
            rest = prompt_tokens(request) - len(ids) * TOKENS_PER_BLOCK
            self._active.begin(request.request_id, slot, ids, rest)
        elif isinstance(event, FirstToken):
            self._books.release(event.request.request_id)
        elif isinstance(event, Completed):
            self._books.release(event.request.request_id)
            self._active.end(event.request.request_id)
        elif not event.present:
            self._index.drop(event.slot)
            self._books.drop(event.slot)
            self._active.drop(event.slot)

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. What each worker lacks of the highest score that there could be, by score."""
        shares = {
            slot: {"queue_score": queue, "kv_score": kv, "prefix_score": prefix}
            for slot, queue, kv, prefix in self._missing(request, view)
        }
        return rows(view, lambda slot: sum(shares[slot].values()), shares.__getitem__)

    def _missing(self, request: RoutingRequest, view: View) -> list[tuple[int, float, float, float]]:
        """Every eligible slot, and weight times what is missing to a full score of queue, KV and prefix."""
        config, match = self.config, self._index.match(request)
        waiting = [len(self._books.waiting(slot)) for slot in view.eligible]
        shortest = min(waiting)
        spread = max(waiting) - shortest
        return [
            (
                slot,
                config.queue_weight * ((count - shortest) / spread if spread else 0.0),
                config.kv_weight * self._kv_usage(slot, view),
                config.prefix_weight * (1.0 - match.hit(slot)),
            )
            for slot, count in zip(view.eligible, waiting, strict=True)
        ]

    def _kv_usage(self, slot: int, view: View) -> float:
        capacity_tokens = view.fleet.spec(slot).kv_capacity_tokens or _KV_CAPACITY_TOKENS
        # Rests are below 0 where blocks of bytes hold fewer tokens than 128, and sharing may then undershoot.
        return min(1.0, max(0.0, self._active.occupied(slot, TOKENS_PER_BLOCK) / capacity_tokens))
