"""The load of `preble`: what the requests of the last minutes cost each worker, in seconds.

    L_i = Σ over counted nodes v that i holds of   misses_v·W_i(v) / |holders_v| + active_i(v)·output·TPOT_i

    misses_v   miss rate times requests of the window, at v
    W_i(v)     prefill time of the node's own tokens on i
    active     requests in flight on i that use v
    output     mean length of the last 200 answers; 45 tokens before the first
    TPOT_i     median of the last 200 on i, of which the first is 0.15 s

Rules kept. Sums by slot are kept up with every change of a node, so a decision costs one line per worker and
not one per node. A node that nobody asked for within the window loses its holders, as in the source.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import fmean, median

from warmroute_policies.fleet import Fleet
from warmroute_policies.peers.preble_tree import Counts, PrebleNode

# Length of the source's queues of TPOT samples; answers' lengths are kept as long.
SAMPLES = 200
# What rebalancing counts a node from: a single request is no pattern.
FREQUENT = 2


class Pace:
    """State: the last answers' lengths, and by slot their time per token."""

    def __init__(self, output_tokens: float, tpot_s: float) -> None:
        self._first_tpot_s = tpot_s
        self._outputs = deque[float](maxlen=SAMPLES)
        self._tpots: dict[int, deque[float]] = {}
        self._tpot_s: dict[int, float] = {}
        self._output_tokens = output_tokens

    def learn(self, slot: int, output_tokens: int, decode_s: float) -> None:
        """Writes. An answer of that length took that long after its first token."""
        self._outputs.append(output_tokens)
        self._output_tokens = fmean(self._outputs)
        if output_tokens > 1:
            tpots = self._tpots.setdefault(slot, deque([self._first_tpot_s], maxlen=SAMPLES))
            tpots.append(decode_s / (output_tokens - 1))
            self._tpot_s[slot] = median(tpots)

    def drop(self, slot: int) -> None:
        """Writes. The slot's worker is gone."""
        self._tpots.pop(slot, None)
        self._tpot_s.pop(slot, None)

    def decode_s(self, slot: int) -> float:
        """Reads. How long an answer takes on the slot."""
        return self._output_tokens * self._tpot_s.get(slot, self._first_tpot_s)


class _Work:
    """Tokens in the units of the prices, and requests, that a slot is charged."""

    __slots__ = ("active", "linear", "quadratic")

    def __init__(self) -> None:
        self.linear = 0.0
        self.quadratic = 0.0
        self.active = 0

    def add(self, linear: float, quadratic: float, active: int) -> None:
        self.linear += linear
        self.quadratic += quadratic
        self.active += active


class WindowLoad:
    """State: the requests of the window, and what they charge to each slot."""

    def __init__(self, window_s: float, pace: Pace) -> None:
        self._window_s = window_s
        self._pace = pace
        self._requests: deque[tuple[float, Counts, int, int]] = deque()
        self._all: dict[int, _Work] = {}
        self._frequent: dict[int, _Work] = {}
        self.counted: dict[int, dict[Counts, None]] = {}
        """By slot, the nodes that it is charged for."""

    def load_s(self, fleet: Fleet, slot: int, *, frequent: bool = False) -> float:
        """Reads. L_i; `frequent`: of the nodes alone that were asked for more than once."""
        work = (self._frequent if frequent else self._all).get(slot)
        if work is None:
            return 0.0
        prefill_s = fleet.linear_s[slot] * work.linear + fleet.quadratic_s[slot] * work.quadratic
        return prefill_s + work.active * self._pace.decode_s(slot)

    def node_s(self, fleet: Fleet, slot: int, counts: Counts) -> float:
        """Reads. What the node has in L_i."""
        node, tokens = counts.node, counts.node.prefill_tokens()
        prefill_s = fleet.linear_s[slot] * tokens[0] + fleet.quadratic_s[slot] * tokens[1]
        decode_s = node.active.get(slot, 0) * self._pace.decode_s(slot)
        return prefill_s * counts.missed_requests() / len(node.holders) + decode_s

    def add(self, node: PrebleNode, hit_blocks: int, prompt_blocks: int, now: float) -> None:
        """Writes. A request is counted at a heavy node; its holders are known already."""
        counts = node.counts
        if counts is None:
            counts = node.counts = Counts(node)
        self._requests.append((now, counts, hit_blocks, prompt_blocks))
        _count(counts, 1, hit_blocks, prompt_blocks)
        self.charge(counts)

    def expire(self, now: float) -> list[PrebleNode]:
        """Writes. Takes what left the window off; returns the nodes where nothing is counted any more."""
        idle = []
        while self._requests and self._requests[0][0] < now - self._window_s:
            _, counts, hit_blocks, prompt_blocks = self._requests.popleft()
            _count(counts, -1, hit_blocks, prompt_blocks)
            if not counts.requests:
                node = counts.node
                node.holders.clear()
                node.ttfts.clear()
                node.counts = None
                idle.append(node)
            self.charge(counts)
        return idle

    def charge(self, counts: Counts) -> None:
        """Writes. The node's counts, size, holders or users changed."""
        for slot, linear, quadratic, active, frequent in counts.charges:
            self._all[slot].add(-linear, -quadratic, -active)
            if frequent:
                self._frequent[slot].add(-linear, -quadratic, -active)
            del self.counted[slot][counts]
            if not self.counted[slot]:  # exact again: sums of floats drift
                del self.counted[slot], self._all[slot]
                self._frequent.pop(slot, None)
        counts.charges = tuple(self._charges(counts)) if counts.requests else ()
        for slot, linear, quadratic, active, frequent in counts.charges:
            self._all.setdefault(slot, _Work()).add(linear, quadratic, active)
            if frequent:
                self._frequent.setdefault(slot, _Work()).add(linear, quadratic, active)
            self.counted.setdefault(slot, {})[counts] = None

    def split(self, upper: PrebleNode, lower: PrebleNode) -> None:
        """Writes. A node was split: the counts go to the upper part when that alone is heavy."""
        counts = lower.counts
        if counts is not None:
            if upper.is_heavy() and not lower.is_heavy():
                counts.node = upper
                upper.counts, lower.counts = counts, None
                upper.ttfts, lower.ttfts = lower.ttfts, {}
            self.charge(counts)

    @staticmethod
    def _charges(counts: Counts) -> Iterable[tuple[int, float, float, int, bool]]:
        node = counts.node
        linear, quadratic = node.prefill_tokens()
        share = counts.missed_requests() / max(1, len(node.holders))
        for slot in node.holders:
            active = node.active.get(slot, 0)
            yield slot, share * linear, share * quadratic, active, counts.requests >= FREQUENT


def _count(counts: Counts, requests: int, hit_blocks: int, prompt_blocks: int) -> None:
    counts.requests += requests
    counts.hit_blocks += requests * hit_blocks
    counts.prompt_blocks += requests * prompt_blocks
