"""The newer rule of `sglang_cache_aware`: holders of the prefix are let go one by one when they are busy.

    holders   up to 8 tenants of the deepest matched node, if the match is a large enough share
    busy_i    B_i > rel·mean B  and  B_i > mean B + min(abs, max(4, ⌈2·√mean B⌉))
    pick      argmin of wait over the holders that are not busy; without holders over all workers;
              when all holders are busy over the workers that are not (over all when none is left)
    wait_i    queued_i / throughput + λ·k_i / (1 − k_i),     ties within 1 µs are drawn

    B_i       requests of this router in flight on i
    queued_i  prompt tokens that i has to compute before it is done with what it was sent
    k_i       share of i's KV cache that running requests use

A worker with 8 requests waiting in its engine, or 0.8 of its KV cache in use, gets nothing while another
can: the gateway's overload veto.

Source: smg 1.13.0, `model_gateway/src/policies/cache_aware.rs` (pull request 2161) and `least_load.rs`.

What stands for the load that smg polls every 10 s: this router's own books, which are exact and fresh.
queued_i is the uncached prompt tokens of requests without a first token; it covers what smg adds up from
the engine's queue, its running prefills and its own dispatches since the poll, and needs none of smg's mean
of 1024 tokens for a request of unknown length. k_i is the blocks that prompts in flight use, each counted
once, over the believed capacity; it is 0 while that is unknown, and answers are not in it. Of the requests
without a first token those beyond one step's budget of prompt tokens wait in the engine; one that shows no
first token is never seen to wait. Engines are taken not to report a throughput: vLLM's metrics do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Final

from warmroute_policies.blocks import TOKENS_PER_BLOCK
from warmroute_policies.config import require
from warmroute_policies.peers.active_blocks import ActiveBlocks
from warmroute_policies.peers.books import Books
from warmroute_policies.peers.lengths import block_ids, prompt_tokens
from warmroute_policies.policy import Completed, Dispatched, FleetChanged, PolicyEvent, View

_HIT: Final = "hit"
_MISS: Final = "miss"
_SPILL: Final = "spill"

# MATCHED_TENANTS_CAP of `crates/kv_index`.
HOLDERS_MAX: Final = 8
# Twice a Poisson's standard deviation is noise, and so are four requests; both from pull request 2161.
MARGIN_DEVIATIONS: Final = 2.0
MARGIN_LEAST: Final = 4
# Scores this near are equal; `least_load.rs`.
TIE_S: Final = 1e-6
# Where `least_load.rs` clips k, so that the barrier stays finite.
KV_USAGE_MAX: Final = 0.999
# vLLM's max_num_batched_tokens for serving: the prompt tokens that an engine admits in one step.
STEP_TOKENS: Final = 8192


@dataclass(frozen=True, slots=True)
class SmgConfig:
    """Parameters of smg's `least_load` and of its overload veto, with their published defaults."""

    kv_pressure_s: float = 0.15
    """λ: price of a KV cache that is half in use."""
    throughput_tokens_per_s: float = 2000.0
    """Of an engine that reports none."""
    veto_waiting_requests: int = 8
    veto_kv_usage: float = 0.8

    def __post_init__(self) -> None:
        require(self.kv_pressure_s >= 0, "kv_pressure_s must not be negative")
        require(self.throughput_tokens_per_s > 0, "throughput_tokens_per_s must be above 0")
        require(self.veto_waiting_requests >= 1, "veto_waiting_requests must be at least 1")
        require(0 < self.veto_kv_usage <= 1, "veto_kv_usage must be above 0 and at most 1")


class SmgBooks:
    """State: by slot the prefills that are not done, and the blocks that requests in flight use."""

    def __init__(self) -> None:
        self._active = ActiveBlocks()
        self._prefills = Books()

    def observe(self, event: PolicyEvent) -> None:
        """Writes. Requests come, show a first token and end; one that is sent again leaves where it was."""
        if isinstance(event, FleetChanged):
            if not event.present:
                self._active.drop(event.slot)
                self._prefills.drop(event.slot)
            return
        request = event.request
        self._prefills.release(request.request_id)
        if isinstance(event, Dispatched):
            ids = block_ids(request, request.blocks.count)
            self._active.begin(request.request_id, event.slot, ids, rest=0)
            if request.stream:
                missing = max(0, prompt_tokens(request) - event.hit_tokens)
                self._prefills.book(request.request_id, event.slot, missing)
        elif isinstance(event, Completed):
            self._active.end(request.request_id)

    def kv_usage(self, view: View, slot: int) -> float:
        """Reads. k: share of the slot's KV cache that prompts in flight use."""
        tokens = self._active.occupied(slot, TOKENS_PER_BLOCK)
        return min(KV_USAGE_MAX, tokens / view.fleet.kv_capacity_tokens[slot])

    def waiting(self, slot: int) -> int:
        """Reads. Requests that the engine has not begun with: those behind one step's worth of tokens."""
        prefills, tokens = self._prefills.waiting(slot), 0
        for begun, missing in enumerate(prefills):
            if tokens >= STEP_TOKENS:
                return len(prefills) - begun
            tokens += missing
        return 0


def choose(
    view: View,
    tenants: Sequence[int],
    margins: tuple[int, float],
    config: SmgConfig,
    books: SmgBooks,
    ticket: int,
) -> tuple[int, str]:
    """Reads. The slot and the reason, given the tenants of a match that is long enough; none: a miss."""
    inflight = view.fleet.inflight
    able = [slot for slot in view.eligible if not is_overloaded(view, slot, config, books)] or view.eligible
    holders = [slot for slot in tenants[:HOLDERS_MAX] if slot in able]
    limit = busy_limit([inflight[slot] for slot in able], *margins)
    calm = [slot for slot in holders if inflight[slot] <= limit]
    if not holders:
        candidates, reason = able, _MISS
    elif calm:
        candidates, reason = calm, _HIT
    else:
        candidates, reason = [slot for slot in able if inflight[slot] <= limit] or able, _SPILL
    waits = [wait_s(view, slot, config, books) for slot in candidates]
    least = min(waits) + TIE_S
    tied = [slot for slot, wait in zip(candidates, waits, strict=True) if wait <= least]
    return tied[ticket % len(tied)], reason


def busy_limit(inflight: Sequence[int], abs_threshold: int, rel_threshold: float) -> float:
    """Reads. The most requests that a worker may have in flight without being too busy."""
    mean = sum(inflight) / len(inflight)
    margin = min(abs_threshold, max(MARGIN_LEAST, ceil(MARGIN_DEVIATIONS * sqrt(mean))))
    return max(rel_threshold * mean, mean + margin)


def wait_s(view: View, slot: int, config: SmgConfig, books: SmgBooks) -> float:
    """Reads. Seconds until the worker is done with what it was sent, and the price of a full KV cache."""
    usage = books.kv_usage(view, slot)
    queued_s = view.fleet.queued_tokens[slot] / config.throughput_tokens_per_s
    return queued_s + config.kv_pressure_s * usage / (1.0 - usage)


def is_overloaded(view: View, slot: int, config: SmgConfig, books: SmgBooks) -> bool:
    """Reads. Whether the gateway's veto is on the worker."""
    if books.waiting(slot) >= config.veto_waiting_requests:
        return True
    return books.kv_usage(view, slot) >= config.veto_kv_usage
