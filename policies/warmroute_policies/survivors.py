"""What the index gave up may be in the engine's cache all the same.

A believed capacity is a guess. What the index evicts is often still cached: nearly all of it where the
capacity is believed too small, and a part of it always. So a prompt whose next blocks were evicted lately
(`ghosts`) is credited with its expected hit on the workers that lost them:

    tokens = held + p · (lost − held)         p: share of such prompts that found what was lost

A belief that is too small then costs little: prompts go where they prove it wrong, and it grows. p is one
number for the fleet, a running mean over the prompts that were sent to a worker on such a credit. Where
beliefs are right p falls to its least, and a credit is the fiftieth part of what was lost: it decides between
workers that are equal otherwise.

Rules kept. A credit is whole pages. Only workers that hold all that anybody holds of the prompt are credited:
one that holds less lost more than the run in question, and is a worse guess.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

from warmroute_policies.hits import SURVIVED, Hits

# Nothing is known yet: as likely as not.
_FIRST_GUESS: Final = 0.5

# As little credit still sends long prompts to where they may find that a belief has become too small.
_LEAST: Final = 0.02

# Of the running mean: the last 20 prompts or so decide, which is seconds of a busy fleet.
_STEP: Final = 0.05


@final
class Survivors:
    """State: the share of prompts that found what the index had evicted."""

    def __init__(self) -> None:
        self.share = _FIRST_GUESS

    def credit(self, hits: Hits, depth: int, slots: Iterable[int], held: int, lost: int, page: int) -> Hits:
        """Reads. The hits, with a credit for those of the slots that hold as much as anybody.

        That is `depth` blocks or `held` tokens. `slots` lost what follows, up to `lost` tokens of the prompt.
        """
        tokens = held + int(self.share * (lost - held))
        tokens -= tokens % page
        if tokens <= held:
            return hits
        depths = hits.depths
        credited = [slot for slot in slots if depths.get(slot, 0) == depth]
        return hits.expected(credited, tokens) if credited else hits

    def learn(self, survived: bool) -> None:
        """Writes. Whether a prompt that was sent to a worker on its credit found most of what was lost."""
        self.share = max(_LEAST, self.share + _STEP * (survived - self.share))


def expected_there(hits: Hits, slot: int) -> bool:
    """Reads. Whether the slot's hit is such a credit."""
    return hits.depths.get(slot) == SURVIVED
