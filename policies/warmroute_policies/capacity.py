"""How much each worker's KV cache is believed to hold, corrected by what engines report.

An LRU cache of capacity C holds a block exactly if fewer than C others were used since the block's last
use. An answer that says how many prompt tokens were cached therefore brackets C, and the belief follows:

- More cached than believed, and the first block beyond the belief is one that the index evicted: the
  engine keeps what was given up, so C ×= 1.08. Without that evidence the surplus is rounding, or an
  answer's own KV, and teaches nothing: growth on any surplus drifts upwards without end.
- Less cached than believed: the first missing block lies D blocks deep in the order of use, so C < D.
  The belief falls towards D, by at most a tenth for one answer. The index gives up what continued
  there; the prompt itself was computed by this very request, and is held now. An engine that is busy
  has less room for idle prefixes: where others were waiting, only a D far below the belief teaches this.
- Less cached than believed although the missing block was used just now, as no cache of that size can
  forget: the answer is no measure of the capacity.
- Answer after answer that lacks most of what was believed: the worker restarted with an empty cache. How
  many that takes depends on how many lacked it before: in a row of k, by chance, p^k.

The steps are unequal because the damage is: a belief of a quarter of the truth forgets warm workers,
and costs 18 points of hit rate; one of four times the truth costs about one.

Rules kept: None (the engine does not report) is no lesson, 0 is one. Capacity is kept in tokens, since
blocks of bytes hold more or fewer of them as the traffic changes.
"""

from __future__ import annotations

import enum
from math import inf
from typing import Final

from warmroute_policies.blocks import PromptBlocks
from warmroute_policies.index import Insertion, PrefixIndex
from warmroute_policies.values import Record

# A surplus or shortfall up to this is rounding: to engine pages, to blocks of bytes, and of the ratio
# between the two, which is the model's average and not this prompt's.
TOLERANCE_BLOCKS: Final = 2
TOLERANCE_SHARE: Final = 0.1

GROWTH: Final = 1.08

# One answer cuts to no less than this share. A miss may have other causes (a page that was not full, a
# prompt that was still being computed), and growth undoes one such cut in two steps.
CUT_FLOOR: Final = 0.9

# A block that was used within the last eighth of the capacity is not missing for lack of room, even when
# the belief is several times too large.
RECENT_SHARE: Final = 1 / 8

# A busy engine has less room for idle prefixes, but hardly less than a third of its cache: what is missing
# although less was used since says that the belief is too large, whoever waits.
BUSY_SHARE: Final = 1 / 3

# A row of misses, no hit between, that is less likely than this by chance means a restart: three where
# predictions hold. One may be a race between two requests of one prefix, two happen when three come together;
# a false alarm forgets a whole cache.
RESTART_CHANCE: Final = 1e-3

# Share of predictions that failed, a running mean over some 50 answers: where it begins, and its least. One
# in twenty fails when the belief is right and caches are full.
FAILING: Final = 0.05
FAILING_STEP: Final = 0.02

# Shorter predictions prove nothing about a restart: a short system prompt is cached again at once.
RESTART_LEAST_BLOCKS: Final = 4


class Lesson(enum.StrEnum):
    """What one answer taught."""

    NOTHING = "nothing"
    """The engine does not report, or was cached about as predicted."""
    GREW = "grew"
    CUT = "cut"
    LOST = "lost"
    """A recent block was missing: what continued it is forgotten, the capacity stays."""
    RESTARTED = "restarted"
    """The cache had been emptied: the whole belief is forgotten, the capacity is what it was before."""


class _Belief(Record, gc=False):
    tokens: float = inf
    failing: float = FAILING
    """Share of the predictions that failed."""
    misses: int = 0
    """In a row."""
    tokens_before: float = inf
    """Before the first of these."""
    since: float = -inf
    """When the first of these was dispatched."""


