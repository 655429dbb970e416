"""`dynamo_kv`: the least blocks, those to prefill and those to decode added one to one.

    argmin over eligible i of  s·max(0, (P_i + n)/B − c·decay_i·⌊h_i/B⌋) + D_i + w·B_i;     ties are drawn
    decay_i = 1 / (1 + g·((P_i − min P)/B) / ⌈n/B⌉)
    temperature T > 0: i is drawn with p ∝ exp(−(cost_i − min) / ((max − min)·T))

    B     tokens of an engine's page;  n of the prompt;  h_i what i holds of it
    P_i   uncached tokens of the requests that were sent to i and have shown no first token, whole until then
    D_i   distinct pages of the prompts in flight on i and of this one; whole pages only
    B_i   requests in flight on i, in the term with w alone

Source: dynamo 1.6.1, `--router-mode kv` (lib/kv-router/src/scheduling/selector/default.rs). A prompt of 235
tokens and pages of 16 cost 28.6875 = 14.6875 + 14 on an idle worker of the wheel, and 14.6875 = 0.6875 + 14
when repeated; here as well. Not ported, since off or without effect by default: other cache tiers, a queue in
the router, sessions, tracking of output blocks.

Two ways to know h_i. By default KV events: our index, corrected by what engines report, stands for them. It
knows a prompt from its dispatch on, as the original does with `--router-predicted-ttl-secs`; there that is
off, so the port is the stronger in bursts. Then P_i and B_i are the fleet's columns. With `ttl_s` the
approximate mode (`--no-router-kv-events`, 120 s there): an index of its own dispatches, and books by it.

Of the chain of pages that the original hashes, blocks of 128 tokens are known here: D_i shares whole blocks,
and the pages behind the last one count as nobody else's.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, inf
from typing import Final

from warmroute_policies.algorithms.counts import rows
from warmroute_policies.blocks import TOKENS_PER_BLOCK
from warmroute_policies.chance import draw, pick_least
from warmroute_policies.config import require
from warmroute_policies.peers.active_blocks import ActiveBlocks
from warmroute_policies.peers.books import Books
from warmroute_policies.peers.declared import Declared
from warmroute_policies.peers.lengths import block_ids, block_tokens, prompt_tokens
from warmroute_policies.peers.timed_blocks import TimedBlocks
from warmroute_policies.policy import Choice, Completed, Dispatched, FirstToken, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

_LEAST: Final = "least"
_DRAWN: Final = "drawn"
_RANGE: Final = float(1 << 64)

# The page of an engine whose declaration is not known: vLLM's default, and that of `WorkerSpec`.
_PAGE_TOKENS: Final = 16


@dataclass(frozen=True, slots=True)
class DynamoKvConfig:
    """Parameters of `dynamo_kv`; the names of the original's flags stand beside them."""

    credit: float = 1.0
    """c, `--router-kv-overlap-score-credit`."""
    credit_decay: float = 0.0
    """g, `--router-kv-overlap-score-credit-decay`."""
    prefill_load_scale: float = 1.0
    """s, `--router-prefill-load-scale`."""
    request_weight: float = 0.0
    """w, `--router-decode-active-request-weight`."""
    temperature: float = 0.0
    """T, `--router-temperature`."""
    ttl_s: float = 0.0
    """0: KV events; else the approximate mode and its `--router-ttl-secs`, 120 there."""
    ttl_blocks_max: int = 1_000_000
    """Blocks of 128 tokens remembered per worker in the approximate mode, where the original has no bound:
    more than an engine can be sent in two minutes, in some 200 MB."""

    def __post_init__(self) -> None:
        require(self.credit >= 0, "credit must not be negative")
        require(self.credit_decay >= 0, "credit_decay must not be negative")
        require(self.prefill_load_scale >= 0, "prefill_load_scale must not be negative")
        require(self.request_weight >= 0, "request_weight must not be negative")
        require(self.temperature >= 0, "temperature must not be negative")
        require(self.ttl_s >= 0, "ttl_s must not be negative")
        require(self.ttl_blocks_max >= 1, "ttl_blocks_max must be at least 1")


