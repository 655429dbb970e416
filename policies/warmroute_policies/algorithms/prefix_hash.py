"""`prefix_hash`: the head of the prompt names a worker; a busy one hands over to the least busy.

    owner = first eligible worker on the ring after hash(first K tokens)
    B_owner ≤ c·(T + 1)·w/W + s ?  owner  :  argmin over the workers within the bound of (B_i + 1) / w_i

Source: `prefix_hash` of sglang-router (K = 256 tokens, c = 1.25) and smg (4 bytes for a token where there
is no tokenizer, and an absolute slack of 10). `ring` has the bound. It needs no index and no memory, and
it shows what that costs: prompts that share their first K tokens and nothing else share a worker.
"""

from __future__ import annotations

from math import inf

from warmroute_policies.algorithms.counts import loads, rows
from warmroute_policies.algorithms.ring import HashRing, head_key, within_bound
from warmroute_policies.chance import draw, pick_least
from warmroute_policies.config import PrefixHashConfig
from warmroute_policies.policy import Choice, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

_OWNER = "owner"
_OVERFLOW = "overflow"
_NO_KEY = "no_key"


class PrefixHash:
    """State: the ring."""

    name = "prefix_hash"
    learns = False

    def __init__(self, config: PrefixHashConfig | None = None, seed: int = 0) -> None:
        self.config = config or PrefixHashConfig()
        self._seed = seed
        self._ring = HashRing(self.config.ring_points)

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads. A prompt that is too short to have a head goes to the least busy worker."""
        owner = self._owner(request, view)
        ticket = draw(self._seed, request.request_id)
        if owner is None:
            return Choice(pick_least(loads(view), ticket), _NO_KEY)
        room = within_bound(view, self.config.load_factor, self.config.slack_requests)
        if room[owner] >= 0:
            return Choice(owner, _OWNER)
        within = [load if left >= 0 else inf for load, left in zip(loads(view), room, strict=True)]
        return Choice(pick_least(within, ticket), _OVERFLOW)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes. The ring follows the fleet."""
        self._ring.observe(event)

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. `room_requests` is what fits under the bound; the owner's total is 0 while there is some,
        the others' is their load, and whoever is over the bound stands behind all of them."""
        owner, load = self._owner(request, view), loads(view)
        room = within_bound(view, self.config.load_factor, self.config.slack_requests)
        beyond = max(load[slot] for slot in view.eligible)

        def total(slot: int) -> float:
            if owner is None:
                return load[slot]
            if room[slot] < 0:
                return load[slot] + beyond
            return 0.0 if slot == owner else load[slot]

        return rows(view, total, lambda slot: {"owner": float(slot == owner), "room_requests": room[slot]})

    def _owner(self, request: RoutingRequest, view: View) -> int | None:
        key = head_key(request.blocks, self.config.prefix_tokens)
        if key is None:
            return None
        gate_s = view.gate_s
        return next((slot for slot in self._ring.walk(key) if gate_s[slot] == 0.0), None)
