"""A prompt's token ids as the core wants them: chains of block ids, one for each size of block in use."""

from __future__ import annotations

from collections.abc import Sequence
from time import sleep
from typing import TYPE_CHECKING, Final, NamedTuple

from warmroute.tokens.asked import Untold, Why
from warmroute_policies.blocks import ID_BYTES
from warmroute_policies.kv_blocks import TOKEN_BYTES, chain, pack_tokens
from warmroute_policies.types import TokenPrompt

if TYPE_CHECKING:
    from warmroute.tokens.memory import Place

# Blocks that are chained between two looks whether others want the interpreter: 0.3 ms.
_SLICE_BLOCKS: Final = 2048


class Told(NamedTuple):
    """A prompt's tokens, and where its next turn may go on."""

    prompt: TokenPrompt
    place: Place | None = None


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
