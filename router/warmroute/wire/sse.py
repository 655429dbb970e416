"""Takes events out of a stream of server-sent events, and leaves every other byte as it came.

An event is its lines up to and including the empty one (a line ends with CRLF, LF or CR); what a stream ends
with counts as its last event. Pieces may be cut anywhere.

Rules kept. At most one event is held back, and not longer than it might be one to take out: its beginning
goes on as soon as it says otherwise, or is longer than `EVENT_BYTES_MAX`. How the pieces are cut changes
nothing of what is passed on.
"""

from __future__ import annotations

import re
from typing import Final, final

EVENT_BYTES_MAX: Final = 16 * 1024
"""A longer event is passed on, whatever it says: those to be taken out have a few hundred bytes."""

_EMPTY_LINE: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")

_LINE: Final = re.compile(rb"\r\n|\n|\r")

# The bytes before a cut that a line's end behind it may belong to: CRLF CR, and LF to come.
_REACH: Final = 3

_LF: Final = 10
_CR: Final = 13


class Unwanted:
    """Which events are taken out."""

    mark: bytes = b""
    """What each of them holds; looking for it is all that most events cost."""

    def cleared(self, beginning: bytes) -> bool:
        """Reads. Whether an event that begins so is none of them, however it goes on. What is said of a
        beginning holds for all that is longer."""
        return False

    def is_one(self, event: bytes) -> bool:
        """Reads. Whether the whole event is one of them."""
        return False


@final
class EventFilter:
    """State: the event that has begun and how much of it was passed on, and whether the last one's end may
    still get a line feed."""

    __slots__ = ("_after_cr", "_begun", "_passed", "_unwanted")

    def __init__(self, unwanted: Unwanted) -> None:
        self._unwanted = unwanted
        self._begun = b""
        """The event, or the end of what was passed on of it."""
        self._passed = 0
        """Bytes of it that were passed on; above 0 the rest of the event follows them."""
        self._after_cr = 0
        """The event before ended with CR: a line feed that follows is 1 passed on, 2 taken out with it."""

    @property
    def between(self) -> bool:
        """Reads. The next byte begins an event."""
        return not self._begun and not self._after_cr

    def feed(self, data: bytes) -> bytes:
        """Writes. Takes bytes; what of them, and of those held back, goes on now."""
        if not data:
            return b""
        passed: list[bytes] = []
        if self._after_cr:
            if data[0] == _LF:
                if self._after_cr == 1:
                    passed.append(b"\n")
                data = data[1:]
            self._after_cr = 0
        begun, skip = len(self._begun), self._passed
        if begun:
            data = self._begun + data
        unwanted, at, look = self._unwanted, 0, max(0, begun - _REACH)
        while at < len(data):
            end = _end_of_event(data, at, look, skip > 0)
            if end < 0:
                break
            event, goes_on = data[at:end], skip > 0
            if not goes_on:
                goes_on = not self._is_unwanted(event)
            if goes_on:
                passed.append(event[skip:])
            if end == len(data) and data[end - 1] == _CR:
                self._after_cr = 1 if goes_on else 2
            at, skip = end, 0
            look = at
        rest = data[at:]
        if rest and (skip or len(rest) > EVENT_BYTES_MAX or unwanted.cleared(rest)):
            passed.append(rest[skip:])
            rest = rest[-_REACH:]
            skip = len(rest)
        self._begun, self._passed = rest, skip
        return b"".join(passed)

    def end(self) -> bytes:
        """Writes. The stream is complete: the last event's rest, unless that is taken out."""
        rest, skip = self._begun, self._passed
        self._begun, self._passed = b"", 0
        return b"" if skip or self._is_unwanted(rest) else rest

    def _is_unwanted(self, event: bytes) -> bool:
        unwanted = self._unwanted
        return (
            event.find(unwanted.mark) >= 0
            and len(event) <= EVENT_BYTES_MAX
            and not unwanted.cleared(event)
            and unwanted.is_one(event)
        )


def _end_of_event(data: bytes, at: int, look: int, goes_on: bool) -> int:
    """Where the event that begins at `at` ends, looking from `look` on; -1: not here. `goes_on`: what is
    there is not the event's beginning."""
    if not goes_on and data[at] in (_CR, _LF):  # nothing but an empty line
        return at + (2 if data[at : at + 2] == b"\r\n" else 1)
    found = _EMPTY_LINE.search(data, look)
    return -1 if found is None else found.end()


def data_of(event: bytes) -> bytes:
    """What an event carries: its `data` lines, joined by line feeds."""
    lines = [line[5:] for line in _LINE.split(event) if line.startswith(b"data:")]
    return b"\n".join([line[1:] if line.startswith(b" ") else line for line in lines])
