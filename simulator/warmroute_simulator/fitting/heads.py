"""How much of a measured hit was other requests' too, where only its length is known.

A running request holds its hit in the KV cache. What conversations have in common, a system prompt, is held
once however many run; a conversation's own past is held by it alone. To tell them apart by lengths:

    goes on    the hit ends where an earlier request of the same worker ended, to the block: its conversation
               goes on, and has the head in common with others that the earlier request had
    begins     otherwise; the hit is a common head if others that begin have the same, else its own past

Two conversations of equal length may be taken for each other, which does no harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from warmroute_simulator.fitting.measured import MeasuredRequest

SHARED_BY: Final = 3
"""Conversations that begin with hits of one length have a head in common."""


def common_heads(requests: Sequence[MeasuredRequest], block_tokens: int) -> list[int]:
    """By request, in blocks: the part of its hit that others hold as well."""
    begun: dict[tuple[str, int], int] = {}
    """By worker and length in blocks, the request whose conversation was that long."""
    first: list[int] = []
    for row, request in enumerate(requests):
        hit = (request.cached_tokens or 0) // block_tokens
        first.append(begun.get((request.worker, hit), row) if hit else row)
        # The last token of an answer was never computed, so it is in no block.
        end = (request.prompt_tokens + request.output_tokens - 1) // block_tokens
        begun[request.worker, end] = first[row]
    hits = [(request.cached_tokens or 0) // block_tokens for request in requests]
    alike = Counter(hits[row] for row in range(len(requests)) if first[row] == row)
    heads = [hits[row] if alike[hits[row]] >= SHARED_BY else 0 for row in range(len(requests))]
    return [min(heads[begin], hits[row]) for row, begin in enumerate(first)]
