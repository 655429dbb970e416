"""`vllm_router_kv`: uncached prefill tokens times requests, the least of it.

    argmin over eligible i of  W_i·(B_i + 1);     ties are drawn

    W_i   uncached tokens that wait on i, and those of the prompt: `prefill_work`; what i holds of it is whole
          KV blocks and never the last token
    B_i   requests of this router in flight on i

Source: `kv_aware` of vllm-router 0.1.17 (`src/policies/kv_aware.rs`); the product is that of LMetric (arXiv
2603.15202), which leaves Q_i out of its ports. A request in flight multiplies the price of a miss: on a
worker with three of them a token is four times as dear as on an idle one, however short they are.

There hits come from the KV events of the engines; here from this router's own index, in whole pages of the
engine. Off by default there, and left out: a softmax over the costs (`--router-temperature`), session
affinity, credit for blocks in host memory, on disk or in a remote store. The source names no tie-break, so it
is drawn, and the decisions are those of `lmetric` with its defaults.
"""

from __future__ import annotations

from warmroute_policies.algorithms.counts import rows
from warmroute_policies.chance import draw, pick_least
from warmroute_policies.peers.prefill_work import missing_tokens, prefill_tokens
from warmroute_policies.policy import Choice, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

_WARM = "warm"
_COLD = "cold"


class VllmRouterKv:
    """Stateless: the fleet's books and the index say all."""

    name = "vllm_router_kv"
    learns = False

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads."""
        slot = pick_least(_costs(view), draw(self._seed, request.request_id))
        return Choice(slot, _WARM if slot in view.hits else _COLD)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes nothing."""

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. The total is the product, in tokens times requests."""
        costs, queued = _costs(view), view.fleet.queued_tokens
        return rows(
            view,
            lambda slot: costs[slot],
            lambda slot: {
                "queued_tokens": float(queued[slot]),
                "missing_tokens": float(missing_tokens(view, slot)),
            },
        )


def _costs(view: View) -> list[float]:
    """By slot; `inf` for a slot that is not eligible."""
    return [
        gate + prefill_tokens(view, slot) * (requests + 1)
        for slot, (gate, requests) in enumerate(zip(view.gate_s, view.fleet.inflight, strict=True))
    ]
