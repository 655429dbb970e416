"""`consistent_hash`: the session, else the head of the prompt, names a worker; a busy one hands over to
its neighbour on the ring.

    first eligible worker clockwise from the key with B_i ≤ c·(T + 1)·w_i/W + s

Source: consistent hashing with bounded loads (`ring`), as in KubeAI and HAProxy (c = 1.25); the key as in
vllm-router: the session's id, else the prompt. The neighbour is the same one each time, so an overflowing
prefix is warm on two workers and not on all. Without the bound the rule is known to lock a saturated
engine while others idle; the slack is `ring`'s.

The ring keeps no memory of who was where: a worker that comes back gets its sessions back, cold or not.
"""

from __future__ import annotations

from collections.abc import Iterator

from xxhash import xxh3_64_intdigest

from warmroute_policies.algorithms.counts import loads, rows
from warmroute_policies.algorithms.ring import HashRing, head_key, within_bound
from warmroute_policies.chance import draw, pick_least
from warmroute_policies.config import ConsistentHashConfig
from warmroute_policies.policy import Choice, PolicyEvent, View
from warmroute_policies.pseudonym import pseudonym
from warmroute_policies.types import CostShares, RoutingRequest

_OWNER = "owner"
_NEIGHBOUR = "neighbour"
_NO_KEY = "no_key"


class ConsistentHash:
    """State: the ring."""

    name = "consistent_hash"
    learns = False

    def __init__(self, config: ConsistentHashConfig | None = None, seed: int = 0) -> None:
        self.config = config or ConsistentHashConfig()
        self._seed = seed
        self._ring = HashRing(self.config.ring_points)

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads. A request without session and without a whole block goes to the least busy worker."""
        room = within_bound(view, self.config.load_factor, self.config.slack_requests)
        reason = _OWNER
        for slot in self._order(request, view):
            if room[slot] >= 0:
                return Choice(slot, reason)
            reason = _NEIGHBOUR
        return Choice(pick_least(loads(view), draw(self._seed, request.request_id)), _NO_KEY)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes. The ring follows the fleet."""
        self._ring.observe(event)

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. `ring_steps` counts eligible workers from the key; whoever is over the bound stands
        behind all that are within it."""
        order, load = list(self._order(request, view)), loads(view)
        room = within_bound(view, self.config.load_factor, self.config.slack_requests)

        def total(slot: int) -> float:
            if not order:
                return load[slot]
            return order.index(slot) + (0 if room[slot] >= 0 else len(order))

        def shares(slot: int) -> dict[str, float]:
            steps = {"ring_steps": float(order.index(slot))} if order else {}
            return {"room_requests": room[slot], **steps}

        return rows(view, total, shares)

    def _order(self, request: RoutingRequest, view: View) -> Iterator[int]:
        """Eligible slots clockwise from the request's key; none when it has no key."""
        key: int | None
        if request.session is not None:
            key = xxh3_64_intdigest(pseudonym(request.session).encode())
        else:
            key = head_key(request.blocks, self.config.prefix_tokens)
        if key is None:
            return
        for slot in self._ring.walk(key):
            if view.gate_s[slot] == 0.0:
                yield slot
