"""A KV cache in which every request hits what it was measured to hit.

For measurements that tell how many tokens were cached and not which. The hit is taken as given; its blocks
are the request's own while it runs, apart from a head that other running requests hold as well.

A prompt is told as two numbers: how many of its blocks were cached, and how many of these are such a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from warmroute_simulator.engine.cache import KVCache, Lease


@final
class KnownHits(KVCache):
    """Blocks are free or somebody's own; nothing is kept, and nothing is evicted."""

    def match(self, prompt: Sequence[int], limit: int) -> int:
        return min(prompt[0], limit) if prompt else 0

    def fits(self, prompt: Sequence[int], hit_blocks: int, new_blocks: int) -> bool:
        return hit_blocks - _head(prompt) + new_blocks <= self.free

    def known(self, prompt: Sequence[int]) -> int:
        return 0

    def lost(self, prompt: Sequence[int], hit_blocks: int, limit: int) -> int:
        return 0

    def acquire(self, prompt: Sequence[int], hit_blocks: int) -> Lease:
        own = hit_blocks - _head(prompt)
        self.free -= own
        self.private += own
        return Lease(prompt)

    def grow(self, lease: Lease, before_tokens: int, after_tokens: int, block_tokens: int) -> bool:
        wanted = -(-after_tokens // block_tokens) + (-before_tokens // block_tokens)
        if wanted > self.free:
            return False
        self.free -= wanted
        self.private += wanted
        return True

    def release(self, lease: Lease, held_tokens: int, block_tokens: int) -> None:
        blocks = -(-held_tokens // block_tokens) - _head(lease.prompt)
        self.free += blocks
        self.private -= blocks

    def clear(self) -> None:
        """Nothing is kept."""


def _head(prompt: Sequence[int]) -> int:
    return prompt[1] if prompt else 0
