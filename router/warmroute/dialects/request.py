"""What routing needs to know of a request, and the helpers that every dialect shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

EMPTY = msgspec.Raw(b"")

Buffer = bytes | memoryview
"""A body, or a part of one. A large body is a view of what the socket gave: 128 KB are not copied."""


# Longer than any model's name, short enough for a metric's label and an error message that lists some.
MODEL_CHARS_MAX: Final = 256

# A session's name that is longer than this is not a name. Clients make them up, and many are remembered.
SESSION_CHARS_MAX: Final = 256


# What decoding raises: text that is not UTF-8 and nesting without end have errors of their own.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class BadRequest(Exception):
    """The body is not a JSON object, or names no model that there could be; the message says where or why."""


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
    kept: str = ""
    """What the request goes on from or uses and one worker keeps (`owners`); empty: nothing."""

    @property
    def prompt_bytes(self) -> int:
        """Length of the prompt as far as it is here."""
        return len(self.material)


Parser = Callable[[Buffer], ParsedRequest]
"""A dialect. Raises BadRequest."""

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


def model_of(value: Any) -> str:
    """The model's name; empty where it is missing or something else. Raises BadRequest for an endless one."""
    name = text(value)
    if len(name) > MODEL_CHARS_MAX:
        raise BadRequest(f"the model's name is longer than {MODEL_CHARS_MAX} characters")
    return name


def session_of(*values: Any) -> str | None:
    """The first of the values that names a session."""
    for value in values:
        name = text(value)
        if name and len(name) <= SESSION_CHARS_MAX:
            return name
    return None


def number(value: Any) -> int | None:
    """A count's value; None where it is missing or something else."""
    return value if type(value) is int else None


def material(*parts: msgspec.Raw | Buffer) -> Buffer:
    """The parts that are present, in order, as one piece; a single part is not copied."""
    present = [part for part in parts if part is not EMPTY]
    return memoryview(present[0]) if len(present) == 1 else b"".join(present)
