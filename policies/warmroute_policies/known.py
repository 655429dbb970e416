"""Which blocks each engine's KV cache holds, as the engine itself tells (KV events): knowledge, not belief.

A worker that tells has a *lane* per data-parallel rank. A lane is a set of block ids per tier, and finding
how much of a prompt it holds is a bisection: engines evict a prompt's tail before its head, so of a prompt's
blocks a lane holds the first so many. 13 looks for 100,000 tokens, where a walk would take 6,250.

Rules kept. `predict` reads. What a dispatch will make the engine store is expected at once, so that siblings
that arrive before the events meet it; an expectation ends a moment after its request, and what came of it by
then is what the events said. A worker whose lane is not complete (its stream was joined late) holds at
least what is known. Several ranks behind one worker are the engine's to choose from: such a worker is
expected to hold what they hold on average. Nothing takes long: sets that are thrown away are emptied piece by
piece.
"""

from __future__ import annotations

import enum
import sys
from array import array
from collections import deque
from collections.abc import Sequence
from typing import Final, final

from warmroute_policies.blocks import unpack_ids
from warmroute_policies.hits import EXACT, Hits
from warmroute_policies.types import TokenPrompt
from warmroute_policies.values import Frozen

# How long after a request's end its events may take. Engines publish once per step; vLLM's publisher thread
# and a loaded network stay far below.
GRACE_S: Final = 1.0

_NOBODY: Final[dict[int, int]] = {}

# Ids of thrown away sets that one call lets go of: some 0.3 ms.
_BURY_STEPS: Final = 8192


class Tier(enum.IntEnum):
    """Where an engine keeps a block, from near to far."""

    GPU = 0
    HOST = 1
    DISK = 2
    EXTERNAL = 3


class BlockChange(Frozen, frozen=True, gc=False):
    """Blocks that came to a tier, or left it. What is held several times comes once and leaves once."""

    stored: bool
    tier: int
    ids: bytes
    """A run."""


@final
class Lane:
    """What one rank's cache holds."""

    __slots__ = ("block_tokens", "complete", "pending", "tiers")

    def __init__(self, block_tokens: int, complete: bool) -> None:
        self.block_tokens = block_tokens
        self.complete = complete
        """Nothing else is held; else the engine told only a part."""
        self.tiers: list[set[int]] = [set() for _ in Tier]
        self.pending: dict[int, int] = {}
        """Ids that requests in flight will make it hold, and for how many of these."""


class Expected(Frozen, frozen=True, gc=False):
    """What the dispatch of one request will make a lane hold."""

    lane: Lane
    ids: tuple[int, ...]


