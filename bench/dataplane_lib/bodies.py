"""Chat requests of a given size. Every request ends in a number of its own, so none is seen twice."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from random import Random

SHARED = 0.4
"""Share of a prompt that all variants of a size have in common, as a system prompt would be."""

VARIANTS = 8
API_KEY = "bench-key"

_HEAD = (
    "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
    f"authorization: Bearer {API_KEY}\r\ncontent-length: %d\r\n\r\n"
)


class Requests:
    """Whole requests, head and body. State: the count that makes each of them new."""

    def __init__(self, kilobytes: int, stream: str = "", seed: int = 0) -> None:
        """`stream`: "CHUNKS/GAP_MS" asks the fake worker for such a stream."""
        chance = Random(seed)
        size = kilobytes * 1024 - 240  # what is around the text
        shared = _text(int(size * SHARED), chance)
        texts = [shared + _text(max(1, size - len(shared)), chance) for _ in range(VARIANTS)]
        self._variants = itertools.cycle(_split(shared, text, stream) for text in texts)
        self._numbers: Iterator[int] = itertools.count(10**11)

    def next(self) -> bytes:
        """Writes. The next request."""
        before, after = next(self._variants)
        return b"%b%d%b" % (before, next(self._numbers), after)


def _split(shared: str, text: str, stream: str) -> tuple[bytes, bytes]:
    """A request around the place where its number goes."""
    mark = "0" * 12
    own = text[len(shared) :]
    body = json.dumps(
        {
            "model": "m",
            "metadata": {"bench": stream},
            "stream": bool(stream),
            "max_tokens": 64,
            "messages": [
                {"role": "system", "content": shared},
                {"role": "user", "content": f"{own} {mark}"},
            ],
        },
        separators=(",", ":"),
    ).encode()
    before, after = body.split(mark.encode())
    return (_HEAD % len(body)).encode() + before, after


def _text(size: int, chance: Random) -> str:
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(500)]
    pieces = chance.choices(words, k=size // 4 + 1)
    return " ".join(pieces)[:size]
