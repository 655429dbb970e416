"""What each worker is believed to hold of one prompt, in tokens.

A common system prompt makes holders of a whole fleet, nearly all at one depth. So the mapping keeps
depths and says once per depth how many tokens that is; 64 holders cost what the index's answer costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

# The depth of a slot whose tokens are known better than by blocks: it wrote the answer that the prompt
# goes on from.
CREDITED: Final = -1

# The depth of slots whose tokens are an expectation: they may hold what the index gave up (`survivors`).
SURVIVED: Final = -2

# From here down, less the tokens themselves: the depths of slots whose engines tell what they hold (`known`).
EXACT: Final = -3


class Hits(Mapping[int, int]):
    """Slot to predicted hit tokens; slots that hold nothing of the prompt are missing. Not to be written."""

    __slots__ = ("best", "depths", "promised", "tokens_at")

    def __init__(
        self, depths: dict[int, int], tokens_at: dict[int, int], promised: dict[int, int] | None = None
    ) -> None:
        self.depths = depths
        """Slot to depth; a depth is a number of blocks, or `CREDITED`, or `SURVIVED`, or `EXACT` or below."""
        self.tokens_at = tokens_at
        """Depth to tokens, for every depth that occurs."""
        self.best = max(tokens_at.values()) if tokens_at else 0
        """The largest hit; 0 when nobody holds anything."""
        self.promised = promised
        """Slot to the tokens that the engine will report as cached, where that is more than they are worth:
        some must be loaded from a farther tier first."""

    @classmethod
    def of(cls, tokens: Mapping[int, int]) -> Hits:
        """Hits as they are, for tests and rehearsals."""
        return cls(dict(tokens), {count: count for count in tokens.values()})

    def tokens(self, slot: Any) -> int:
        """Reads. The slot's hit; 0 when it holds nothing. A slot may be any integer, numpy's too."""
        depth = self.depths.get(slot)
        return 0 if depth is None else self.tokens_at[depth]

    def cached(self, slot: int) -> int:
        """Reads. What the engine in the slot will report as cached."""
        promised = self.promised
        return self.tokens(slot) if not promised else promised.get(slot, self.tokens(slot))

    def __getitem__(self, slot: Any) -> int:
        return self.tokens_at[self.depths[slot]]

    def __iter__(self) -> Iterator[int]:
        return iter(self.depths)

    def __len__(self) -> int:
        return len(self.depths)

    def credited(self, slot: int, tokens: int) -> Hits:
        """Reads. The same hits, with one slot's known exactly."""
        return Hits({**self.depths, slot: CREDITED}, {**self.tokens_at, CREDITED: tokens})

    def expected(self, slots: Iterable[int], tokens: int) -> Hits:
        """Reads. The same hits, with so many tokens expected on each of these slots."""
        depths = {**self.depths, **dict.fromkeys(slots, SURVIVED)}
        used = set(depths.values())
        tokens_at = {depth: count for depth, count in self.tokens_at.items() if depth in used}
        return Hits(depths, {**tokens_at, SURVIVED: tokens})


NO_HITS: Final = Hits({}, {})