class CapacityBelief:
    """State: by slot, the believed capacity in tokens and how many predictions failed in a row.

    It tells the index what follows: capacities, what to forget, and which slot to drop.
    """

    def __init__(self, index: PrefixIndex) -> None:
        self._index = index
        self._beliefs: dict[int, _Belief] = {}

    def tokens(self, slot: int) -> float:
        """Reads. The believed capacity; `inf` while nothing is known."""
        belief = self._beliefs.get(slot)
        return inf if belief is None else belief.tokens

    def declare(self, slot: int, tokens: float | None, tokens_per_block: float) -> None:
        """Writes. What the engine or an operator says that the cache holds; None: unknown."""
        belief = self._beliefs[slot] = _Belief(inf if tokens is None else tokens)
        self._index.set_capacity(slot, belief.tokens / tokens_per_block)

    def measure(self, slot: int, tokens_per_block: float) -> None:
        """Writes. Tells the index the belief in blocks, whose length in tokens changes with the traffic."""
        belief = self._beliefs.get(slot)
        if belief is not None and belief.tokens < inf:
            self._index.set_capacity(slot, belief.tokens / tokens_per_block)

    def restarted(self, slot: int) -> None:
        """Writes. The worker is known to have restarted: misses so far are explained, the capacity stays."""
        belief = self._beliefs.get(slot)
        if belief is not None and belief.misses:
            belief.misses = 0
            belief.tokens = belief.tokens_before

    def drop_slot(self, slot: int) -> None:
        """Writes. The worker is gone; the next one in this slot is another."""
        self._beliefs.pop(slot, None)

    def learn(
        self,
        slot: int,
        blocks: PromptBlocks,
        insertion: Insertion,
        cached_tokens: int | None,
        tokens_per_block: float,
        settled: bool = True,
        dispatched_at: float = 0.0,
    ) -> Lesson:
        """Writes. One answer: what was inserted at dispatch, and how many tokens of it were cached.

        `tokens_per_block` is best this prompt's own: its tokens over its blocks. `settled` is false when
        prefills were waiting on the slot at dispatch. Then a miss says little of the capacity: what they
        compute may have been predicted and was not cached yet, and what runs and what waits had taken some
        of the room of idle prefixes. What was missing is forgotten all the same. Answers end in
        another order than they were dispatched in: a hit from before the first of several misses does not
        speak against a restart.
        """
        if cached_tokens is None or not insertion.count:
            return Lesson.NOTHING
        held = insertion.held
        actual = int(min(cached_tokens / tokens_per_block, insertion.count))
        tolerance = max(TOLERANCE_BLOCKS, TOLERANCE_SHARE * held)
        belief = self._beliefs.get(slot) or self._beliefs.setdefault(slot, _Belief())
        if actual < held - tolerance:
            distance = self._index.stack_distance(slot, insertion, actual)
            if distance is None:
                return Lesson.NOTHING
            # Room that was never filled was never believed in.
            believed = min(belief.tokens / tokens_per_block, self._index.resident(slot))
            recent = distance <= RECENT_SHARE * believed  # also when nothing is held any more
            if not settled and (recent or distance > BUSY_SHARE * believed):
                if not recent:
                    self._index.forget_branches(slot, blocks, actual)
                return Lesson.NOTHING
            lost_most = held >= RESTART_LEAST_BLOCKS and actual < held / 2
            if settled and lost_most and _failed(belief, dispatched_at):
                belief.tokens = belief.tokens_before
                self._index.set_capacity(slot, belief.tokens / tokens_per_block)
                self._index.drop_slot(slot)
                return Lesson.RESTARTED
            if recent:
                lesson = Lesson.LOST
            else:
                lesson = Lesson.CUT
                believed = max(distance, CUT_FLOOR * believed)
                belief.tokens = min(belief.tokens, believed * tokens_per_block)
            self._index.forget_branches(slot, blocks, actual)
        else:
            if held >= RESTART_LEAST_BLOCKS:
                belief.failing -= FAILING_STEP * (belief.failing - FAILING)
                if dispatched_at >= belief.since:
                    belief.misses = 0
            if actual <= held + tolerance or not self._index.was_evicted(slot, blocks.id_at(held)):
                return Lesson.NOTHING
            lesson = Lesson.GREW
            belief.tokens *= GROWTH
        self._index.set_capacity(slot, belief.tokens / tokens_per_block)
        return lesson


def _failed(belief: _Belief, dispatched_at: float) -> bool:
    """Writes. One more prediction failed; whether so many in a row are no chance."""
    if not belief.misses:
        belief.since = dispatched_at
        belief.tokens_before = belief.tokens
    belief.misses += 1
    if belief.failing**belief.misses < RESTART_CHANCE:
        belief.misses = 0
        belief.failing = FAILING
        return True
    belief.failing += FAILING_STEP * (1 - belief.failing)
    return False
