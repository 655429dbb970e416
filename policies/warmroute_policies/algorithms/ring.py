"""The hash ring of `prefix_hash` and `consistent_hash`, what they hash, and their bound on load.

A ring gives every worker many points on a circle of 64-bit numbers; a key belongs to the worker of the
next point. A worker that leaves gives up its own keys and no others; n + 1 workers take 1/(n+1) of the
keys from the n. Points come from worker ids alone, so all routers in front of a fleet agree.

Bounded load (Mirrokni, Thorup, Zadimoghaddam, "Consistent hashing with bounded loads", 2016): a worker is
passed over while

    B_i > c·(T + 1)·w_i/W + s,      T requests in flight and W weight over the eligible

The factor c alone measures noise while counts are small, and grows worse with the number of workers; the
absolute slack s is what keeps a quiet fleet from scattering its prefixes. For c ≥ 1 and s ≥ 0 at least
one worker is always within the bound, because T + 1 cannot be below the sum of the B_i.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from math import ceil

from xxhash import xxh3_64_intdigest

from warmroute_policies.blocks import BLOCK_BYTES, PromptBlocks
from warmroute_policies.policy import FleetChanged, PolicyEvent, View
from warmroute_policies.types import WorkerId

# A prompt in byte blocks is cut at tokens × 4 bytes, the length that routers without a tokenizer take
# for a token. Not learned: a head that moves would move every key.
_HEAD_BYTES_PER_TOKEN = 4


class HashRing:
    """State: the points of every worker, sorted."""

    def __init__(self, points_per_worker: int) -> None:
        self._per_worker = points_per_worker
        self._points: list[tuple[int, int]] = []  # (place on the circle, slot)
        self._members: dict[int, WorkerId] = {}

    def observe(self, event: PolicyEvent) -> None:
        """Writes. Workers come and go; health and drain do not move a point."""
        if not isinstance(event, FleetChanged):
            return
        slot, worker = event.slot, event.worker
        if event.present and self._members.get(slot) == worker:
            return
        if slot in self._members:
            del self._members[slot]
            self._points = [point for point in self._points if point[1] != slot]
        if event.present:
            self._members[slot] = worker
            name = worker.encode()
            self._points.extend((xxh3_64_intdigest(name, i), slot) for i in range(self._per_worker))
            self._points.sort()  # two sorted runs: one merge

    def walk(self, key: int) -> Iterator[int]:
        """Reads. Every slot once, clockwise from the key; the first one owns it."""
        points, seen = self._points, set[int]()
        start = bisect_left(points, (key, -1))
        for i in range(start - len(points), start):  # negative indices: wraps without a modulo
            slot = points[i][1]
            if slot not in seen:
                seen.add(slot)
                yield slot
                if len(seen) == len(self._members):
                    return


def head_key(blocks: PromptBlocks, head_tokens: int) -> int | None:
    """Reads. A number for the first `head_tokens` of a prompt, in whole blocks; None: shorter than one block.

    Block ids are chained, so the id of the head's last block stands for all of the head. It is hashed once
    more because the ids of a trace may be small numbers that lie together.
    """
    if not blocks.count:
        return None
    block_tokens = blocks.tokens_per_block or BLOCK_BYTES / _HEAD_BYTES_PER_TOKEN
    last = min(max(1, ceil(head_tokens / block_tokens)), blocks.count) - 1
    return xxh3_64_intdigest(blocks.ids(last, last + 1))


def within_bound(view: View, load_factor: float, slack_requests: float) -> list[float]:
    """Reads. By slot: requests that fit under the bound, below 0 when the slot is over it.

    Slots that are not eligible have a number too; it means nothing.
    """
    fleet, eligible = view.fleet, view.eligible
    inflight, weight = fleet.inflight, fleet.weight
    total, weights = 0, 0.0
    for slot in eligible:
        total += inflight[slot]
        weights += weight[slot]
    share = load_factor * (total + 1) / weights
    return [share * w + slack_requests - b for b, w in zip(inflight, weight, strict=True)]
