"""`vllm_router_kv`: uncached prefill tokens times requests, the least of it.

    argmin over eligible i of  (n − h_i + Q_i)·(B_i + 1);     ties are drawn

    n − h_i   prompt tokens that i would have to compute: h_i is whole KV blocks and never the last token
    Q_i       uncached prompt tokens of the requests on i whose first token was not seen yet
    B_i       requests of this router in flight on i

Source: `kv_aware` of vllm-router 0.1.17 (`src/policies/kv_aware.rs`); the product is that of LMetric (arXiv
2603.15202), which leaves Q_i out of its ports. A request in flight multiplies the price of a miss: on a
worker with three of them a token is four times as dear as on an idle one, however short they are.

There h_i comes from the KV events of the engines; here this router's own index, corrected by what engines
report, stands for them, and it is in whole pages of the engine. Off by default there, and left out: a
softmax over the costs (`--router-temperature`), session affinity, credit for blocks in host memory, on disk
or in a remote store. The source names no tie-break.
"""

from __future__ import annotations

from warmroute_policies.algorithms.counts import rows
from warmroute_policies.chance import draw, pick_least
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
                "missing_tokens": float(_missing(view, slot)),
            },
        )


def _missing(view: View, slot: int) -> int:
    return max(0, view.prompt_tokens - view.hits.tokens(slot))


def _costs(view: View) -> list[float]:
    """By slot; `inf` for a slot that is not eligible."""
    fleet = view.fleet
    return [
        gate + (_missing(view, slot) + queued) * (requests + 1)
        for slot, (gate, queued, requests) in enumerate(
            zip(view.gate_s, fleet.queued_tokens, fleet.inflight, strict=True)
        )
    ]
