"""What a router sees of a prompt that is a path in a trace's tree.

A live router sees bytes and cuts them into blocks of 512, about 128 tokens. Here a block is 128 tokens of a
path, and its id is made of the node in which the block ends and its place in that node: equal ids are
equal prefixes, which is all that a chain of hashes promises. The ids of a node are consecutive numbers, so
a prompt of 100,000 tokens costs one run per node. Where engines tell what they hold, their blocks have ids of
the same making, in their own size.

Whether a prompt goes on where an earlier one ended, which takes a live router the prompt's bytes to see, is
here whether its path passes through the node at which the earlier one ended.
"""

from __future__ import annotations

import sys
from array import array
from typing import Final

from warmroute_policies.blocks import BLOCK_BYTES, TOKENS_PER_BLOCK, PromptBlocks, PromptEnd
from warmroute_policies.types import TokenPrompt

# A node has fewer blocks than this: it would be a prompt of two billion tokens.
_BLOCKS_PER_NODE: Final = 1 << 24

BYTES_PER_TOKEN: Final = BLOCK_BYTES // TOKENS_PER_BLOCK
_BIG_ENDIAN: Final = sys.byteorder == "big"


class TracedBlocks(PromptBlocks):
    """The blocks of a prompt that ends at `node`, the last of `path`."""

    __slots__ = ("node", "path")

    node: int
    path: list[int]

    def end(self) -> PromptEnd:
        """Reads. The node stands for what the prompt ends with."""
        return PromptEnd(self.bytes_len, self.node)

    def continues(self, end: PromptEnd) -> bool:
        """Reads. Whether the path passes through the node at which the other prompt ended."""
        return self.bytes_len > end.bytes_len and end.rest in self.path


def ids_in(node: int, first: int, last: int) -> bytes:
    """The run of ids of a node's blocks, from the one at place `first` to before `last`."""
    ids = array("Q", range(node * _BLOCKS_PER_NODE + first, node * _BLOCKS_PER_NODE + last))
    if _BIG_ENDIAN:
        ids.byteswap()
    return ids.tobytes()


def ids_along(path: list[int], ends: array[int], block_tokens: int) -> bytes:
    """The run of ids of the whole blocks of the prompt that `path` leads to; `ends` is the tree's column."""
    runs = []
    first = 0
    for node in path:
        last = ends[node] // block_tokens
        if last > first:
            runs.append(ids_in(node, 0, last - first))
            first = last
    return b"".join(runs)


def token_prompt(path: list[int], ends: array[int], sizes: tuple[int, ...]) -> TokenPrompt:
    """Reads. The prompt as engines see it whose blocks have these sizes, in tokens."""
    return TokenPrompt(ends[path[-1]], {size: ids_along(path, ends, size) for size in sizes})


def blocks_of(path: list[int], ends: array[int]) -> TracedBlocks:
    """Reads. The blocks of the prompt that `path` leads to."""
    node = path[-1]
    blocks = TracedBlocks.from_ids(
        ids_along(path, ends, TOKENS_PER_BLOCK),
        tokens_per_block=float(TOKENS_PER_BLOCK),
        bytes_len=ends[node] * BYTES_PER_TOKEN,
    )
    assert isinstance(blocks, TracedBlocks)
    blocks.node = node
    blocks.path = path
    return blocks
