"""Messages that stand in for those of earlier turns, so that a next turn's own messages can be rendered
alone.

What a template writes for a message mostly depends on nothing before it but a little: whether there is a
system message, which role the message before had, whether the places of roles alternate, whether reasoning
was given since the last question. So earlier messages are remembered as *shapes*, a few words each, and of a
long conversation a few: the first two, the last two, and one of each kind that would be missing then. Pairs
are dropped, so that places stay even or odd.

The last of them is closest to the new ones: a template may write its own fields behind its text (the id of
the call that a result is of). So *letters* stand in for these, to be replaced by what they stand for.

A *mark* stands at the end of the last of them. What a template writes behind the mark, with the new messages
there, is what the new turn adds to the prompt; and what it writes before the mark must be the same with and
without the new messages, else the new turn changes what was there.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from warmroute.tokens.asked import Message

# Longer ids are no ids.
_ID_CHARS_MAX: Final = 128

MARK: Final = f"mark{secrets.token_hex(8)}"
"""Made anew in each process, so that nobody can write it; of plain letters, so that texts stay as narrow as
they are. It is in no token's way, since it is taken out before there are tokens."""

FILLER: Final = f"x{secrets.token_hex(4)}"
"""In every text that stands in for one: what a template writes with it behind the mark is not of the new
messages alone."""

