"""Damaging bytes: the small changes that parsers stumble over."""

from __future__ import annotations

import random

# What framing is made of, numbers at the edges of types, and bytes that are none of ASCII.
TOKENS = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b" ", b"\t", b"\0", b":", b";", b",", b"0\r\n\r\n",
    b"%00", b"..",
    b"content-length: 5\r\n", b"content-length: +5\r\n", b"transfer-encoding: chunked\r\n", b"HTTP/1.1",
    b"HTTP/1.0",
    b"transfer-encoding: identity\r\n", b"connection: close\r\n", b"expect: 100-continue\r\n", b"host: y\r\n",
    b"upgrade: h2c\r\nconnection: upgrade\r\n", b"-1", b"0", b"00", b"1e999", b"9" * 20, b"9" * 400,
    b"ffffffff",
    b"NaN", b"null", b"{}", b"[]", b'"', b"\\", b"\\u0000", b"\\ud800", b"{" * 2000, b"[" * 2000, b"\xff",
    b"\xfe",
    b"\xc3\x28", b"\xf0\x9f\x98\x80", b"\xef\xbb\xbf", b"POST ", b"GET ", b"x" * 1100, b"x" * 70_000,
)  # fmt: skip


def mutate(chance: random.Random, data: bytes) -> bytes:
    """The bytes with one to four changes."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        data = _change(chance, data)
    return data


def _change(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    end = min(len(data), at + chance.choice((1, 1, 2, 4, 16, 200)))
    match chance.randrange(8):
        case 0:
            return data[:at] + data[end:]
        case 1:
            return data[:at] + chance.choice(TOKENS) + data[at:]
        case 2:
            return data[:at] + chance.choice(TOKENS) + data[end:]
        case 3:
            return data[:at] + data[at:end] + data[at:]
        case 4:
            return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        case 5:
            return data[:at]
        case 6:  # a line goes elsewhere
            lines = data.split(b"\r\n")
            lines.insert(chance.randrange(len(lines) + 1), lines.pop(chance.randrange(len(lines))))
            return b"\r\n".join(lines)
        case _:  # letters of the other case
            return data[:at] + data[at:end].swapcase() + data[end:]


def pieces(chance: random.Random, data: bytes, most: int = 8) -> list[bytes]:
    """The same bytes, cut anywhere: whole, in a few pieces, or the first 300 of them one by one."""
    if chance.random() < 0.1:
        return [*(data[at : at + 1] for at in range(min(300, len(data)))), data[300:]]
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(most)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
