"""Prompts of formats that name blocks by ids: what mooncake, bailian and the others have in common."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final, final

from warmroute_simulator.traces.chains import ChainedPrompts, ContentChains, NotChainedError
from warmroute_simulator.traces.prompts import PromptTree
from warmroute_simulator.traces.source import Malformed, Source

# Block sizes of engines and of published traces, to name one that would fit.
_USUAL_BLOCKS: Final = (16, 32, 64, 128, 256, 512, 1024)


@final
class NamedBlocks:
    """`ChainedPrompts` with errors in the user's words. State: the prompts so far."""

    def __init__(self, source: Source, usual_block_tokens: int, field: str = "hash_ids") -> None:
        self._source, self._field = source, field
        self._prompts = ChainedPrompts(source.options.block_tokens or usual_block_tokens)
        self._contents = ContentChains() if source.options.contents else None

    def add(self, line: int, ids: Sequence[int], tokens: int) -> int:
        """Writes. One prompt; its number. Raises Malformed for more ids than blocks, TraceError for ids that
        are no chain, and has then changed nothing."""
        size = self._prompts.block_tokens
        most = -(-tokens // size)
        if len(ids) > most:
            fits = [other for other in _USUAL_BLOCKS if -(-tokens // other) == len(ids)]
            hint = f" (--trace-block-tokens {fits[0]} would fit)" if fits else ""
            raise Malformed(
                self._field,
                f"at most {most} ids for {tokens} tokens in blocks of {size}",
                f"{len(ids)}{hint}",
            )
        if len(ids) < tokens // size:
            self._source.count(
                "requests name fewer blocks than they have; the others are taken to be their own"
            )
        if self._contents is not None:
            ids = self._contents.chain(ids)
        try:
            return self._prompts.add(ids, tokens)
        except NotChainedError as error:
            raise self._source.error(
                line,
                self._field,
                "ids that stand for a block and all before it; for ids that name what is in a block alone,"
                " give --contents",
                error,
            ) from error

    def tree(self) -> tuple[PromptTree, array[int]]:
        """Reads. The tree, and the node at which each prompt ends."""
        return self._prompts.tree()
