"""How long a prompt is when only its request is at hand, as it is when a rule is told of a dispatch.

    n = the driver's exact count, else blocks × tokens per block, else bytes / 4

Source of the 4: routers without a tokenizer take it for the bytes of a token, smg's `prefix_hash` among
them. The view of a decision has a better number, learned from answers; it is not in the events.
"""

from __future__ import annotations

from warmroute_policies.types import RoutingRequest

_BYTES_PER_TOKEN = 4


def prompt_tokens(request: RoutingRequest) -> int:
    """Reads. The prompt's length in tokens, exact or estimated."""
    if request.prompt_tokens is not None:
        return request.prompt_tokens
    blocks = request.blocks
    if blocks.tokens_per_block is not None:
        return int(blocks.count * blocks.tokens_per_block)
    return blocks.bytes_len // _BYTES_PER_TOKEN
