"""Engines keep the KV of what they answered: a prompt that goes on where an answered one ended finds the
answer in the cache of the worker that wrote it.

An answered prompt is remembered by the id of its last whole block. A later prompt continues it when the
index knows exactly up to that block, and the bytes behind the block are the former prompt's bytes too.
Whether the worker still holds it is the index's to say.
"""

from __future__ import annotations

from collections import OrderedDict

from warmroute_policies.blocks import PromptEnd
from warmroute_policies.values import Frozen


class Answered(Frozen, frozen=True, gc=False):
    """A prompt that a worker answered."""

    slot: int
    end: PromptEnd
    total_tokens: int
    """Prompt and answer: what the worker's cache holds of the conversation."""


class Answers:
    """State: answered prompts by the id of their last whole block, the latest at the end; bounded."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._answered: OrderedDict[int, Answered] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answered)

    def get(self, block_id: int) -> Answered | None:
        """Reads."""
        return self._answered.get(block_id)

    def items(self) -> list[tuple[int, Answered]]:
        """Reads. All of them, the oldest first."""
        return list(self._answered.items())

    def add(self, block_id: int, answered: Answered) -> None:
        """Writes."""
        known = self._answered
        known[block_id] = answered
        known.move_to_end(block_id)
        if len(known) > self._limit:
            known.popitem(last=False)

    def drop_slot(self, slot: int) -> None:
        """Writes. The slot's cache is another from now on, which holds none of its answers."""
        for block_id in [block_id for block_id, answered in self._answered.items() if answered.slot == slot]:
            del self._answered[block_id]
