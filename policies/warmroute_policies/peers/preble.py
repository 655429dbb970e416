"""`preble`: exploit the cache where most of the prompt is known, else explore by load and by what is evicted.

    known blocks > new blocks  ?  argmin L_i + M_i over those that hold the most of it
                               :  argmin L_i + M_i over all

    L_i   what the requests of the last three minutes cost i, in seconds: `preble_load`
    M_i   what evicting for the new blocks makes others compute again: `preble_caches`

Afterwards heavy prefixes move off a worker whose load is 1.5 times another's: `preble_balance`.

Source: E2 of Preble (ICLR 2025) and its code (WukLab/preble 8e7906a, `global_scheduler_with_time.py`). The
one published rule with a price for evictions.

Kept as they are: what is known is known of the whole fleet's history, whoever holds it by now; miss rates are
of the fleet and not of a worker; ties go to the lowest index; half of the prompt is the threshold.

Not alike. Prefill times are this fleet's prices, in place of regressions for an A6000. A prompt that was seen
whole is all known, as in the paper; in the code its last node counts as new. Answers' lengths are means of
what was seen, as in the paper; the code takes the request's limit, or 45 tokens. The code picks among several
holders by their place in a list and means their number; here it is the holder. The code names ten seconds
between two moves and does not keep to them; here they are kept, because with answers of hundreds of tokens
some worker is always 1.5 times as busy as another, and prefixes would move with every request. The tree is
counted in blocks of 128 tokens and bounded: by the virtual caches, the window and the requests in flight. The
local scheduler of the paper, which orders requests within a worker, is the engine's own here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Final

from warmroute_policies.algorithms.counts import rows
from warmroute_policies.blocks import TOKENS_PER_BLOCK
from warmroute_policies.config import require
from warmroute_policies.fleet import Fleet
from warmroute_policies.peers.preble_balance import rebalance
from warmroute_policies.peers.preble_caches import VirtualCaches
from warmroute_policies.peers.preble_load import Pace, WindowLoad
from warmroute_policies.peers.preble_tree import PrebleNode, PrebleTree, heavy, path_to
from warmroute_policies.policy import Choice, Completed, Dispatched, FleetChanged, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

_EXPLOIT: Final = "exploit"
_EXPLORE: Final = "explore"


@dataclass(frozen=True, slots=True)
class PrebleConfig:
    """Parameters of `preble`, with the defaults of its code."""

    window_s: float = 180.0
    output_tokens: float = 45.0
    """Length of an answer before one was seen."""
    tpot_s: float = 0.15
    """Time per token of a worker, the first of its samples."""
    kv_tokens: int = 198_516
    """Of a worker whose capacity is not known: Mistral-7B on an A6000."""
    rebalance_factor: float = 1.5
    rebalance_after: int = 50
    """Requests for each worker before the first move."""
    rebalance_interval_s: float = 10.0
    """Between two moves."""

    def __post_init__(self) -> None:
        require(self.window_s > 0, "window_s must be above 0")
        require(self.output_tokens > 0, "output_tokens must be above 0")
        require(self.tpot_s > 0, "tpot_s must be above 0")
        require(self.kv_tokens >= 1, "kv_tokens must be at least 1")
        require(self.rebalance_factor >= 1, "rebalance_factor must be at least 1")
        require(self.rebalance_after >= 0, "rebalance_after must not be negative")
        require(self.rebalance_interval_s >= 0, "rebalance_interval_s must not be negative")


class Preble:
    """State: the tree, the load of the window, the virtual caches, the requests in flight, when prefixes were
    moved last, and the fleet, whose prices and capacities are read at dispatches too."""

    name = "preble"

    def __init__(self, config: PrebleConfig | None = None) -> None:
        self.config = config or PrebleConfig()
        self._pace = Pace(self.config.output_tokens, self.config.tpot_s)
        self._load = WindowLoad(self.config.window_s, self._pace)
        self._caches = VirtualCaches(self.config.window_s)
        self._tree = PrebleTree(self._split)
        self._split_off: list[PrebleNode] = []
        self._flights: dict[int, tuple[int, PrebleNode | None, float]] = {}
        self._dispatches = 0
        self._balanced_at = -inf
        self._fleet: Fleet | None = None

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads. `exploit`: one of those that hold most of a prompt that is mostly known; `explore`: any."""
        self._fleet = view.fleet
        candidates, new_blocks, reason = self._candidates(request, view)
        return Choice(self._least(view.fleet, candidates, new_blocks), reason)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes. What an event means for the tree, the load and the caches, and the time that has passed."""
        self._caches.age(now)
        for node in self._load.expire(now):
            self._tree.forget(node)
        if isinstance(event, Dispatched):
            self._end(event.request.request_id)
            self._start(event.request, event.slot, now)
        elif isinstance(event, Completed):
            self._learn(event, now)
            self._end(event.request.request_id)
        elif isinstance(event, FleetChanged) and not event.present:
            self._drop(event.slot)

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. L and M of every worker; those that are no candidates stand behind the others."""
        fleet = view.fleet
        candidates, new_blocks, _ = self._candidates(request, view)
        load = {slot: self._load.load_s(fleet, slot) for slot in view.eligible}
        eviction = {slot: self._caches.eviction_s(fleet, slot, new_blocks) for slot in view.eligible}
        beyond = max(load[slot] + eviction[slot] for slot in view.eligible) + 1.0
        return rows(
            view,
            lambda slot: load[slot] + eviction[slot] + (0.0 if slot in candidates else beyond),
            lambda slot: {"load": load[slot], "eviction": eviction[slot]},
        )

    # --- decisions ----------------------------------------------------------------------------

    def _candidates(self, request: RoutingRequest, view: View) -> tuple[Sequence[int], int, str]:
        """Reads. Who may be picked, the prompt's new blocks, and why."""
        blocks = request.blocks
        if not blocks.count:
            return view.eligible, 0, _EXPLORE
        path, known = self._tree.match(blocks.ids(0, blocks.count))
        new_blocks = blocks.count - known
        if known > new_blocks:
            for node in reversed(path):
                holders = [slot for slot in view.eligible if slot in node.holders]
                if holders:
                    return holders, new_blocks, _EXPLOIT
        return view.eligible, new_blocks, _EXPLORE

    def _least(self, fleet: Fleet, candidates: Sequence[int], new_blocks: int) -> int:
        """Reads. argmin L + M. In the order of L, so that M is priced only as far as it can decide."""
        best, best_s = candidates[0], inf
        for load_s, slot in sorted((self._load.load_s(fleet, slot), slot) for slot in candidates):
            if load_s > best_s:
                break
            total_s = load_s + self._caches.eviction_s(fleet, slot, new_blocks, best_s - load_s)
            if total_s < best_s or (total_s == best_s and slot < best):
                best, best_s = slot, total_s
        return best

    # --- what is learned ----------------------------------------------------------------------

    def _start(self, request: RoutingRequest, slot: int, now: float) -> None:
        blocks = request.blocks
        run = blocks.ids(0, blocks.count) if blocks.count else b""
        _, known = self._tree.match(run)
        path = self._tree.grow(run)
        self._flights[request.request_id] = (slot, path[-1] if path else None, now)
        self._dispatches += 1
        if not path:
            return
        for node in path:
            node.holders.add(slot)
            node.active[slot] = node.active.get(slot, 0) + 1
        self._caches.use(path, slot, now)
        self._load.add(heavy(path), known, blocks.count, now)
        self._charge(path)
        self._shrink(slot)
        while self._split_off:  # the counts may have been all that kept it, and be the upper part's now
            self._tree.forget(self._split_off.pop())
        self._balance(now)

    def _balance(self, now: float) -> None:
        """Writes. Moves prefixes if it is time to and some worker has too much."""
        fleet, config = self._fleet, self.config
        if fleet is None or now - self._balanced_at < config.rebalance_interval_s:
            return
        slots = [slot for slot, _ in fleet.slots() if fleet.healthy[slot] and not fleet.draining[slot]]
        if len(slots) < 2 or self._dispatches < config.rebalance_after * len(slots):
            return
        if rebalance(fleet, self._load, slots, config.rebalance_factor, config.window_s, now):
            self._balanced_at = now

    def _shrink(self, slot: int) -> None:
        """Writes. Beyond its capacity a worker forgets, and holds no longer what it forgot."""
        tokens: float = self.config.kv_tokens
        if self._fleet is not None and isfinite(self._fleet.kv_capacity_tokens[slot]):
            tokens = self._fleet.kv_capacity_tokens[slot]
        gone = self._caches.shrink(slot, tokens / TOKENS_PER_BLOCK)
        for node in gone:
            node.holders.discard(slot)
        self._charge(gone)
        for node in gone:
            self._tree.forget(node)

    def _learn(self, event: Completed, now: float) -> None:
        """Writes. The pace of an answer, and the TTFT of the heavy node that its request was counted at."""
        slot, leaf, dispatched_at = self._flights.get(event.request.request_id, (-1, None, now))
        if not event.ok or event.ttft_s is None or slot != event.slot:
            return
        output_tokens = (event.usage.completion_tokens or 0) if event.usage is not None else 0
        if output_tokens > 1:
            self._pace.learn(slot, output_tokens, max(0.0, now - dispatched_at - event.ttft_s))
        if leaf is not None:
            heavy(path_to(leaf)).saw(slot, event.ttft_s, now, now - self.config.window_s)

    def _end(self, request_id: int) -> None:
        """Writes. The request is in flight no longer; one that is not known changes nothing."""
        slot, leaf, _ = self._flights.pop(request_id, (-1, None, 0.0))
        if leaf is None:
            return
        path = path_to(leaf)
        for node in path:
            node.active[slot] -= 1
            if not node.active[slot]:
                del node.active[slot]
        self._charge(path)
        self._tree.forget(leaf)

    def _split(self, upper: PrebleNode, lower: PrebleNode) -> None:
        """Writes. What the load and the caches make of a node that was split."""
        self._load.split(upper, lower)
        self._caches.split(upper, lower)
        self._split_off.append(lower)

    def _charge(self, nodes: Sequence[PrebleNode]) -> None:
        for node in nodes:
            if node.counts is not None:
                self._load.charge(node.counts)

    def _drop(self, slot: int) -> None:
        """Writes. The slot's worker is gone, with its cache and what it had in flight."""
        self._flights = {key: flight for key, flight in self._flights.items() if flight[0] != slot}
        self._caches.drop(slot)
        self._pace.drop(slot)
        nodes = list(self._tree.nodes())
        for node in nodes:
            node.holders.discard(slot)
            node.active.pop(slot, None)
            node.ttfts.pop(slot, None)
        self._charge(nodes)
        for node in reversed(nodes):
            if node.is_forgotten():
                self._tree.cut(node)
