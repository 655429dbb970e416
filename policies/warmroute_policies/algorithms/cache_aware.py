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

from math import inf
from typing import Final

from mypy_extensions import mypyc_attr

from warmroute_policies.chance import pick_least
from warmroute_policies.config import CacheAwareConfig
from warmroute_policies.fleet import Fleet
from warmroute_policies.policy import Choice, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

_WARM: Final = "warm"
_SPILL: Final = "spill"
_COLD: Final = "cold"


@mypyc_attr(allow_interpreted_subclasses=True)
class CacheAware:
    """State: none but a copy of what follows from the fleet's prices."""

    name = "cache_aware"
    learns = False

    def __init__(self, config: CacheAwareConfig | None = None) -> None:
        self.config = config or CacheAwareConfig()
        self._revision = -1
        self._uniform = True
        """All workers have equal prices and no round trip worth counting."""

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads. `warm`: the best holder of the prefix; `spill`: a worker that holds less of it, because
        the holder is too busy; `cold`: nobody holds any of it."""
        cost, hits = self._costs(view, now), view.hits
        if not hits.best:  # in an idle fleet each in turn, not always the first
            return Choice(pick_least(cost, request.request_id), _COLD)
        slot, least = 0, inf
        for candidate, price in enumerate(cost):  # compiled, a third of what `min` and `index` cost
            if price < least:
                slot, least = candidate, price
        return Choice(slot, _WARM if hits.tokens(slot) >= hits.best else _SPILL)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes nothing: the fleet's books say all."""

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. The five terms of J for every worker, in seconds."""
        fleet, n, config = view.fleet, view.prompt_tokens, self.config
        queue_s = fleet.queue_s(now)
        rows = []
        for slot, spec in fleet.slots():
            hit = view.hits.tokens(slot)
            shares_s = {
                "rtt": fleet.rtt_s[slot],
                "queue": queue_s[slot],
                "miss": config.miss_price * fleet.prefill_seconds(slot, n - hit, n),
                "rent": config.rent_price * fleet.linear_s[slot] * (n - hit) * fleet.pressure[slot],
                "decode": config.decode_s * fleet.inflight[slot],
            }
            total_s = sum(shares_s.values()) + view.gate_s[slot]
            rows.append(CostShares(spec.worker_id, view.gate_s[slot] == 0.0, total_s, shares_s, hit))
        return rows

    def _costs(self, view: View, now: float) -> list[float]:
        """J by slot, `inf` where the request may not go, less what is equal for all.

        First every worker is priced as if it held what all of them hold (a common system prompt, or
        nothing), in one comprehension; then those that hold more are given their saving back:
        W(n) − W(n − h) = a·h + b·h²/2, and the rent of h.
        """
        fleet, hits, config = view.fleet, view.hits, self.config
        if fleet.revision != self._revision:
            self._follow(fleet)
        theta, phi, d, n = config.miss_price, config.rent_price, config.decode_s, view.prompt_tokens
        linear, quadratic, pressure = fleet.linear_s, fleet.quadratic_s, fleet.pressure
        depths, tokens_at, common = hits.depths, hits.tokens_at, 0
        if self._uniform:
            if len(depths) == len(view.eligible) > 1:
                common = min(tokens_at.values())
            rent = phi * linear[view.eligible[0]] * (n - common)
            cost = [
                (q if (q := ready - now) > least else least) + d * b + rent * u
                for ready, least, b, u in zip(fleet.ready_at, fleet.least_queue_s, fleet.inflight, pressure)  # noqa: B905
            ]
        else:
            area = theta * n * n / 2
            cost = [
                q + d * b + n * a * (theta + phi * u) + area * c + rtt
                for q, b, u, a, c, rtt in zip(
                    fleet.queue_s(now), fleet.inflight, pressure, linear, quadratic, fleet.rtt_s, strict=True
                )
            ]
        for depth, hit in tokens_at.items():
            if hit == common:
                continue
            for slot in [slot for slot, held in depths.items() if held == depth]:
                a = linear[slot]
                saved = theta * (a * (hit - common) + quadratic[slot] * (hit * hit - common * common) / 2)
                cost[slot] -= saved + phi * a * pressure[slot] * (hit - common)
        if len(view.eligible) < len(cost):
            return [c + gate for c, gate in zip(cost, view.gate_s, strict=True)]
        return cost

    def _follow(self, fleet: Fleet) -> None:
        """Prices change when the fleet does; most fleets are of one kind, and price at half the cost."""
        present = [slot for slot, _ in fleet.slots()]
        kinds = {(fleet.linear_s[s], fleet.quadratic_s[s], fleet.rtt_s[s]) for s in present}
        self._uniform = len(kinds) <= 1
        self._revision = fleet.revision
