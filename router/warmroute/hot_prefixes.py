"""Which prefixes save the most work: the biggest branches of what clients send, by prompt tokens that were
believed cached when their requests were routed.

A prefix is named by the id of its last block, at four lengths (`_LENGTHS_BLOCKS`), so the longer ones are
branches of the shorter ones and their tokens are counted in both. What is counted is halved every ten
minutes. The table is bounded: when it is full, the half that saved least is forgotten.
"""

from __future__ import annotations

from heapq import nlargest
from typing import Final

from warmroute_policies.types import Decision, RoutingRequest

# A system prompt's beginning (512 bytes), a system prompt or a short conversation (8 KiB), and contexts of 32
# and 128 KiB. Two requests that share the longest share 32k tokens.
_LENGTHS_BLOCKS: Final = (1, 16, 64, 256)

_PREFIXES_MAX: Final = 1024

_HALF_LIFE_S: Final = 600.0

# To age a full table takes 0.1 ms.
_AGED_EVERY_S: Final = 10.0

# One request in four is counted, four times: the ids of its blocks cost up to 2 µs.
_SAMPLE: Final = 4

# The fractional part of the golden ratio in 32 bits: its multiples fall evenly, so that no rhythm of the
# traffic (two models in turn) decides what is seen. With 64 bits every product would be an object.
_GOLDEN: Final = 0x9E3779B9
_WORD: Final = (1 << 32) - 1
_SAMPLED_BELOW: Final = (1 << 32) // _SAMPLE


def is_sampled(number: int) -> bool:
    """Whether the request of that number is one of those that are counted."""
    return (number * _GOLDEN & _WORD) < _SAMPLED_BELOW


class HotPrefix:
    """One prefix. State: its counts, as of `seen_at`."""

    __slots__ = ("model", "parent", "prefix", "requests", "saved_tokens", "seen_at")

    def __init__(self, prefix: int, parent: int | None, model: str) -> None:
        self.prefix = prefix
        self.parent = parent
        """The next shorter one of the four lengths."""
        self.model = model
        self.requests = 0.0
        self.saved_tokens = 0.0
        self.seen_at = 0.0


class HotPrefixes:
    """State: prefixes by id, and when their counts were last halved in part."""

    def __init__(self) -> None:
        self._prefixes: dict[int, HotPrefix] = {}
        self._aged_at: float | None = None
        self.saved_tokens = 0.0
        """Of all requests, by the same measure."""

    def saw(self, request: RoutingRequest, decision: Decision, now: float) -> None:
        """Writes. A sampled request that hits was routed."""
        blocks, hit_tokens = request.blocks, decision.predicted_hit_tokens
        hit_blocks = -(-hit_tokens * blocks.count // max(1, decision.prompt_tokens))
        saved = float(hit_tokens * _SAMPLE)
        self.saved_tokens += saved
        parent: int | None = None
        for length in _LENGTHS_BLOCKS:
            if length > hit_blocks or length > blocks.count:
                break
            prefix = blocks.id_at(length - 1)
            found = self._prefixes.get(prefix)
            if found is None:
                if len(self._prefixes) >= _PREFIXES_MAX:
                    self._forget_least()
                found = self._prefixes[prefix] = HotPrefix(prefix, parent, request.model)
            found.requests += _SAMPLE
            found.saved_tokens += saved
            found.seen_at = now
            parent = prefix

    def top(self, limit: int) -> list[HotPrefix]:
        """Reads. Those that saved most, the first one most."""
        return nlargest(limit, self._prefixes.values(), key=_saved)

    def age(self, now: float) -> None:
        """Writes. To be called about once a second; does its work every `_AGED_EVERY_S`."""
        if self._aged_at is None:
            self._aged_at = now
        if now - self._aged_at < _AGED_EVERY_S:
            return
        kept: float = 0.5 ** ((now - self._aged_at) / _HALF_LIFE_S)
        self._aged_at = now
        self.saved_tokens *= kept
        for prefix in self._prefixes.values():
            prefix.saved_tokens *= kept
            prefix.requests *= kept

    def _forget_least(self) -> None:
        best = nlargest(_PREFIXES_MAX // 2, self._prefixes.values(), key=_saved)
        self._prefixes = {prefix.prefix: prefix for prefix in best}


def _saved(prefix: HotPrefix) -> float:
    return prefix.saved_tokens
