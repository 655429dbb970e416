"""The chain of block ids: what prompts share, and that laziness changes nothing."""

from __future__ import annotations

import random
from array import array

import pytest
import xxhash

from warmroute_policies.blocks import (
    BLOCK_BYTES,
    ID_BYTES,
    NO_BLOCKS,
    STRETCH_BLOCKS,
    STRETCH_BYTES,
    PromptBlocks,
    pack_ids,
    salt_of,
    unpack_ids,
)


def eager_ids(material: bytes, salt: int) -> list[int]:
    """The definition, block by block."""
    ids: list[int] = []
    coarse = last = salt
    for at in range(len(material) // BLOCK_BYTES):
        block = material[at * BLOCK_BYTES : (at + 1) * BLOCK_BYTES]
        if at % STRETCH_BLOCKS == STRETCH_BLOCKS - 1:
            start = (at + 1) * BLOCK_BYTES - STRETCH_BYTES
            last = coarse = xxhash.xxh3_64_intdigest(material[start : start + STRETCH_BYTES], coarse)
        else:
            last = xxhash.xxh3_64_intdigest(block, last)
        ids.append(last)
    return ids


@pytest.mark.parametrize("length", [0, 1, 511, 512, 513, 8191, 8192, 8193, 8192 + 512, 40_000])
def test_ids_of_every_range_are_the_defined_ones(length: int) -> None:
    material = random.Random(length).randbytes(length)
    expected = eager_ids(material, 7)
    assert PromptBlocks(material, 7).count == len(expected)
    assert PromptBlocks(material, 7).stretch_ids() == expected[STRETCH_BLOCKS - 1 :: STRETCH_BLOCKS]
    kept = PromptBlocks(material, 7)
    for start in range(len(expected) + 1):
        for stop in range(start, len(expected) + 1):
            assert unpack_ids(kept.ids(start, stop)) == tuple(expected[start:stop])
        fresh = PromptBlocks(material, 7)
        assert unpack_ids(fresh.ids(start, start + 5)) == tuple(expected[start : start + 5])


@pytest.mark.parametrize("seed", range(20))
def test_prompts_that_differ_after_byte_k_share_every_whole_block_before_k(seed: int) -> None:
    chance = random.Random(seed)
    material = chance.randbytes(3 * STRETCH_BYTES + 700)
    edges = [block * BLOCK_BYTES + off for block in (1, 15, 16, 17, 32) for off in (-1, 0, 1)]
    for at in [*edges, *(chance.randrange(len(material)) for _ in range(30))]:
        other = bytearray(material[: chance.randint(at + 1, len(material))])
        other[at] ^= 1 << chance.randrange(8)
        mine, theirs = PromptBlocks(material, seed), PromptBlocks(bytes(other), seed)
        shared = at // BLOCK_BYTES
        ids, others = unpack_ids(mine.ids(0, mine.count)), unpack_ids(theirs.ids(0, theirs.count))
        assert ids[:shared] == others[:shared]
        assert not set(ids[shared:]) & set(others[shared:])


def test_a_grown_prompt_needs_the_blocks_of_its_last_stretch_alone() -> None:
    blocks = PromptBlocks(bytes(16 * STRETCH_BYTES), 0)
    blocks.stretch_ids()
    blocks.ids(15 * STRETCH_BLOCKS, blocks.count)
    assert list(blocks._fine) == [15]


def test_prompts_of_different_salts_share_nothing() -> None:
    material = bytes(2 * STRETCH_BYTES)
    salts = [
        salt_of("m"),
        salt_of("m", lora="a"),
        salt_of("m", cache_salt="a"),
        salt_of("m", lora=""),
        salt_of("ma"),
        salt_of("m", "a", ""),
        salt_of("m", "", "a"),
    ]
    ids = [unpack_ids(PromptBlocks(material, salt).ids(0, 32)) for salt in salts]
    assert len({block for some in ids for block in some}) == 32 * len(salts)


def test_ready_made_ids_answer_as_the_prompt_that_they_came_from() -> None:
    material = random.Random(1).randbytes(20_000)
    prompt = PromptBlocks(material, 3)
    run = prompt.ids(0, prompt.count)
    for ids in (run, unpack_ids(run)):
        copy = PromptBlocks.from_ids(ids, bytes_len=20_000)
        assert (copy.count, copy.bytes_len) == (prompt.count, prompt.bytes_len)
        assert copy.stretch_ids() == prompt.stretch_ids()
        assert copy.ids(5, 23) == prompt.ids(5, 23)
    assert PromptBlocks.from_ids([1, 2], tokens_per_block=512.0).tokens_per_block == 512.0


def test_tokens_make_blocks_of_128() -> None:
    tokens = [random.Random(2).randrange(2**32) for _ in range(128 * 20 + 5)]
    blocks = PromptBlocks.from_tokens(tokens, 9)
    assert (blocks.count, blocks.tokens_per_block) == (20, 128.0)
    packed = b"".join(token.to_bytes(4, "little") for token in tokens)
    assert unpack_ids(blocks.ids(0, 20)) == tuple(eager_ids(packed, 9))


def test_without_its_material_a_prompt_still_knows_what_it_computed() -> None:
    material = random.Random(3).randbytes(3 * STRETCH_BYTES + 1024)
    expected = eager_ids(material, 0)
    blocks = PromptBlocks(material, 0)
    blocks.ids(16, 32)
    blocks.drop_material()
    assert blocks.count == 50
    assert blocks.stretch_ids() == expected[15::16]
    assert unpack_ids(blocks.ids(16, 40)) == tuple(expected[16:32])
    assert blocks.ids(0, 16) == b""
    assert blocks.ids(48, 50) == b""


def test_ids_survive_packing() -> None:
    ids = array("Q", [0, 1, 2**64 - 1])
    assert unpack_ids(pack_ids(ids)) == (0, 1, 2**64 - 1)
    assert pack_ids([1]) == (1).to_bytes(ID_BYTES, "little")


def test_no_blocks_is_empty() -> None:
    assert NO_BLOCKS.count == 0
    assert NO_BLOCKS.stretch_ids() == []
    assert NO_BLOCKS.ids(0, 0) == b""
