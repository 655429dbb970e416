"""How many tokens a prompt has, and a block of it, where only the request is at hand.

A policy is told of a dispatch without a view, and its own books must agree with its decision. Hence both
measure here: exactly where the driver has counted or the blocks are of tokens, else

    n = bytes / 4,     block = 512 bytes · n / bytes

Four bytes a token is what routers without a tokenizer take: llm-d-router ebab687 (`token-producer`, backend
`estimate`), smg 1.13.0 (`prefix_hash`).
"""

from __future__ import annotations

from typing import Final

from warmroute_policies.blocks import BLOCK_BYTES, unpack_ids
from warmroute_policies.types import RoutingRequest

BYTES_PER_TOKEN: Final = 4


def prompt_tokens(request: RoutingRequest) -> int:
    """Reads. Tokens of the whole prompt; 0 for a request that has none."""
    if request.prompt_tokens is not None:
        return request.prompt_tokens
    blocks = request.blocks
    if blocks.tokens_per_block is not None:
        return int(blocks.count * blocks.tokens_per_block)
    return blocks.bytes_len // BYTES_PER_TOKEN


def block_tokens(request: RoutingRequest) -> float:
    """Reads. Tokens of one of the prompt's blocks; above 0."""
    blocks = request.blocks
    if blocks.tokens_per_block is not None:
        return blocks.tokens_per_block
    if request.prompt_tokens and blocks.bytes_len:
        return request.prompt_tokens * BLOCK_BYTES / blocks.bytes_len
    return BLOCK_BYTES / BYTES_PER_TOKEN


def block_ids(request: RoutingRequest, limit: int) -> tuple[int, ...]:
    """Reads. The ids of the prompt's whole blocks, `limit` of them at most."""
    blocks = request.blocks
    return unpack_ids(blocks.ids(0, min(blocks.count, limit)))
