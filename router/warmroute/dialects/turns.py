"""Parsing only what a turn adds: the next request of a conversation begins with nearly all of the last one.

Skipping the JSON of 128 KB of messages is two thirds of a decision, and all but the last of those messages
were skipped when the turn before came. So the hash of what a body begins with is remembered, in stretches,
with a place in it where one message ends and the next begins. A later body that begins alike is read as if
everything between its first message and that place were not there.

Rules kept. The answer is that of reading the whole body: a place is remembered only when a reading from
there gives the same fields, which holds for every body that begins alike, since what JSON may follow depends
on what went before and on nothing else. Where a reading from the place fails, the whole body is read, and
says what is wrong with it. The hashes are seeded anew in each process, so that nobody can prepare two
beginnings that look alike.
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

# Places remembered in each of two generations, about 150 bytes each: conversations of 128 KB leave 16.
_PLACES_MAX: Final = 16 * 1024

# How far the beginning of the list is looked for (tools may stand before it), and how far before the end of
# a stretch the last message: nearby first, since a copy of what is searched costs more than the search.
_REACHES: Final = (1024, 32 * 1024)

# What looks like two messages may be two parts of one. (In a text the last quote would be escaped.)
_TRIES: Final = 4

_KEY: Final = b'"messages"'
_COMPACT: Final = b'},{"'
_SPACED: Final = b'}, {"'
_SPACE: Final = 0x20


class HasMessages(Protocol):
    """A body as it is decoded."""

    messages: msgspec.Raw


Fields = TypeVar("Fields", bound=HasMessages)


@final
class Place:
    """Where a body may be read on from."""

    __slots__ = ("start", "then")

    def __init__(self, start: int, then: int) -> None:
        self.start = start
        """Where the list of messages begins."""
        self.then = then
        """Where one of them begins, behind a comma."""


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
                found = self._read_on(view, place)
                if found is None:
                    break
                end = place.then + len(found.messages) - 1
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
        try:
            fields = self._decode(b"".join((view[: place.start], b"[", view[place.then :])))
        except UNREADABLE:
            return None
        messages = bytes(fields.messages)
        stand = bytes(view[place.then : place.then + len(messages) - 1])
        return fields if messages[:1] == b"[" and messages[1:] == stand else None

    def _learn(self, view: memoryview, hashes: list[int], start: int, end: int) -> None:
        """Remembers a place for bodies that begin like this one, as late in it as can be."""
        at = end // _STRETCH - 1
        if not 0 <= at < len(hashes):
            return
        behind, between = (at + 1) * _STRETCH, _SPACED if view[start - 1] == _SPACE else _COMPACT
        for _ in range(_TRIES):
            behind = _last(view, between, start, behind)
            if behind < 0:
                return
            place = Place(start, behind + 2)
            found = self._read_on(view, place)
            if found is not None and place.then + len(found.messages) - 1 == end:
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


def _last(view: memoryview, wanted: bytes, start: int, end: int) -> int:
    """Where `wanted` stands last between start and end; -1 when it does not, or is far from the end."""
    for reach in _REACHES:
        first = max(start, end - reach)
        at = bytes(view[first:end]).rfind(wanted)
        if at >= 0:
            return first + at
    return -1
