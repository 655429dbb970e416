"""`cache_aware`: send a request where it delays everybody least.

Marginal-cost routing: argmin over the eligible workers i of a price in seconds of predicted delay,

    J_i = rtt_i + q_i + (θ + ω·min q + η·(u·h/n)²)·W_i(m_i) + φ·r_i·W_slowest(m_i)
          + g·min(1, K_i / C_i)² + d·B_i
    W_i(m) = a_i·m + b_i·m·(n − m/2)       prefill time of m missing tokens at the end of a prompt of n
    r_i = crowding_i − min over the eligible workers

    q_i   prefill seconds already queued on i
    θ     price of extra work: a miss also delays whoever comes next, a queue does not
    ω     what θ grows by for every second that waits even on the least busy worker. While somebody is idle
          extra work fills a gap; while everybody is behind it delays all who wait. ω·min q is at most 16
    η     what θ grows by for a prompt that has a home, where most work has none. A second home is more than a
          prefill: it displaces what others come back for. Fresh prompts may go anywhere and even out the
          load, so those that are held can wait where they are; where most are held, only they can even it out
    u     how much more is fresh than held, of all that is asked for: max(0, 2·fresh − 1)
    h     the most tokens of the prompt that an eligible worker holds
    φ·r_i rent: what is computed on a worker whose cache is in use displaces prefixes that somebody will come
          back for (`reuse` says how crowding is measured). These are computed again wherever there is room
          by then, so they count at the price of the slowest eligible worker, but at most four times that of
          the fastest: at their own, fast workers would keep all new material and the slow ones' caches would
          idle. Where all caches are alike there is no rent: it never moves sessions about among full ones
    g     price of memory: K_i is the KV that requests in flight hold on i and share with nobody, C_i the
          capacity. Who finds no room waits until somebody ends, and that is felt from about half on
    d·B_i decode interference: every request in flight slows the others; also the tie-break

Nothing is pinned. A session stays because leaving costs θ·W(prefix); a hot prefix gets a second home
exactly when waiting for the first one costs more than computing it again.

The form is that of the marginal-cost proposal whose prototype won side-by-side runs with θ = 2. A rent by
the flow of new tokens, as the prototype had it, and one by the age of what is evicted next were tried and
lost: they move sessions about among caches that are all full. `bench/routing.py` compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final

from mypy_extensions import mypyc_attr

from warmroute_policies.chance import pick_least, turn
from warmroute_policies.config import CacheAwareConfig
from warmroute_policies.policy import Choice, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

_WARM: Final = "warm"
_SPILL: Final = "spill"
_COLD: Final = "cold"

# Of W_slowest, in times of what the fastest eligible worker takes. Four covers neighbouring generations of
# GPUs. Without a bound the price that one odd worker sets would send prompts away from idle ones to it.
_SLOWEST_MAX: Final = 4.0

# Of ω·min q. Without a bound a fleet that is minutes behind would give a hot prefix no second home at any
# price.
_BACKLOG_MAX: Final = 16.0


@mypyc_attr(allow_interpreted_subclasses=True)
class CacheAware:
    """State: none."""

    name = "cache_aware"
    learns = False

    def __init__(self, config: CacheAwareConfig | None = None) -> None:
        self.config = config or CacheAwareConfig()

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads. `warm`: the best holder of the prefix; `spill`: a worker that holds less of it, because
        the holder is too busy; `cold`: nobody holds any of it."""
        cost, hits = self._costs(view, now), view.hits
        slot = pick_least(cost, turn(request.request_id))  # in an idle fleet each in turn
        if not hits.best:
            return Choice(slot, _COLD)
        return Choice(slot, _WARM if hits.tokens(slot) >= hits.best else _SPILL)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes nothing: the fleet's books say all."""

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. The six terms of J for every worker, in seconds; "miss" is (θ + ω·min q + η·(u·h/n)²)·W."""
        fleet, n, config = view.fleet, view.prompt_tokens, self.config
        slowest, phi = self._rent(view)
        queue_s, least_crowded = fleet.queue_s(now), _least_crowded(view)
        miss_price = self._miss_price(view, now)
        rows = []
        for slot, spec in fleet.slots():
            hit = view.hits.tokens(slot)
            prefill_s = fleet.prefill_seconds(slot, n - hit, n)
            rent = phi * max(0.0, fleet.crowding[slot] - least_crowded)
            shares_s = {
                "rtt": fleet.rtt_s[slot],
                "queue": queue_s[slot],
                "miss": miss_price * prefill_s,
                "rent": rent * fleet.prefill_seconds(slowest, n - hit, n),
                "memory": config.memory_s * fleet.filled[slot] ** 2,
                "decode": config.decode_s * fleet.inflight[slot],
            }
            total_s = sum(shares_s.values()) + view.gate_s[slot]
            rows.append(CostShares(spec.worker_id, view.gate_s[slot] == 0.0, total_s, shares_s, hit))
        return rows

    def _rent(self, view: View) -> tuple[int, float]:
        """Reads. The eligible worker that takes longest for the whole prompt, and φ, which is lowered where
        that is more than `_SLOWEST_MAX` times as long as the fastest takes."""
        slowest, phi, n = view.kinds[0], self.config.rent_price, view.prompt_tokens
        if len(view.kinds) == 1:
            return slowest, phi
        least_s, most_s = inf, 0.0
        for slot in view.kinds:
            prefill_s = view.fleet.prefill_seconds(slot, n, n)
            least_s = min(least_s, prefill_s)
            if prefill_s > most_s:
                slowest, most_s = slot, prefill_s
        if most_s > _SLOWEST_MAX * least_s:
            phi *= _SLOWEST_MAX * least_s / most_s
        return slowest, phi

    def _costs(self, view: View, now: float) -> list[float]:
        """J by slot, `inf` where the request may not go, less what is equal for all.

        First every worker is priced as if it held what all of them hold (a common system prompt, or
        nothing), in one comprehension; then those that hold more are given their saving back:
        W(n) − W(n − h) = a·h + b·h²/2, and the rent of it. Before that `crowding` may stand for r.
        """
        fleet, hits, config = view.fleet, view.hits, self.config
        theta, d, n = self._miss_price(view, now), config.decode_s, view.prompt_tokens
        slowest, phi = self._rent(view)
        linear, quadratic, crowding = fleet.linear_s, fleet.quadratic_s, fleet.crowding
        g, filled = config.memory_s, fleet.filled
        depths, tokens_at, common = hits.depths, hits.tokens_at, 0
        least_crowded = _least_crowded(view)
        if len(view.kinds) == 1:  # as in most fleets: priced at half the cost
            if len(depths) >= len(view.eligible) > 1 and _all_hold(depths, view.eligible):
                common = min(tokens_at.values())
            rent_s = phi * fleet.prefill_seconds(slowest, n - common, n)
            cost = [
                (q if (q := ready - now) > least else least) + d * b + g * f * f + rent_s * r
                for ready, least, b, f, r in zip(  # noqa: B905
                    fleet.ready_at, fleet.least_queue_s, fleet.inflight, filled, crowding
                )
            ]
        else:
            area = n * n / 2
            rent_s = phi * fleet.prefill_seconds(slowest, n, n)
            cost = [
                q + d * b + g * f * f + theta * (n * a + area * c) + rent_s * r + rtt
                for q, b, f, r, a, c, rtt in zip(
                    fleet.queue_s(now),
                    fleet.inflight,
                    filled,
                    crowding,
                    linear,
                    quadratic,
                    fleet.rtt_s,
                    strict=True,
                )
            ]
        for depth, hit in tokens_at.items():
            if hit == common:
                continue
            saved, area = hit - common, (hit * hit - common * common) / 2
            rent_s = phi * (saved * linear[slowest] + area * quadratic[slowest])
            for slot in [slot for slot, held in depths.items() if held == depth]:
                cost[slot] -= theta * (saved * linear[slot] + area * quadratic[slot])
                cost[slot] -= rent_s * (crowding[slot] - least_crowded)
        if len(view.eligible) < len(cost):
            return [c + gate for c, gate in zip(cost, view.gate_s, strict=True)]
        return cost

    def _miss_price(self, view: View, now: float) -> float:
        """Reads. θ + ω·min q + η·(u·h/n)²: extra work weighs more while everybody is behind, and for a prompt
        that is held while most are fresh."""
        fleet, hits, config = view.fleet, view.hits, self.config
        price = config.miss_price
        price += min(_BACKLOG_MAX, config.backlog_price * fleet.shortest_queue_s(view.eligible, now))
        u = 2.0 * fleet.fresh_share - 1.0
        if u > 0.0 and hits.best:
            home = u * _most_held(view) / view.prompt_tokens
            price += config.home_price * home * home
        return price


def _all_hold(depths: dict[int, int], slots: Sequence[int]) -> bool:
    """Whether each of the slots holds something; workers that may not be chosen hold things too."""
    for slot in slots:  # noqa: SIM110 - compiled, a generator costs several times as much
        if slot not in depths:
            return False
    return True


def _most_held(view: View) -> int:
    """The most tokens of the prompt that an eligible worker holds."""
    hits, gate_s = view.hits, view.gate_s
    if len(view.eligible) == len(gate_s):
        return hits.best
    return max([0, *[hits.tokens_at[depth] for slot, depth in hits.depths.items() if gate_s[slot] == 0.0]])


def _least_crowded(view: View) -> float:
    """The least crowding of an eligible worker."""
    crowding, eligible = view.fleet.crowding, view.eligible
    if len(eligible) == len(crowding):
        return min(crowding)
    return min(crowding[slot] for slot in eligible)