class DynamoKv:
    """State: the blocks in use; in the approximate mode also what was sent lately, and what waits."""

    name = "dynamo_kv"

    def __init__(self, config: DynamoKvConfig | None = None, seed: int = 0) -> None:
        self.config = config or DynamoKvConfig()
        self._seed = seed
        self._declared = Declared()
        self._active = ActiveBlocks()
        self._sent = TimedBlocks(self.config.ttl_s, self.config.ttl_blocks_max)
        self._books = Books()

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads. `least`, or `drawn` when there is a temperature."""
        self._declared.follow(view.fleet)
        costs = [inf] * len(view.gate_s)
        for slot, shares in self._shares(request, view, now).items():
            costs[slot] = sum(shares.values())
        ticket = draw(self._seed, request.request_id)
        if self.config.temperature > 0:
            return Choice(_softmax(costs, self.config.temperature, ticket / _RANGE), _DRAWN)
        return Choice(pick_least(costs, ticket), _LEAST)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes. A prompt's pages are in use from its dispatch to its end; the approximate mode also renews
        its blocks, and books what it takes to be missing until the first token."""
        if isinstance(event, Dispatched):
            self._dispatched(event.request, event.slot, now)
        elif isinstance(event, FirstToken):
            self._books.release(event.request.request_id)
        elif isinstance(event, Completed):
            self._books.release(event.request.request_id)
            self._active.end(event.request.request_id)
        elif not event.present:
            self._active.drop(event.slot)
            self._sent.drop(event.slot)
            self._books.drop(event.slot)

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. Totals are pages: those to prefill, those to decode, and requests by their weight."""
        shares = self._shares(request, view, now)
        return rows(view, lambda slot: sum(shares[slot].values()), shares.__getitem__)

    def _dispatched(self, request: RoutingRequest, slot: int, now: float) -> None:
        ids = block_ids(request, request.blocks.count)
        spec = self._declared.spec(slot)
        page = _PAGE_TOKENS if spec is None else spec.engine_block_tokens
        n = prompt_tokens(request)
        self._active.begin(request.request_id, slot, ids, _rest(n, page, len(ids)))
        if self.config.ttl_s > 0:
            self._books.book(request.request_id, slot, n - self._cached_tokens(request, ids, slot, now))
            self._sent.renew(slot, ids, now)

    def _cached_tokens(self, request: RoutingRequest, ids: tuple[int, ...], slot: int, now: float) -> int:
        """What the approximate mode believes that the slot holds of the prompt."""
        held = int(self._sent.depth(slot, ids, now) * block_tokens(request))
        return min(held, prompt_tokens(request))

    def _shares(self, request: RoutingRequest, view: View, now: float) -> dict[int, dict[str, float]]:
        """By eligible slot: the terms of its cost, in pages."""
        config, fleet = self.config, view.fleet
        ids, length = block_ids(request, request.blocks.count), prompt_tokens(request)
        approximate = config.ttl_s > 0
        n = length if approximate else view.prompt_tokens
        waiting = {
            slot: self._books.queued_tokens.get(slot, 0) if approximate else fleet.queued_tokens[slot]
            for slot in view.eligible
        }
        least = min(waiting.values())
        shares = {}
        for slot, queued in waiting.items():
            page = fleet.spec(slot).engine_block_tokens
            cached = self._cached_tokens(request, ids, slot, now) if approximate else view.hits.tokens(slot)
            credit = config.credit * (cached // page)
            if config.credit_decay > 0:
                excess = (queued - least) / page / max(1, ceil(n / page))
                credit /= 1.0 + config.credit_decay * excess
            block_pages = TOKENS_PER_BLOCK / page
            shares[slot] = {
                "prefill_pages": config.prefill_load_scale * max(0.0, (queued + n) / page - credit),
                "decode_pages": self._active.occupied(slot, block_pages)
                + self._active.missing(slot, ids) * block_pages
                + _rest(length, page, len(ids)),
                "request_pages": config.request_weight * fleet.inflight[slot],
            }
        return shares


def _rest(prompt_tokens: int, page: int, blocks: int) -> float:
    """Whole pages of a prompt beyond those of its blocks."""
    return prompt_tokens // page - blocks * TOKENS_PER_BLOCK / page


def _softmax(costs: list[float], temperature: float, point: float) -> int:
    """The slot at the point, between 0 and 1, of the chances laid end to end; `inf` has none."""
    slots = [slot for slot, cost in enumerate(costs) if cost < inf]
    low = min(costs)
    span = max(costs[slot] for slot in slots) - low
    chances = [exp((low - costs[slot]) / span / temperature) if span > 0 else 1.0 for slot in slots]
    point *= sum(chances)
    for slot, chance in zip(slots, chances, strict=True):
        point -= chance
        if point < 0:
            return slot
    return slots[-1]  # the last one's share, less a rounding error
