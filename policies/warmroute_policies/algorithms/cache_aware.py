"""`cache_aware`: send a request where it delays everybody least.

Marginal-cost routing: argmin over the eligible workers i of a price in seconds of predicted delay,

    J_i = rtt_i + q_i + θ·W_i(m_i) + φ·a_i·m_i·u_i + d·B_i
    W_i(m) = a_i·m + b_i·m·(n − m/2)       prefill time of m missing tokens at the end of a prompt of n

    q_i   prefill seconds already queued on i
    θ     price of extra work: a miss also delays whoever comes next, a queue does not
    φ·u_i rent: u_i is what was newly written on i in the last minute over its KV capacity, so that new
          material goes where it displaces least
    d·B_i decode interference: every request in flight slows the others; also the tie-break

Nothing is pinned. A session stays because leaving costs θ·W(prefix); a hot prefix gets a second home
exactly when waiting for the first one costs more than computing it again.

θ = 2 and φ = 2 are the values that won in side-by-side runs of a prototype of this rule, φ = 4 was
alike; without the rent all new agents went to the workers that hold their common system prompt.
d = 0.02 s is the residual of TTFT per request in flight, 11 to 27 ms for an 8B model on an H100.
"""

from __future__ import annotations

from warmroute_policies.config import CacheAwareConfig
from warmroute_policies.fleet import Fleet
from warmroute_policies.policy import Choice, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

_WARM = "warm"
_SPILL = "spill"
_COLD = "cold"


class CacheAware:
    """State: none but a copy of what follows from the fleet's prices and pressures."""

    name = "cache_aware"

    def __init__(self, config: CacheAwareConfig | None = None) -> None:
        self.config = config or CacheAwareConfig()
        self._revision = -1
        self._linear: list[float] = []
        """By slot: the price of one missing token, θ·a + φ·a·u."""
        self._quadratic: list[float] = []
        """By slot: θ·b/2, the price of n² in a prompt of which nothing is held."""
        self._far = False
        """Some worker has a round trip worth counting."""

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads. `warm`: the best holder of the prefix; `spill`: a worker that holds less of it, because
        the holder is too busy; `cold`: nobody holds any of it."""
        cost = self._costs(view, now)
        slot = cost.index(min(cost))
        hits = view.hits
        if not hits:
            return Choice(slot, _COLD)
        return Choice(slot, _WARM if hits.get(slot, 0) >= max(hits.values()) else _SPILL)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes nothing: the fleet's books say all."""

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. The five terms of J for every worker, in seconds."""
        fleet, n, config = view.fleet, view.prompt_tokens, self.config
        queue_s = fleet.queue_s(now)
        totals = self._costs(view, now)
        rows = []
        for slot, spec in fleet.slots():
            hit = view.hits.get(slot, 0)
            rows.append(
                CostShares(
                    worker=spec.worker_id,
                    eligible=view.gate_s[slot] == 0.0,
                    total_s=totals[slot],
                    shares_s={
                        "rtt": fleet.rtt_s[slot],
                        "queue": queue_s[slot],
                        "miss": config.miss_price * fleet.prefill_seconds(slot, n - hit, n),
                        "rent": config.rent_price * fleet.linear_s[slot] * (n - hit) * fleet.pressure[slot],
                        "decode": config.decode_s * fleet.inflight[slot],
                    },
                    predicted_hit_tokens=hit,
                )
            )
        return rows

    def _costs(self, view: View, now: float) -> list[float]:
        """J by slot, `inf` where the request may not go.

        First every worker is priced as if it held nothing, in one comprehension; then the few that hold
        something are given their saving back: W(n) − W(n − h) = a·h + b·h²/2.
        """
        fleet, n, d = view.fleet, view.prompt_tokens, self.config.decode_s
        if fleet.revision != self._revision:
            self._follow(fleet)
        linear, quadratic = self._linear, self._quadratic
        area = n * n
        cost = [
            q + d * b + n * a + area * c
            for q, b, a, c in zip(fleet.queue_s(now), fleet.inflight, linear, quadratic)  # noqa: B905
        ]
        for slot, hit in view.hits.items():
            cost[slot] -= hit * (linear[slot] + quadratic[slot] * hit)
        if self._far:
            cost = [c + rtt for c, rtt in zip(cost, fleet.rtt_s, strict=True)]
        if len(view.eligible) < len(cost):
            return [c + gate for c, gate in zip(cost, view.gate_s, strict=True)]
        return cost

    def _follow(self, fleet: Fleet) -> None:
        """Prices and pressures change about once a second; a request only multiplies."""
        theta, phi = self.config.miss_price, self.config.rent_price
        self._linear = [
            a * (theta + phi * u) for a, u in zip(fleet.linear_s, fleet.pressure, strict=True)
        ]
        self._quadratic = [theta * b / 2 for b in fleet.quadratic_s]
        self._far = any(fleet.rtt_s)
        self._revision = fleet.revision
