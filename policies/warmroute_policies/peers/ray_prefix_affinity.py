"""`ray_prefix_affinity`: who was sent the longest prefix, else who was sent least in all; load hardly counts.

    max B − min B > imbalanced_threshold  ?  the less busy of two drawn at random
    matched / length ≥ match_rate_threshold  ?  the least busy of those that were sent the matched prefix
    else  the least busy of those that were sent the fewest characters;     ties are drawn

    B_i       requests of this router in flight on i
    matched   length of the longest prefix in common with what any worker that may be taken was sent before

Source: `PrefixCacheAffinityRouter` of Ray Serve LLM (`serve/routing_policies/prefix_aware`), as of Ray pull
request 59390: it raised the first threshold from 10 to infinity, so by default no queue is too long for an
affinity, and load decides among equals alone. The second choice is the "smallest tenant": whoever was sent
least, which is not whoever is least busy. By default nothing is ever evicted from the tree.

Kept as they are: a prompt is inserted at the dispatch and stays; the whole path is used at once, and with
`do_eviction` whole prompts that were not used for longest go first, down to the target, on a timer.

Not alike: a match is counted in whole blocks of 512 characters; a request without a prompt gets the two drawn
at random, where there the router fails; queue lengths are this router's own counts, where there replicas are
asked and may refuse. `tree_max_chars` bounds the router's memory, and holds what a worker is sent in hours.
The fallback is this router's `power_of_two`, which knows of weights too.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

from warmroute_policies.algorithms.counts import rows
from warmroute_policies.algorithms.power_of_two import PowerOfTwo
from warmroute_policies.blocks import BLOCK_BYTES
from warmroute_policies.chance import draw
from warmroute_policies.config import require
from warmroute_policies.peers.tenant_tree import TenantTree
from warmroute_policies.policy import Choice, Dispatched, FleetChanged, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

_PREFIX: Final = "prefix"
_SMALLEST: Final = "smallest"
_IMBALANCED: Final = "imbalanced"
_NO_TEXT: Final = "no_text"


@dataclass(frozen=True, slots=True)
class RayPrefixAffinityConfig:
    """Parameters of `ray_prefix_affinity`, with the names and defaults of its source."""

    imbalanced_threshold: float = inf
    match_rate_threshold: float = 0.1
    """A match may be as small a share of the prompt as this."""
    do_eviction: bool = False
    eviction_threshold_chars: int = 400_000
    """Of one worker; more starts an eviction, ..."""
    eviction_target_chars: int = 360_000
    """... which ends here."""
    eviction_interval_s: float = 10.0
    tree_max_chars: int = 1 << 26
    """Of one worker, without `do_eviction`. The source has no bound; sglang-router has this one."""

    def __post_init__(self) -> None:
        require(self.imbalanced_threshold >= 0, "imbalanced_threshold must not be negative")
        require(0 <= self.match_rate_threshold <= 1, "match_rate_threshold must be between 0 and 1")
        require(self.eviction_threshold_chars >= 0, "eviction_threshold_chars must not be negative")
        require(self.eviction_target_chars >= 0, "eviction_target_chars must not be negative")
        require(self.eviction_interval_s > 0, "eviction_interval_s must be above 0")
        require(self.tree_max_chars >= 0, "tree_max_chars must not be negative")


class RayPrefixAffinity:
    """State: the tree, a count of what was inserted, and when it was swept last."""

    name = "ray_prefix_affinity"

    def __init__(self, config: RayPrefixAffinityConfig | None = None, seed: int = 0) -> None:
        self.config = config or RayPrefixAffinityConfig()
        self._seed = seed
        self._two = PowerOfTwo(seed)
        self._tree = TenantTree()
        self._inserted = 0
        self._swept_at: float | None = None

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads. `prefix`: of those that were sent enough of the prompt; `smallest`: of those that were sent
        least; `imbalanced` and `no_text`: of two drawn at random."""
        inflight, eligible = view.fleet.inflight, view.eligible
        lengths = [inflight[slot] for slot in eligible]
        if not request.blocks.bytes_len:
            return Choice(self._two.decide(request, view, now).slot, _NO_TEXT)
        if max(lengths) - min(lengths) > self.config.imbalanced_threshold:
            return Choice(self._two.decide(request, view, now).slot, _IMBALANCED)
        holders, share = self._match(request, view)
        reason = _PREFIX
        if share < self.config.match_rate_threshold:
            blocks = self._tree.blocks
            fewest = min(blocks.get(slot, 0) for slot in eligible)
            holders = [slot for slot in eligible if blocks.get(slot, 0) == fewest]
            reason = _SMALLEST
        least = min(inflight[slot] for slot in holders)
        tied = [slot for slot in holders if inflight[slot] == least]
        return Choice(tied[draw(self._seed, request.request_id) % len(tied)], reason)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes. A dispatch is inserted under its slot; a slot that is emptied is forgotten."""
        self._sweep(now)
        if isinstance(event, Dispatched):
            blocks = event.request.blocks
            if blocks.count:
                for node in self._tree.grow(blocks.ids(0, blocks.count)):
                    self._tree.hold(node, event.slot, self._inserted)
            self._inserted += 1
        elif isinstance(event, FleetChanged) and not event.present:
            self._tree.drop(event.slot)

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. The total is 0 for the worker that would be picked and 1 for any other: the rule ranks
        nobody else."""
        picked = self.decide(request, view, now).slot
        holders, share = self._match(request, view)
        return rows(
            view,
            lambda slot: 0.0 if slot == picked else 1.0,
            lambda slot: {
                "matched": share if slot in holders else 0.0,
                "tree_blocks": float(self._tree.blocks.get(slot, 0)),
            },
        )

    def _match(self, request: RoutingRequest, view: View) -> tuple[list[int], float]:
        """Reads. Who of the eligible was sent the longest prefix, and which share of the prompt that is."""
        blocks, gate_s = request.blocks, view.gate_s
        path, matched = self._tree.match(blocks.ids(0, blocks.count)) if blocks.count else ([], 0)
        while path:
            holders = [slot for slot in path[-1].tenants if gate_s[slot] == 0.0]
            if holders:
                return holders, matched * BLOCK_BYTES / max(blocks.bytes_len, 1)
            path.pop()
            matched = path[-1].end if path else 0
        return list(view.eligible), 0.0

    def _sweep(self, now: float) -> None:
        """Writes. Forgets what is too much, once in an interval."""
        config = self.config
        if self._swept_at is None:
            self._swept_at = now
        if now - self._swept_at < config.eviction_interval_s:
            return
        self._swept_at = now
        most, target = config.tree_max_chars, config.tree_max_chars
        if config.do_eviction:
            most = config.eviction_threshold_chars
            target = min(config.eviction_target_chars, most)
        for slot in [slot for slot, held in self._tree.blocks.items() if held * BLOCK_BYTES > most]:
            self._tree.evict_oldest(slot, target // BLOCK_BYTES)
