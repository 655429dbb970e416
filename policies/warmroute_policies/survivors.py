"""What the index gave up may be in the engine's cache all the same.

A believed capacity is a guess, and what an eviction loses in the index is often still there: all of it where
the capacity is believed too small, some of it always. So a prompt whose next blocks were evicted lately
(`ghosts`) is credited with its expected hit on the workers that lost them:

    tokens = held + p · (lost − held)         p: share of such prompts that found what was lost

A belief that is too small costs little then, and prompts go where they prove it wrong. p is one for the
fleet, a running mean over the prompts that were sent to a worker for such a hit. Where beliefs are right it
is near 0, and the credit less than a page of the engine.

Only workers that hold all that anybody holds of the prompt are credited: one that lost more than the run in
question is a worse guess.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

from warmroute_policies.hits import SURVIVED, Hits

# As good as nothing known.
_FIRST_GUESS: Final = 0.5

# Of the running mean: 20 prompts.
_STEP: Final = 0.05


@final
class Survivors:
    """State: the share of prompts that found what the index had evicted."""

    def __init__(self) -> None:
        self.share = _FIRST_GUESS

    def credit(self, hits: Hits, depth: int, slots: Iterable[int], held: int, lost: int, page: int) -> Hits:
        """Reads. The hits with what is expected of those slots that hold `depth` blocks, `held` tokens, and
        lost what follows up to `lost` tokens; whole pages."""
        tokens = held + int(self.share * (lost - held))
        tokens -= tokens % page
        if tokens <= held:
            return hits
        depths = hits.depths
        credited = [slot for slot in slots if depths.get(slot, 0) == depth]
        return hits.expected(credited, tokens) if credited else hits

    def learn(self, survived: bool) -> None:
        """Writes. Whether a prompt that was credited found most of what was lost."""
        self.share += _STEP * (survived - self.share)


def expected_there(hits: Hits, slot: int) -> bool:
    """Reads. Whether what the slot holds of the prompt is a guess of this kind."""
    return hits.depths.get(slot) == SURVIVED
