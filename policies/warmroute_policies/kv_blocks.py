"""A prompt's exact identity: a chain of 64-bit ids over its token ids, one per block of an engine's cache.

Where an engine tells what its cache holds (KV events), a prompt is looked up by what the engine goes by:
whole blocks of token ids. The ids are this router's own and not the engines' hashes. Those are computed in
four ways, some with a seed that nobody tells, and differ from engine to engine; what every event tells are
the token ids and the block before.

    id_k = xxh3_64(tokens of block k as 4 little-endian bytes each, seed = id_{k-1}),  id_{-1} = root

Rules kept: an id stands for its block and for all before it; whole blocks only; runs of ids are `bytes`, 8
little-endian bytes each, as in `blocks`.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from struct import pack
from typing import Final

from xxhash import xxh3_64_intdigest

from warmroute_policies.blocks import pack_ids, salt_of

TOKEN_BYTES: Final = 4


def root_of(lora: str | None = None, cache_salt: str | None = None) -> int:
    """The seed of a chain: prompts of different adapters or tenants share no block.

    The model is no part of it, unlike in `salt_of`: an engine does not tell it, and has one base model.
    """
    return salt_of("", lora or None, cache_salt or None)


def pack_tokens(tokens: Sequence[int]) -> bytes:
    """Token ids as 4 little-endian bytes each. Raises OverflowError for one outside 0 to 2**32 - 1."""
    numbers = array("I", tokens)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def chain(parent: int, tokens: bytes, block_tokens: int) -> bytes:
    """The run of ids of the whole blocks of `tokens` (as `pack_tokens` gives them), which go on from the
    block or root `parent`. A rest shorter than a block has no id."""
    size = block_tokens * TOKEN_BYTES
    ids: list[int] = []
    at, end = 0, len(tokens) // size * size
    while at < end:
        parent = xxh3_64_intdigest(tokens[at : at + size], parent)
        ids.append(parent)
        at += size
    return pack_ids(ids)


def chain_one(parent: int, tokens: bytes, extra: bytes) -> int:
    """The id of one block whose identity is more than its tokens (an image's hash, an embedding's). No plain
    block has the same."""
    return xxh3_64_intdigest(pack("<Q", xxh3_64_intdigest(tokens, parent)) + extra, parent)
