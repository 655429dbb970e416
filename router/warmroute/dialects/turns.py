"""Parsing only what a turn adds: the next request of a conversation begins with nearly all of the last one.

Skipping the JSON of 128 KB of messages is two thirds of a decision, and all but the last of those messages
were skipped when the turn before came. So what a body begins with is remembered as a hash, in stretches, with
a place at the end of the stretch: mostly that is inside some text of some message. A later body that begins
alike is read as if only the text from there on stood in its list of messages, behind the brackets and the
quote that are open at that place.

Rules kept. The answer is that of reading the whole body: what may follow a place depends on what is open
there and on nothing else, and a place is remembered when reading on from it has led to the known end. Where
it leads nowhere, the whole body is read, and says what is wrong with it. The hashes are seeded anew in each
process, so that nobody can prepare two beginnings that look alike.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar, final

import msgspec
from xxhash import xxh3_64_intdigest

from warmroute.dialects.request import UNREADABLE, Buffer

# Hashing runs at memory speed in pieces of this size, and what is read twice is half of it on average.
_STRETCH: Final = 8 * 1024

# Reading a shorter body is as fast as looking for its beginning.
_BODY_BYTES_MIN: Final = 3 * _STRETCH

# Reading on costs a copy and two hashes of what is left: no gain unless that is less than this part of all.
_WORTH_IT: Final = 3

# Places remembered in each of two generations, about 150 bytes each: conversations of 128 KB leave 16.
_PLACES_MAX: Final = 16 * 1024

# How far the beginning of the list is looked for, since tools may stand before it: nearby first.
_REACHES: Final = (1024, 32 * 1024)

_KEY: Final = b'"messages"'

# What is open inside a text: of a message; of a part of one; of a call's arguments; of a tool's result.
_OPENINGS: Final = (b'[{"":"', b'[{"":[{"":"', b'[{"":[{"":{"":"', b'[{"":[{"":[{"":"')

_BACKSLASH: Final = 0x5C
_U: Final = 0x75

# Backslashes in a row that are looked at to tell whether the last of them is itself escaped.
_ESCAPE_MAX: Final = 64

# Bytes of a letter in UTF-8.
_LETTER_MAX: Final = 4


class HasMessages(Protocol):
    """A body as it is decoded."""

    messages: msgspec.Raw


Fields = TypeVar("Fields", bound=HasMessages)


@final
class Place:
    """Where a body may be read on from."""

    __slots__ = ("opening", "start", "then")

    def __init__(self, start: int, then: int, opening: bytes) -> None:
        self.start = start
        """Where the list of messages begins."""
        self.then = then
        """Somewhere inside a text, not within an escape."""
        self.opening = opening
        """What is open there, as the shortest JSON that opens as much."""


class Turns(Generic[Fields]):
    """Reads bodies whose prompt is a list named `messages`. State: places by the hash of everything before a
    stretch's end, in two generations: when the young one is full, the old one is forgotten."""

    def __init__(self, decode: Callable[[Buffer], Fields]) -> None:
        self._decode = decode
        self._seed = secrets.randbits(64)
        self._young: dict[int, Place] = {}
        self._old: dict[int, Place] = {}

    def read(self, body: Buffer) -> tuple[Fields, Buffer]:
        """The fields of a body, and its messages as they stand in it; the field of that name may be a part
        of them. Raises what `decode` raises."""
        if len(body) < _BODY_BYTES_MIN:
            fields = self._decode(body)
            return fields, fields.messages
        view = memoryview(body)
        hashes = self._hashes(view)
        for at in range(len(hashes) - 1, -1, -1):
            place = self._young.get(hashes[at]) or self._old.get(hashes[at])
            if place is not None:
                if (len(view) - place.then) * _WORTH_IT > len(view):
                    break
                found = self._read_on(view, place)
                if found is None:
                    break
                end = place.then + len(found.messages) - len(place.opening)
                if end >= (at + 2) * _STRETCH:
                    self._learn(view, hashes, place.start, end)
                return found, view[place.start : end]
        fields = self._decode(body)
        start = _list_start(view)
        if start:
            self._learn(view, hashes, start, start + len(fields.messages))
        return fields, fields.messages

    def _hashes(self, view: memoryview) -> list[int]:
        """Of everything before the end of each whole stretch."""
        seed, hash_of = self._seed, xxh3_64_intdigest
        ends = range(_STRETCH, len(view) + 1, _STRETCH)
        return [seed := hash_of(view[end - _STRETCH : end], seed) for end in ends]

    def _read_on(self, view: memoryview, place: Place) -> Fields | None:
        """The fields, with only those messages that stand behind the place. None when nothing can be read
        there, or the messages are not those: a name that comes twice has the value that comes last."""
        opening = place.opening
        try:
            fields = self._decode(b"".join((view[: place.start], opening, view[place.then :])))
        except UNREADABLE:
            return None
        messages = memoryview(fields.messages)
        if messages[: len(opening)] != opening:
            return None
        read = messages[len(opening) :]
        stand = view[place.then : place.then + len(read)]
        return fields if xxh3_64_intdigest(read) == xxh3_64_intdigest(stand) else None

    def _learn(self, view: memoryview, hashes: list[int], start: int, end: int) -> None:
        """Remembers a place for bodies that begin like this one, as late in it as can be."""
        at = end // _STRETCH - 1
        if not start + _ESCAPE_MAX < (at + 1) * _STRETCH < end <= len(view):
            return
        then = _outside_letter(view, (at + 1) * _STRETCH)
        if not then:
            return
        for opening in _OPENINGS:
            place = Place(start, then, opening)
            found = self._read_on(view, place)
            if found is not None and then + len(found.messages) - len(opening) == end:
                if len(self._young) >= _PLACES_MAX:
                    self._old = self._young
                    self._young = {}
                self._young[hashes[at]] = place
                return


def _list_start(view: memoryview) -> int:
    """Where the list of messages seems to begin; 0 when it does not."""
    for reach in _REACHES:
        beginning = bytes(view[:reach])
        key = beginning.find(_KEY)
        if key >= 0:
            return max(0, beginning.find(b"[", key))
    return 0


def _outside_letter(view: memoryview, place: int) -> int:
    """The place, or where the escape or the letter of several bytes begins in whose midst it is. 0 when that
    cannot be told."""
    for _ in range(_LETTER_MAX):
        if view[place] & 0xC0 != 0x80:
            break
        place -= 1
    else:
        return 0
    last = bytes(view[place - 5 : place]).rfind(b"\\")
    if last < 0:
        return place
    at = first = place - 5 + last
    while view[first - 1] == _BACKSLASH and at - first < _ESCAPE_MAX:
        first -= 1
    if at - first == _ESCAPE_MAX:
        return 0
    escapes = (at - first) % 2 == 0  # the last of the row escapes what follows, and is not escaped itself
    return at if escapes and at + (6 if view[at + 1] == _U else 2) > place else place
