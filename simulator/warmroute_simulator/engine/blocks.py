"""Block keys: which KV blocks a token sequence consists of.

A block's key is the hash of its tokens, seeded with the key of the block before it. Equal keys mean equal
tokens from the very start, so a key names a whole prefix, and the presence of a block in a cache implies
that its content depends on nothing else. Tokens are little-endian 32-bit integers in one bytes object:
slices of it are hashed without making a Python integer per token.
"""

from __future__ import annotations

import xxhash

TOKEN_BYTES = 4


def block_keys(tokens: bytes, block_tokens: int, *, salt: str = "") -> list[int]:
    """The keys of all whole blocks of `tokens`, in order. A different salt shares no key."""
    digest = xxhash.xxh3_64_intdigest
    size = block_tokens * TOKEN_BYTES
    key = digest(salt.encode()) if salt else 0
    whole = len(tokens) - len(tokens) % size
    return [key := digest(tokens[start : start + size], key) for start in range(0, whole, size)]
