"""A prompt's token ids as the core wants them: chains of block ids, one for each size of block in use."""

from __future__ import annotations

from collections.abc import Sequence
from time import sleep
from typing import Final, NamedTuple

from warmroute.tokens.asked import Untold, Why
from warmroute.tokens.memory import Place
from warmroute.tokens.standins import Shape
from warmroute_policies.blocks import ID_BYTES
from warmroute_policies.kv_blocks import TOKEN_BYTES, chain, pack_tokens
from warmroute_policies.types import TokenPrompt

# Blocks that are chained between two looks whether others want the interpreter: 0.3 ms.
_SLICE_BLOCKS: Final = 2048


class Told(NamedTuple):
    """A prompt's tokens, and where its next turn may go on."""

    prompt: TokenPrompt
    place: Place | None = None


class Split(NamedTuple):
    """The ids of a text in two parts: up to the last place before some end where it can be cut, and behind
    that."""

    first: bytes
    second: bytes
    between: str
    """The text from the cut to that end."""


class End(NamedTuple):
    """Where a prompt's last message ends."""

    at: int
    """In its text."""
    shapes: tuple[Shape, ...]
    blanks: str
    own: tuple[tuple[str, str], ...]


def told_of(ids: bytes, sizes: Sequence[int], root: int, *, slowly: bool) -> Told:
    """Token ids as a prompt."""
    runs = {size: chain_of(root, ids, size, slowly=slowly) for size in sizes}
    return Told(TokenPrompt(len(ids) // TOKEN_BYTES, runs))


def told_of_numbers(numbers: Sequence[int], sizes: Sequence[int], root: int, *, slowly: bool) -> Told:
    """The same of ids that came as numbers. Raises Untold."""
    try:
        return told_of(pack_tokens(numbers), sizes, root, slowly=slowly)
    except (OverflowError, TypeError):
        raise Untold(Why.ODD) from None


def grown(
    place: Place, split: Split, cut: int, end: End | None, sizes: Sequence[int], root: int, *, slowly: bool
) -> Told:
    """What comes of a place with these ids behind it; the next place is between the two parts."""
    runs: dict[int, bytes] = {}
    ids = split.first + split.second
    total = place.count + len(ids) // TOKEN_BYTES
    for size in sizes:
        whole, over = divmod(place.count, size)
        run = memoryview(place.runs[size])[: whole * ID_BYTES]
        rest = place.tail[-over * TOKEN_BYTES :] + ids if over else ids
        parent = int.from_bytes(run[-ID_BYTES:], "little") if run else root
        runs[size] = b"".join((run, chain_of(parent, rest, size, slowly=slowly)))
    prompt = TokenPrompt(total, runs)
    if end is None:
        return Told(prompt)
    count = place.count + len(split.first) // TOKEN_BYTES
    enough = (max(sizes, default=1) - 1) * TOKEN_BYTES
    return Told(
        prompt,
        Place(
            cut,
            place.options,
            end.shapes,
            end.blanks,
            end.own,
            count,
            (place.tail + split.first)[-enough:] if enough else b"",
            split.between,
            runs,
        ),
    )


def chain_of(parent: int, ids: bytes, size: int, *, slowly: bool) -> bytes:
    """The run of the whole blocks that follow the parent. `slowly`: in a thread, letting others run."""
    step = _SLICE_BLOCKS * size * TOKEN_BYTES
    if not slowly or len(ids) <= step:
        return chain(parent, ids, size)
    runs: list[bytes] = []
    for at in range(0, len(ids), step):
        run = chain(parent, ids[at : at + step], size)
        if run:
            parent = int.from_bytes(run[-ID_BYTES:], "little")
            runs.append(run)
        sleep(0)
    return b"".join(runs)
