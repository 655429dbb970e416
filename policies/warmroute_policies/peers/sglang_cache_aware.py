"""`sglang_cache_aware`: the worker that was sent enough of the prompt before, while the fleet is balanced.

    rule=0.3.2      max B − min B > abs  and  max B > rel·min B ?  first of the least B
                    else  matched / length > threshold ?  the match's tenant
                    else  first of the least B
    rule=smg-1.13   `smg_spill` says

    B_i       requests of this router in flight on i
    matched   length of the longest prefix in common with any prompt sent before; the tenant is one worker
              that was sent it, the first of them

Source: `cache_aware` of sglang-router 0.3.2 (`src/policies/cache_aware.rs`, `tree.rs`) with its command
line's defaults, and of smg 1.13.0 (`model_gateway/src/policies`, `crates/kv_index/src/string_tree.rs`) for
HTTP workers.

Kept as they are, in both: the prompt is inserted under whoever was picked, at the dispatch, and stays there
if the request fails. The tree is swept on a timer: the least recently used leaves go until a worker (smg: all
of them together) is within bounds, and it grows freely in between. Stamps are a count of matches and inserts;
a match refreshes one node when its number is a multiple of 8, an insert the prompt's last node and no other.

In 0.3.2 alone: a tie goes to the lowest index; a match has one tenant, however many workers hold it. A tenant
that is ill or drains is forgotten with its whole tree when a match names it; that one request goes to the
lowest index and is not inserted.

Not alike: a match is counted in whole blocks of 512 characters, so prompts under one block have no history;
blocks cover the whole prompt, where the text there is the messages' contents alone; a request whose tenant
just failed it cannot be sent there again and counts as a miss; the sweep runs with the first event after
its time. Sizes: 4 characters for a token, as everywhere where there is no tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from warmroute_policies.algorithms.counts import rows
from warmroute_policies.blocks import BLOCK_BYTES
from warmroute_policies.chance import draw
from warmroute_policies.config import require
from warmroute_policies.fleet import Fleet
from warmroute_policies.peers.smg_spill import SmgBooks, SmgConfig, choose
from warmroute_policies.peers.tenant_tree import TenantNode, TenantTree
from warmroute_policies.policy import Choice, Dispatched, FleetChanged, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

SGLANG: Final = "0.3.2"
SMG: Final = "smg-1.13"

_HIT: Final = "hit"
_MISS: Final = "miss"
_IMBALANCE: Final = "imbalance"
_STALE: Final = "stale"

# "1 in 8 matches", as the source says; inserts count too, so with one of each per request it is 1 in 4.
_REFRESH_MASK: Final = 7


@dataclass(frozen=True, slots=True)
class SglangCacheAwareConfig(SmgConfig):
    """Parameters of `sglang_cache_aware`; the defaults are those of both command lines."""

    rule: str = SGLANG
    cache_threshold: float = 0.3
    """A match must be a larger share of the prompt than this."""
    balance_abs_threshold: int = 64
    balance_rel_threshold: float = 1.5
    eviction_interval_s: float = 60.0
    max_tree_chars: int = 1 << 26
    """0.3.2: of each worker; smg-1.13: of all workers together."""

    def __post_init__(self) -> None:
        SmgConfig.__post_init__(self)
        require(self.rule in (SGLANG, SMG), f"rule must be `{SGLANG}` or `{SMG}`, not `{self.rule}`")
        require(0 <= self.cache_threshold <= 1, "cache_threshold must be between 0 and 1")
        require(self.balance_abs_threshold >= 0, "balance_abs_threshold must not be negative")
        require(self.balance_rel_threshold >= 1, "balance_rel_threshold must be at least 1")
        require(self.eviction_interval_s > 0, "eviction_interval_s must be above 0")
        require(self.max_tree_chars >= 0, "max_tree_chars must not be negative")


class SglangCacheAware:
    """State: the tree, its count of stamps, when it was swept last, smg's books, and what the last decision
    was, for the dispatch that follows from it: whether it came from the tree is not in the event."""

    name = "sglang_cache_aware"

    def __init__(self, config: SglangCacheAwareConfig | None = None, seed: int = 0) -> None:
        self.config = config or SglangCacheAwareConfig()
        self.spreads = self.config.rule == SMG
        """An idle fleet is used from the lowest index on by 0.3.2."""
        self._seed = seed
        self._tree = TenantTree()
        self._stamps = 0
        self._swept_at: float | None = None
        self._books = SmgBooks()
        self._decided: tuple[int, int, str] | None = None

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads. `hit`: a worker that was sent the prefix; `miss`: no match was long enough; `imbalance`:
        the whole fleet is unbalanced; `spill`: all holders are too busy; `stale`: the holder is away."""
        slot, reason = self._judge(request, view)
        self._decided = (request.request_id, slot, reason)
        return Choice(slot, reason)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes. A dispatch is inserted under its slot; a slot that is emptied is forgotten."""
        self._sweep(now)
        if self.config.rule == SMG:
            self._books.observe(event)
        if isinstance(event, Dispatched):
            self._insert(event.request, event.slot)
        elif isinstance(event, FleetChanged) and not event.present:
            self._tree.drop(event.slot)

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. The total is 0 for the worker that would be picked and 1 for any other: the rule ranks
        nobody else. `matched` is the share of the prompt that a worker was sent before."""
        picked, _ = self._judge(request, view)
        path, share = self._match(request)
        holders = path[-1].tenants if path else {}
        return rows(
            view,
            lambda slot: 0.0 if slot == picked else 1.0,
            lambda slot: {
                "matched": share if slot in holders else 0.0,
                "tree_blocks": float(self._tree.blocks.get(slot, 0)),
            },
        )

    def _match(self, request: RoutingRequest) -> tuple[list[TenantNode], float]:
        """Reads. The nodes along the prompt, and which share of it they are."""
        blocks = request.blocks
        if not blocks.count:
            return [], 0.0
        path, matched = self._tree.match(blocks.ids(0, blocks.count))
        return path, matched * BLOCK_BYTES / max(blocks.bytes_len, 1)

    def _judge(self, request: RoutingRequest, view: View) -> tuple[int, str]:
        """Reads. The slot and the reason."""
        config, eligible, inflight = self.config, view.eligible, view.fleet.inflight
        if config.rule == SMG:
            path, share = self._match(request)
            holders = tuple(path[-1].tenants) if share > config.cache_threshold else ()
            margins = (config.balance_abs_threshold, config.balance_rel_threshold)
            return choose(view, holders, margins, config, self._books, draw(self._seed, request.request_id))
        least = min(eligible, key=inflight.__getitem__)
        low, high = inflight[least], max(inflight[slot] for slot in eligible)
        if high - low > config.balance_abs_threshold and high > config.balance_rel_threshold * low:
            return least, _IMBALANCE
        path, share = self._match(request)
        if share > config.cache_threshold:
            tenant = path[-1].tenant()
            if view.gate_s[tenant] == 0.0:
                return tenant, _HIT
            if _is_away(view.fleet, tenant):
                return eligible[0], _STALE
        return least, _MISS

    def _insert(self, request: RoutingRequest, slot: int) -> None:
        """Writes. What follows from the decision for the tree."""
        decided, self._decided = self._decided, None
        reason = None  # another rule decided, as one that keeps sessions together does
        if decided is not None and decided[:2] == (request.request_id, slot):
            reason = decided[2]
        tree, blocks = self._tree, request.blocks
        run = blocks.ids(0, blocks.count) if blocks.count else b""
        if reason not in (None, _IMBALANCE):
            path, _ = tree.match(run)
            self._refresh(path)
            if reason == _STALE:
                tree.drop(path[-1].named)
                return
        stamp = self._next_stamp()
        path = tree.grow(run)
        for node in path[:-1]:
            if slot not in node.tenants:
                tree.hold(node, slot, 0)
        if path:
            tree.hold(path[-1], slot, stamp)

    def _refresh(self, path: list[TenantNode]) -> None:
        """Writes. What a match leaves behind."""
        stamp = self._next_stamp()
        if path:
            node = path[-1]
            node.named = node.tenant()
            if not stamp & _REFRESH_MASK:
                node.tenants[node.named] = stamp

    def _next_stamp(self) -> int:
        self._stamps += 1
        return self._stamps - 1

    def _sweep(self, now: float) -> None:
        """Writes. Forgets what is too much, once in an interval."""
        if self._swept_at is None:
            self._swept_at = now
        if now - self._swept_at < self.config.eviction_interval_s:
            return
        self._swept_at = now
        tree, most = self._tree, self.config.max_tree_chars // BLOCK_BYTES
        large = [slot for slot, held in tree.blocks.items() if held > most]
        if self.config.rule == SGLANG:
            for slot in large:
                tree.evict_leaves((slot,), most)
        elif large or sum(tree.blocks.values()) > most:
            tree.evict_leaves(tuple(tree.blocks), most)


def _is_away(fleet: Fleet, slot: int) -> bool:
    """A worker that failed only this request is not away."""
    return fleet.specs[slot] is None or not fleet.healthy[slot] or fleet.draining[slot]