@final
class KnownBlocks:
    """State: lanes by slot and rank, what is expected of requests that have ended, what is thrown away."""

    def __init__(self, load_s: Sequence[float]) -> None:
        """`load_s`: by tier, seconds to bring one token's KV to where it is computed with."""
        self.load_s = load_s
        self.lanes: dict[int, dict[int, Lane]] = {}
        self.unconfirmed: dict[int, int] = {}
        """By slot, blocks that were expected and that no event told of, so far."""
        self._settling: deque[tuple[float, int, Expected]] = deque()
        self._buried: list[set[int]] = []

    # --- what engines tell --------------------------------------------------------------------

    def know(self, slot: int, rank: int, block_tokens: int, complete: bool) -> None:
        """Writes. The rank's cache is known from now on; another size of block makes a new lane."""
        lanes = self.lanes.setdefault(slot, {})
        lane = lanes.get(rank)
        if lane is not None and lane.block_tokens == block_tokens:
            lane.complete = complete
            return
        if lane is not None:
            self._bury(lane)
        lanes[rank] = Lane(block_tokens, complete)

    def change(self, slot: int, rank: int, changes: Sequence[BlockChange]) -> None:
        """Writes. In the order in which the engine made them. Raises KeyError when the rank is not known."""
        tiers = self.lanes[slot][rank].tiers
        for change in changes:
            held = tiers[change.tier]
            if change.stored:
                held.update(unpack_ids(change.ids))
            else:
                held.difference_update(unpack_ids(change.ids))

    def clear(self, slot: int, rank: int) -> None:
        """Writes. The rank's cache is empty. Raises KeyError when the rank is not known."""
        lane = self.lanes[slot][rank]
        self._bury(lane)
        lane.tiers = [set() for _ in Tier]
        lane.pending = {}

    def doubt(self, slot: int) -> None:
        """Writes. Nothing is known of the worker any more."""
        for lane in self.lanes.pop(slot, {}).values():
            self._bury(lane)
        self.unconfirmed.pop(slot, None)

    def _bury(self, lane: Lane) -> None:
        self._buried += [held for held in lane.tiers if held]

    # --- what a prompt meets ------------------------------------------------------------------

    def block_sizes(self) -> tuple[int, ...]:
        """Reads. The sizes in use, in tokens, ascending."""
        return tuple(sorted({lane.block_tokens for lanes in self.lanes.values() for lane in lanes.values()}))

    def predict(self, prompt: TokenPrompt, hits: Hits, linear_s: Sequence[float]) -> Hits:
        """Reads. The believed hits, with those of workers that tell in their place.

        `linear_s`: by slot, seconds to compute one token. A token in a farther tier saves what computing it
        costs less what loading it costs, and counts in this proportion; what the engine will report as cached
        is in `Hits.promised`.
        """
        depths, tokens_at = dict(hits.depths), dict(hits.tokens_at)
        promised: dict[int, int] = {}
        runs = {size: _ids(run) for size, run in prompt.runs.items()}
        hints = dict.fromkeys(runs, 0)
        for slot, lanes in self.lanes.items():
            saved, cached, told, complete = 0.0, 0, 0, True
            for lane in lanes.values():
                ids = runs.get(lane.block_tokens)
                if ids is None:
                    continue
                near, far = _reach(lane, ids, hints[lane.block_tokens])
                hints[lane.block_tokens] = near
                told += 1
                complete = complete and lane.complete
                tokens = _cached(near, lane.block_tokens, prompt.tokens)
                saved += tokens
                for tier, depth in far:
                    more = _cached(depth, lane.block_tokens, prompt.tokens) - tokens
                    tokens += more
                    saved += more * max(0.0, 1.0 - self.load_s[tier] / linear_s[slot])
                cached += tokens
            if not told:
                continue
            worth, cached = int(saved / told), cached // told
            if not complete and hits.tokens(slot) > worth:
                continue
            depths.pop(slot, None)
            if worth:
                depths[slot] = EXACT - worth
                tokens_at[EXACT - worth] = worth
            if cached != worth:
                promised[slot] = cached
        used = set(depths.values())
        return Hits(depths, {depth: tokens for depth, tokens in tokens_at.items() if depth in used}, promised)

    # --- what a dispatch will store -------------------------------------------------------------

    def expect(self, slot: int, prompt: TokenPrompt) -> Expected | None:
        """Writes. The prompt was sent to the slot: its whole blocks will be there. None: nothing new will be,
        nothing is known of the worker, or the engine chooses among its ranks."""
        lanes = self.lanes.get(slot)
        if lanes is None or len(lanes) != 1:
            return None
        (lane,) = lanes.values()
        run = prompt.runs.get(lane.block_tokens)
        if run is None:
            return None
        near, _ = _reach(lane, _ids(run), 0)
        ids = unpack_ids(run[near * 8 :])
        if not ids:
            return None
        pending = lane.pending
        for one in ids:
            pending[one] = pending.get(one, 0) + 1
        return Expected(lane, ids)

    def settle(self, slot: int, expected: Expected, now: float) -> None:
        """Writes. The request ended as it should: its events have come, or will within `GRACE_S`."""
        self._settling.append((now + GRACE_S, slot, expected))

    def drop(self, expected: Expected) -> int:
        """Writes. What is expected no more; what the engine told stays. Returns how many of the blocks no
        event told of."""
        pending, missing = expected.lane.pending, 0
        tiers = expected.lane.tiers
        for one in expected.ids:
            left = pending.get(one, 0) - 1
            if left > 0:
                pending[one] = left
            elif left == 0:
                del pending[one]
            missing += not _holds(one, _NOBODY, tiers)
        return missing

    def tick(self, now: float) -> bool:
        """Writes. Ends what was to end by now, lets go of a piece of what is thrown away. True: there is
        more."""
        while self._settling and self._settling[0][0] <= now:
            _, slot, expected = self._settling.popleft()
            missing = self.drop(expected)
            lanes = self.lanes.get(slot)
            if missing and lanes is not None and expected.lane in lanes.values():
                self.unconfirmed[slot] = self.unconfirmed.get(slot, 0) + missing
        steps = _BURY_STEPS
        while self._buried and steps:
            held = self._buried[-1]
            while held and steps:
                held.pop()
                steps -= 1
            if not held:
                self._buried.pop()
        return bool(self._buried)

    def held(self, slot: int) -> list[int]:
        """Reads. Blocks known at the worker, by tier, over its ranks."""
        counts = [0] * len(Tier)
        for lane in self.lanes.get(slot, {}).values():
            counts = [count + len(held) for count, held in zip(counts, lane.tiers, strict=True)]
        return counts


def _ids(run: bytes) -> Sequence[int]:
    """A run's ids, to be asked for a few of them."""
    if sys.byteorder == "little":
        return memoryview(run).cast("Q")
    ids = array("Q", run)
    ids.byteswap()
    return ids


def _cached(depth: int, block_tokens: int, prompt_tokens: int) -> int:
    """Tokens of so many blocks that an engine does not compute again: whole blocks, never the last token."""
    return min(depth * block_tokens, max(0, prompt_tokens - 1)) // block_tokens * block_tokens


def _reach(lane: Lane, ids: Sequence[int], hint: int) -> tuple[int, list[tuple[int, int]]]:
    """How many of the blocks the lane holds, or will soon, on the GPU; and by tier how many up to there."""
    sets = [lane.tiers[0]]
    near = depth = _depth(ids, lane.pending, sets, 0, hint)
    far: list[tuple[int, int]] = []
    for tier in range(1, len(lane.tiers)):
        held = lane.tiers[tier]
        if held and depth < len(ids):
            sets.append(held)
            deeper = _depth(ids, lane.pending, sets, depth, depth)
            if deeper > depth:
                far.append((tier, deeper))
                depth = deeper
    return near, far


def _depth(ids: Sequence[int], pending: dict[int, int], sets: list[set[int]], least: int, hint: int) -> int:
    """How many of the first ids are held somewhere; at least `least` are. `hint` is tried first: a common
    system prompt ends at one depth on all who hold it."""
    low, high = least, len(ids)
    if low >= high or not _holds(ids[low], pending, sets):
        return low
    low += 1
    if low < hint <= high:
        if _holds(ids[hint - 1], pending, sets):
            low = hint
            if hint < high and not _holds(ids[hint], pending, sets):
                return hint
        else:
            high = hint - 1
    while low < high:
        middle = (low + high) // 2
        if _holds(ids[middle], pending, sets):
            low = middle + 1
        else:
            high = middle
    return low


def _holds(one: int, pending: dict[int, int], sets: list[set[int]]) -> bool:
    if one in pending:
        return True
    for held in sets:  # noqa: SIM110 - compiled, a generator costs several times as much
        if one in held:
            return True
    return False
