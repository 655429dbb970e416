"""What routing needs to know of a request, and the helpers that every dialect shares."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

EMPTY = msgspec.Raw(b"")

Buffer = bytes | memoryview
"""A body, or a part of one. A large body is a view of what the socket gave: 128 KB are not copied."""


# What decoding raises: text that is not UTF-8 and nesting without end have errors of their own.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class BadRequest(Exception):
    """The body is not a JSON object; the message says where it stops being one."""


class ParsedRequest(msgspec.Struct, frozen=True, gc=False):
    """One request as the router sees it."""

    model: str = ""
    material: Buffer = b""
    """The prompt in the order in which a chat template lays it out; empty: no prefix to look for."""
    stream: bool = False
    max_tokens: int | None = None
    session: str | None = None
    cache_salt: str = ""
    priority: int = 0
    has_prompt: bool = True
    """False where the endpoint has no prompt that a cache could hold."""


T = TypeVar("T")


def decode(decoder: msgspec.json.Decoder[T], body: Buffer) -> T:
    """Decodes a body. Raises BadRequest."""
    try:
        return decoder.decode(body)
    except UNREADABLE as error:
        raise BadRequest(str(error)) from error


def text(value: Any) -> str:
    """A string field's value; empty where it is missing or something else."""
    return value if type(value) is str else ""


def number(value: Any) -> int | None:
    """A count's value; None where it is missing or something else."""
    return value if type(value) is int else None


def material(*parts: msgspec.Raw | Buffer) -> Buffer:
    """The parts that are present, in order, as one piece; a single part is not copied."""
    present = [part for part in parts if part is not EMPTY]
    return memoryview(present[0]) if len(present) == 1 else b"".join(present)
