"""`lmetric`: the least product of prefill work and batch size; no weights.

    argmin over eligible i of W_i · (B_i + 1);     ties are drawn

    W_i   uncached tokens that wait on i, and those of the prompt: `prefill_work`
    B_i   requests in flight on i

Source: LMetric (arXiv 2603.15202), which multiplies by B_i, that is without `count_self`. There every idle
worker costs 0 whatever it holds, and one that holds the prompt loses to any of them by a coin. Its followers
therefore count the request itself, B_i + 1: the authors' Blitz Router, the port in SGLang (which drops what
waits), vllm-router 0.1.17 (`kv_aware`) and llm-d PR 2351. So does this by default: it is the stronger rule.

Hits are those of this router's own index, where the original has KV events. Nothing is remembered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from warmroute_policies.algorithms.counts import rows
from warmroute_policies.chance import draw, pick_least
from warmroute_policies.peers.prefill_work import prefill_tokens
from warmroute_policies.policy import Choice, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

_PRODUCT: Final = "product"


@dataclass(frozen=True, slots=True)
class LMetricConfig:
    """Parameters of `lmetric`."""

    count_self: bool = True
    """Whether the batch includes the request that is being routed; the paper's formula does not."""


class LMetric:
    """Stateless: the fleet's books and the index say all."""

    name = "lmetric"
    learns = False

    def __init__(self, config: LMetricConfig | None = None, seed: int = 0) -> None:
        self.config = config or LMetricConfig()
        self._seed = seed

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads."""
        costs = [gate + self._cost(view, slot) for slot, gate in enumerate(view.gate_s)]
        return Choice(pick_least(costs, draw(self._seed, request.request_id)), _PRODUCT)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes nothing."""

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. Totals are tokens times requests, their factors beside them."""
        return rows(
            view,
            lambda slot: float(self._cost(view, slot)),
            lambda slot: {
                "prefill_tokens": float(prefill_tokens(view, slot)),
                "batch_requests": float(self._batch(view, slot)),
            },
        )

    def _cost(self, view: View, slot: int) -> int:
        return prefill_tokens(view, slot) * self._batch(view, slot)

    def _batch(self, view: View, slot: int) -> int:
        return view.fleet.inflight[slot] + self.config.count_self
