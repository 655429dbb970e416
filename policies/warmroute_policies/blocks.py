"""A prompt's identity: a chain of 64-bit block ids at two resolutions.

Why two. An id stands for its block *and all that came before it*, so two prompts share exactly the
blocks whose ids are equal, and an index may jump: if it knows the id at some depth, it knows every
id above. Hashing a 128 KB prompt block by block costs 27 µs, in stretches of 16 blocks 4 µs. Hence the
chain runs over stretches, and the blocks inside a stretch hang off it:

    C_j = xxh3_64(stretch j, seed = C_{j-1}),  C_{-1} = salt
    f_k = xxh3_64(block k of the stretch, seed = f_{k-1}),  f_{-1} = C_{j-1}
    the id of a stretch's last block is C_j itself

A list of ids therefore holds the coarse chain at every 16th place, and the ids of one stretch follow
from the coarse id before it alone: a conversation that grew by 1 KB costs its coarse hashes and the
blocks of one stretch.

Rules kept: ids are computed when asked for and then kept; whole blocks only, the rest of the material
past the last of them is no part of the identity; runs of ids are `bytes`, 8 little-endian bytes each.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

# About 128 tokens of English, the size of a few engine pages: 64-byte blocks found no more hits and cost
# twice the CPU.
BLOCK_BYTES: Final = 512

# 8 KiB: long enough that hashing is bound by memory speed, short enough that the one stretch which
# diverges costs 2 µs.
STRETCH_BLOCKS: Final = 16

STRETCH_BYTES: Final = BLOCK_BYTES * STRETCH_BLOCKS

ID_BYTES: Final = 8
_STRETCH_RUN: Final = STRETCH_BLOCKS * ID_BYTES

# A token id packed as 4 bytes makes a block of 128 tokens, the same grain as a byte block of English.
TOKEN_BYTES: Final = 4
TOKENS_PER_BLOCK: Final = BLOCK_BYTES // TOKEN_BYTES

# Takes n blocks at once, n below 16: three times as fast as a slice for each block. The last block of a
# stretch is never asked for, its id is the stretch's.
_split: Final = [struct.Struct(f"{BLOCK_BYTES}s" * n).unpack_from for n in range(STRETCH_BLOCKS)]
_pack: Final = [struct.Struct(f"<{n}Q").pack for n in range(STRETCH_BLOCKS + 1)]


def pack_ids(ids: Iterable[int]) -> bytes:
    """The ids as a run: 8 little-endian bytes each."""
    return _little_endian(array("Q", ids))


def unpack_ids(run: bytes) -> tuple[int, ...]:
    """The ids of a run."""
    return struct.unpack(f"<{len(run) // ID_BYTES}Q", run)


def salt_of(model: str, lora: str | None = None, cache_salt: str | None = None) -> int:
    """The seed of the chain. Prompts of different models, adapters or tenants share no block.

    Absent and empty differ; the parts are chained, so no two triples are spelled alike.
    """
    salt = xxh3_64_intdigest(model.encode())
    for part in (lora, cache_salt):
        salt = xxh3_64_intdigest(b"\x00" if part is None else b"\x01" + part.encode(), salt)
    return salt


class PromptEnd(NamedTuple):
    """Where a prompt ended: its length, and a hash of what is behind its last whole block."""

    bytes_len: int
    rest: int


class PromptBlocks:
    """The ids of one prompt's whole blocks.

    State: the material (until `drop_material`) and the ids computed so far. Nothing else changes, and
    the ids never do: methods that compute are marked as reads.
    """

    __slots__ = ("_fine", "_ids", "_material", "_stretches", "bytes_len", "count", "salt", "tokens_per_block")

    def __init__(
        self, material: bytes | memoryview, salt: int, tokens_per_block: float | None = None
    ) -> None:
        self.salt = salt
        self.bytes_len = len(material)
        """Length of the material, the ground for estimates of its tokens."""
        self.count = self.bytes_len // BLOCK_BYTES
        """Whole blocks."""
        self.tokens_per_block = tokens_per_block
        """None for blocks of bytes: the ratio is learned elsewhere."""
        self._material = material
        self._stretches: list[int] | None = None
        self._fine: dict[int, bytes] = {}
        self._ids: bytes | None = None

    @classmethod
    def from_ids(
        cls,
        ids: Sequence[int] | bytes,
        *,
        tokens_per_block: float | None = None,
        bytes_len: int | None = None,
        salt: int = 0,
    ) -> PromptBlocks:
        """Blocks whose ids are known: from a journal, from a trace, or from an engine's own hashes.

        `ids` are integers or a run. Any ids in which equal ids imply equal prefixes will do.
        """
        run = ids if isinstance(ids, bytes) else pack_ids(ids)
        blocks = cls(b"", salt, tokens_per_block)
        blocks.count = len(run) // ID_BYTES
        blocks.bytes_len = blocks.count * BLOCK_BYTES if bytes_len is None else bytes_len
        blocks._ids = run
        return blocks

    @classmethod
    def from_tokens(cls, tokens: Sequence[int], salt: int) -> PromptBlocks:
        """Blocks of 128 token ids, each packed as 4 little-endian bytes. Ids must be below 2**32."""
        return cls(_little_endian(array("I", tokens)), salt, float(TOKENS_PER_BLOCK))

    def __deepcopy__(self, memo: dict[int, object]) -> PromptBlocks:
        """Reads. Itself: ids never change. For rules that keep copies of the events they are told."""
        return self

    def stretch_ids(self) -> list[int]:
        """Reads. The id at the end of every whole stretch; the list is not the caller's to change."""
        found = self._stretches
        if found is None:
            found = self._stretches = self._hash_stretches()
        return found

    def ids(self, start: int, stop: int) -> bytes:
        """Reads. The run of ids of blocks start to stop, or to the end of the prompt if that is less.

        Shorter still only after `drop_material`: it then ends at the first id never computed.
        """
        if self._ids is not None:
            return self._ids[start * ID_BYTES : stop * ID_BYTES]
        first = start // STRETCH_BLOCKS
        skip = start % STRETCH_BLOCKS * ID_BYTES
        size = (stop - start) * ID_BYTES
        run = self._fine.get(first) or self._stretch_run(first)
        if skip + size > len(run) == _STRETCH_RUN:
            runs, last = [run], (min(stop, self.count) - 1) // STRETCH_BLOCKS
            while len(run) == _STRETCH_RUN and first < last:
                first += 1
                run = self._fine.get(first) or self._stretch_run(first)
                runs.append(run)
            run = b"".join(runs)
        return run[skip : skip + size]

    def id_at(self, block: int) -> int:
        """Reads. The id of one block."""
        return int.from_bytes(self.ids(block, block + 1), "little")

    def end(self) -> PromptEnd:
        """Reads. Where this prompt ends; to be asked before `drop_material`."""
        return PromptEnd(self.bytes_len, self._rest(self.bytes_len))

    def continues(self, end: PromptEnd) -> bool:
        """Reads. Whether this prompt goes on where that one ended, given that it shares its whole blocks.

        The last byte is left out: it closes the JSON of the former prompt (a bracket or a quote), and in
        the longer prompt something else stands in its place.
        """
        return self.bytes_len > end.bytes_len and self._rest(end.bytes_len) == end.rest

    def _rest(self, bytes_len: int) -> int:
        return xxh3_64_intdigest(self._material[bytes_len // BLOCK_BYTES * BLOCK_BYTES : bytes_len - 1])

    def drop_material(self) -> None:
        """Writes. Lets go of the prompt's bytes; ids computed so far stay.

        For requests that wait long for their end: what is left is about 100 bytes per 8 KB of prompt.
        """
        self.stretch_ids()
        self._material = b""

    def _hash_stretches(self) -> list[int]:
        if self._ids is not None:
            return list(unpack_ids(self._ids)[STRETCH_BLOCKS - 1 :: STRETCH_BLOCKS])
        material, seed, hash_of = memoryview(self._material), self.salt, xxh3_64_intdigest
        end = self.count // STRETCH_BLOCKS * STRETCH_BYTES
        return [
            seed := hash_of(material[at : at + STRETCH_BYTES], seed) for at in range(0, end, STRETCH_BYTES)
        ]

    def _stretch_run(self, stretch: int) -> bytes:
        """The ids of one stretch's whole blocks; empty when they were never computed and cannot be."""
        material = self._material
        if not material:
            return b""
        coarse = self.stretch_ids()
        seed = coarse[stretch - 1] if stretch else self.salt
        whole = stretch < len(coarse)
        blocks = STRETCH_BLOCKS - 1 if whole else self.count - stretch * STRETCH_BLOCKS
        pieces, hash_of = _split[blocks](material, stretch * STRETCH_BYTES), xxh3_64_intdigest
        ids = [seed := hash_of(piece, seed) for piece in pieces]
        if whole:
            ids.append(coarse[stretch])
        run = _pack[len(ids)](*ids)
        self._fine[stretch] = run
        return run


NO_BLOCKS: Final = PromptBlocks(b"", 0)


def _little_endian(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
