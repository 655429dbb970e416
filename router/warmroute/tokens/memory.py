"""Former prompts, by what their material begins with, so that a next turn goes on from there.

A *place* is the end of a prompt's last message. It is found by the id of the last whole block of material
before it (`warmroute_policies.blocks`, computed for the index anyway) and a hash of what is behind that
block: a later prompt that has both goes on from there, whatever else the two have in common.

What is kept of a prompt is what goes on: the ids of its token blocks, the few tokens behind the last of
them, and what its messages looked like. At 8 bytes per block that is half a byte per token with blocks of
16 tokens, an eighth with 64. No text is kept but what stands behind the last place where text can be cut,
mostly none.

Of one conversation two places stay, the last and the one before, for a turn that is asked again. All of
them together have `tokenizer_memory_bytes`; the one used last stays.
"""

from __future__ import annotations

from typing import Final, NamedTuple, final

from xxhash import xxh3_64_intdigest

from warmroute.dialects.request import Buffer
from warmroute.tokens.standins import Shape
from warmroute_policies.blocks import BLOCK_BYTES, STRETCH_BLOCKS, PromptBlocks, unpack_ids

# Dictionaries' entries, the objects, what holds them.
_PLACE_BYTES: Final = 1200

# Blanks between two messages, where JSON is written for people.
_BLANKS_MAX: Final = 64

# How far before the end of a prompt its former end is looked for on the loop: more than is read there anyway.
NEAR_STRETCHES: Final = 6


class _Key(NamedTuple):
    block: int
    """The id of the last whole block before the place."""
    behind: int
    """Bytes from there to the place."""
    rest: int
    """Their hash."""


@final
class Place:
    """The end of a former prompt's last message. Not to be written, but for `key` and `before`, by
    `Memory`."""

    __slots__ = (
        "before",
        "blanks",
        "count",
        "cut",
        "key",
        "options",
        "own",
        "runs",
        "shapes",
        "size",
        "tail",
        "text",
    )

    def __init__(
        self,
        cut: int,
        options: tuple[object, ...],
        shapes: tuple[Shape, ...],
        blanks: str,
        own: tuple[tuple[str, str], ...],
        count: int,
        tail: bytes,
        text: str,
        runs: dict[int, bytes],
    ) -> None:
        self.cut = cut
        """Bytes of material before it."""
        self.options = options
        """What the prompt depended on beside its material."""
        self.shapes = shapes
        """The messages before it, as far as others may depend on them."""
        self.blanks = blanks
        """The last message's last letters that are blanks: templates may leave them out."""
        self.own = own
        """What stands in for the last message's own fields, and what for."""
        self.count = count
        """Tokens up to the last place where its text can be cut."""
        self.tail = tail
        """The last of these tokens, enough for any size of block."""
        self.text = text
        """The text from there to the end of the last message."""
        self.runs = runs
        """By size of block: the ids of the prompt's whole blocks, those of these tokens first."""
        self.key: _Key | None = None
        self.before: _Key | None = None
        """The place that it went on from."""
        self.size = _PLACE_BYTES + len(tail) + 4 * len(text) + sum(map(len, runs.values()))
        """Bytes that it takes."""


def goes_on(material: Buffer, cut: int) -> bool:
    """Whether another message follows the one that ends there."""
    return bytes(material[cut : cut + _BLANKS_MAX]).lstrip()[:1] == b","


class Memory:
    """State: places by their keys, the one used last at the end; by block, how far behind it places are."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._places: dict[_Key, Place] = {}
        self._behind: dict[int, dict[int, int]] = {}
        self.bytes = 0
        """What all places take."""

    def __len__(self) -> int:
        return len(self._places)

    def find(
        self, blocks: PromptBlocks, material: Buffer, options: tuple[object, ...], stretches: int
    ) -> Place | None:
        """Writes. The last place that the prompt goes on from, looked for in so many of its last
        stretches."""
        if not self._places:
            return None
        last = blocks.count // STRETCH_BLOCKS
        for stretch in range(last, max(-1, last - stretches), -1):
            start = stretch * STRETCH_BLOCKS
            ids = unpack_ids(blocks.ids(start, min(start + STRETCH_BLOCKS, blocks.count)))
            for at in range(len(ids) - 1, -1, -1):
                lengths = self._behind.get(ids[at])
                if lengths is not None:
                    place = self._at(ids[at], (start + at + 1) * BLOCK_BYTES, lengths, material, options)
                    if place is not None:
                        return place
        return None

    def _at(
        self, block: int, begin: int, lengths: dict[int, int], material: Buffer, options: tuple[object, ...]
    ) -> Place | None:
        for length in sorted(lengths, reverse=True):
            if goes_on(material, begin + length):
                key = _Key(block, length, xxh3_64_intdigest(material[begin : begin + length], block))
                place = self._places.get(key)
                if place is not None and place.options == options:
                    self._places[key] = self._places.pop(key)
                    return place
        return None

    def keep(self, place: Place, before: Place | None, blocks: PromptBlocks, material: Buffer) -> None:
        """Writes. A prompt's end, and the place that the prompt went on from, if it did."""
        whole = place.cut // BLOCK_BYTES
        if not whole or place.size > self._max_bytes:
            return
        block, begin = blocks.id_at(whole - 1), whole * BLOCK_BYTES
        key = _Key(block, place.cut - begin, xxh3_64_intdigest(material[begin : place.cut], block))
        self._drop(key)
        place.key = key
        if before is not None:
            place.before = before.key
            if before.before is not None:
                self._drop(before.before)
        self._places[key] = place
        lengths = self._behind.setdefault(block, {})
        lengths[key.behind] = lengths.get(key.behind, 0) + 1
        self.bytes += place.size
        while self.bytes > self._max_bytes:
            self._drop(next(iter(self._places)))

    def clear(self) -> None:
        """Writes."""
        self._places.clear()
        self._behind.clear()
        self.bytes = 0

    def _drop(self, key: _Key) -> None:
        place = self._places.pop(key, None)
        if place is None:
            return
        self.bytes -= place.size
        lengths = self._behind[key.block]
        lengths[key.behind] -= 1
        if not lengths[key.behind]:
            del lengths[key.behind]
            if not lengths:
                del self._behind[key.block]