# What stands in for the last message's own fields, by their order: made like the mark where they are long
# enough to be told from all else, else letters that nobody assigned.
_SECRETS: Final = [secrets.token_hex(_ID_CHARS_MAX // 2) for _ in range(6)]
_LETTERS: Final = "\ue8a3\ue8a4\ue8a5\ue8a6\ue8a7\ue8a8"
_SECRET_CHARS_MIN: Final = 8

# As ids and names are.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/ -]+")

# Of the beginning and the end, all are kept. Each costs a twentieth of a millisecond in each turn.
_FIRST: Final = 2
_LAST: Final = 2

# More kinds than this in the middle of a conversation are no agent's loop.
_MIDDLE_MAX: Final = 12

# They differ by place, role, calls, and by what the template looks for.
_STANDINS_KEPT: Final = 4096


class Shape(NamedTuple):
    """What of a message other messages may depend on."""

    role: str
    content: str
    """Nothing, or what stands in for it: with the same of the texts that the template looks for."""
    parts: int
    """Parts of the content; -1: it is a string."""
    calls: tuple[int, ...]
    """For each call the length of its id."""
    fields: tuple[tuple[str, int], ...]
    """Further fields that have a text, with its length where that is an id's."""


def shape_of(message: Message, cues: Sequence[str]) -> Shape | None:
    """The shape of a message as the template gets it; None: nothing may stand in for it."""
    content = message["content"]
    parts = -1
    if not isinstance(content, str):
        parts = len(content)
        if any(len(part) > 2 for part in content):
            return None
        content = content[-1]["text"] if content else ""
        if parts > 1 and cues:
            return None  # a text to look for may stand in any of them
    calls = message.get("tool_calls")
    fields: list[tuple[str, int]] = []
    for name, value in message.items():
        if name not in ("role", "content", "tool_calls"):
            if not isinstance(value, str):
                return None
            if name == "tool_call_id":
                if len(value) > _ID_CHARS_MAX:
                    return None
                fields.append((name, len(value)))
            elif value:
                fields.append((name, 1))
    lengths = tuple([len(call["id"]) for call in calls]) if calls else ()
    if max(lengths, default=0) > _ID_CHARS_MAX:
        return None
    return Shape(message["role"], _likeness(content, cues), parts, lengths, tuple(fields))


def _likeness(content: str, cues: Sequence[str]) -> str:
    """A short text with the same of the cues, in the same places: at its beginning, within, at its end."""
    if not content:
        return ""
    first = within = last = ""
    if not content.strip():
        return " "
    for cue in cues:
        if cue[0] in content and cue in content:  # most texts have no "<": a fifth of the time
            if content.startswith(cue):
                first = max(first, cue, key=len)
            elif content.endswith(cue):
                last = max(last, cue, key=len)
            else:
                within += cue + "x"
    return f"{first}{FILLER}{within}{last}"


def shortened(shapes: tuple[Shape, ...]) -> tuple[Shape, ...] | None:
    """The few of a conversation's shapes that may speak for all; None: they are too many kinds."""
    if len(shapes) <= _FIRST + _LAST:
        return shapes
    kept = list(shapes)
    at = _FIRST
    while at + 1 < len(kept) - _LAST:
        rest = kept[at + 2 :]
        if kept[at] in rest and kept[at + 1] in rest:
            del kept[at : at + 2]
        else:
            at += 2
    return None if len(kept) > _FIRST + _LAST + _MIDDLE_MAX else tuple(kept)


@lru_cache(maxsize=_STANDINS_KEPT)
def _standin(shape: Shape, place: int) -> Message:
    # Messages are seldom the same, and a template may ask whether one is the last.
    content = shape.content.replace(FILLER, f"{FILLER}{place}")
    parts = [{"type": "text", "text": FILLER}] * (shape.parts - 1)
    if shape.parts > 0:
        parts.append({"type": "text", "text": content})
    given: Message = {"role": shape.role, "content": content if shape.parts < 0 else parts}
    if shape.calls:
        given["tool_calls"] = [
            {"id": _id(length), "type": "function", "function": {"name": FILLER, "arguments": {}}}
            for length in shape.calls
        ]
    for name, length in shape.fields:
        given[name] = _id(length) if name == "tool_call_id" else FILLER
    return given


def _id(length: int) -> str:
    return (FILLER * (length // len(FILLER) + 1))[:length]


def standins(shapes: tuple[Shape, ...], blanks: str) -> list[Message]:
    """Reads. Messages for the shapes, the last of them with the mark, and behind it the blanks that ended its
    text. They are not to be changed."""
    given = [_standin(shape, place) for place, shape in enumerate(shapes)]
    last = _with_end(given[-1], MARK + blanks)
    for place, (name, length) in enumerate(shapes[-1].fields):
        last[name] = _own(place, length)
    given[-1] = last
    return given


def own_fields(message: Message, shape: Shape) -> tuple[tuple[str, str], ...] | None:
    """What stands in for the fields of the message, were it the last, and what for; None: nothing may."""
    if len(shape.fields) > len(_LETTERS):
        return None
    own = tuple([(_own(place, length), message[name]) for place, (name, length) in enumerate(shape.fields)])
    return own if all(is_plain(text) for _, text in own) else None


def is_plain(text: str) -> bool:
    """Whether it is written the same in JSON and without."""
    return _PLAIN.fullmatch(text) is not None


def _own(place: int, length: int) -> str:
    """What stands in for a field of the last message."""
    if length >= _SECRET_CHARS_MIN:
        return _SECRETS[place][:length]
    return _LETTERS[place % len(_LETTERS)] * length


def blanks_of(message: Message) -> str:
    """What ends the message's text, behind the mark."""
    content = message["content"]
    text: str = content if isinstance(content, str) else content[-1]["text"]
    return text[len(text.rstrip()) :]


def can_mark(shape: Shape, cues: Sequence[str]) -> bool:
    """Whether the mark may stand at the end of such a message's text: there is one, it is not of calls, and
    the template looks for nothing at that place."""
    content = shape.content
    return (
        content.strip() != ""
        and shape.parts != 0
        and not shape.calls
        and not any(content.endswith(cue) for cue in cues)
    )


def marked(message: Message) -> Message:
    """The message with the mark behind its text, before the blanks that end it."""
    blanks = blanks_of(message)
    return _with_end(message, MARK + blanks, len(blanks))


def _with_end(message: Message, end: str, less: int = 0) -> Message:
    """The message, its text without the last so many letters and with this in their place."""
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": content[: len(content) - less] + end}
    last = content[-1]
    text = last["text"]
    return {**message, "content": [*content[:-1], {**last, "text": text[: len(text) - less] + end}]}


def has_mark(message: Message) -> bool:
    """Whether a client wrote the mark itself, or what else stands in for something."""
    content = message["content"]
    text: str = content if isinstance(content, str) else "".join([part["text"] for part in content])
    return MARK in text or (not text.isascii() and any(letter in text for letter in _LETTERS))
