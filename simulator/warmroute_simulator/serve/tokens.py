"""Text as tokens without a tokenizer.

A token is 4 bytes of UTF-8, read as a little-endian integer: equal prefixes of text are equal prefixes of
tokens, and a prompt of 500 KB costs one `encode`. A message is padded to whole tokens with zero bytes, so
that what follows a message does not depend on its length modulo 4. A simulated model answers in words of
exactly 4 bytes: when a client sends the answer back in its next turn, it becomes the same tokens again and
hits the blocks that the answer filled.
"""

from __future__ import annotations

import random
import sys
from array import array

from warmroute_simulator.engine.blocks import TOKEN_BYTES as TOKEN_BYTES
from warmroute_simulator.engine.blocks import block_keys

MAX_TOKEN_ID = 2**32 - 1

# 64 words of three letters and a space. Any 4-byte ASCII text works; letters need no escape in JSON.
_WORDS = tuple(
    f"{a}{b}{c} "
    for a, b, c in zip("bdfgklmnprstvzhj" * 4, "aeio" * 16, "nrltsmdkbnrltsmdk" * 4, strict=False)
)
WORDS: tuple[bytes, ...] = tuple(_WORDS[index % len(_WORDS)].encode() for index in range(256))
"""The word for each value of a random byte."""
_STRETCH = 64
"""Random bytes are drawn in equal stretches, so that a shorter answer is the start of a longer one."""


class TokenBlocks(list[int]):
    """The keys of all whole blocks of a prompt and its answer, and their tokens. Not to be written."""

    def __init__(self, tokens: bytes, block_tokens: int, salt: str = "") -> None:
        super().__init__(block_keys(tokens, block_tokens, salt=salt))
        self.tokens, self.block_tokens, self.salt = tokens, block_tokens, salt

    def ids(self, first: int, last: int) -> list[int]:
        """Reads. The token ids of these blocks."""
        size = self.block_tokens * TOKEN_BYTES
        return to_ids(self.tokens[first * size : last * size])


def pad(text: bytes) -> bytes:
    """Zero bytes up to whole tokens."""
    return text + b"\0" * (-len(text) % TOKEN_BYTES)


def from_ids(ids: list[int]) -> bytes:
    """Token ids as token bytes. Raises OverflowError or TypeError for what is no 32-bit id."""
    tokens = array("I", ids)
    if sys.byteorder == "big":
        tokens.byteswap()
    return tokens.tobytes()


def to_ids(tokens: bytes) -> list[int]:
    ids = array("I", tokens)
    if sys.byteorder == "big":
        ids.byteswap()
    return ids.tolist()


def to_text(tokens: bytes) -> str:
    return tokens.replace(b"\0", b"").decode("utf-8", "replace")


def answer_words(seed: int, count: int) -> list[bytes]:
    """The first `count` words of the answer that belongs to a seed."""
    chance = random.Random(seed)
    stretches = -(-count // _STRETCH)
    return [WORDS[value] for _ in range(stretches) for value in chance.randbytes(_STRETCH)][:count]


def natural_length(seed: int) -> int:
    """How long an answer is when the client sets no limit: 32 to 256 tokens, by seed.

    The span covers the usual answers of chats and agents (medians of 129 to 350 tokens in public traces)
    at its lower end, so that an unlimited request does not dominate a test.
    """
    return random.Random(seed ^ 0x5EED).randint(32, 256)
