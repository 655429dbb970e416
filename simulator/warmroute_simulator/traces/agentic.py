"""Sessions of coding agents: JSON with a session per line (or one session as a whole document), closed loop.

    {"id": "trace_0004", "block_size": 64, "hash_id_scope": "local", "tool_tokens": 12439,
     "system_tokens": 2979, "requests": [{"t": 0.0, "type": "n", "in": 15818, "out": 154, "think_time": 0.0,
                                          "hash_ids_rle": [1, 247], "api_time": 5.23}, …]}

Ids stand for whole blocks and all before them, either listed (`hash_ids`) or as runs (`hash_ids_rle`: start,
length, start, length, …). With the scope `local` they mean something only inside their session.

An entry of type `subagent` has requests of its own. The agent pauses there until its sub-agents are done;
those that began before others had ended run beside them. See `agent_plan` for times.

`share_prefixes`: sessions whose tool definitions and system prompts are equally long are taken to have the
same ones, which the ids cannot say.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import final

import msgspec

from warmroute_simulator.traces.agent_plan import Planned, Session, plan
from warmroute_simulator.traces.chains import ChainedPrompts, NotChainedError
from warmroute_simulator.traces.files import whole_text
from warmroute_simulator.traces.prompts import PromptTree
from warmroute_simulator.traces.source import BAD_LINE, Malformed, Source
from warmroute_simulator.traces.trace import NOTHING, Trace


def read(source: Source) -> Trace:
    """Sessions as a trace. Raises TraceError."""
    return _Reader(source).read()


@final
class _Reader:
    """State: the trace so far, its prompts, and what sessions share."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._trace = Trace(source.name, PromptTree(), closed_loop=True)
        self._prompts: ChainedPrompts | None = None
        self._heads: SharedHeads | None = None
        self._sessions = 0

    def read(self) -> Trace:
        source, trace = self._source, self._trace
        decode = msgspec.json.Decoder(Session).decode
        for number, text in _documents(source):
            if source.enough(trace):
                break
            try:
                session = decode(text)
                self._add(number, session, plan(session, source))
            except BAD_LINE as error:
                source.reject(number, text, error)
        if self._prompts is not None:
            trace.tree, leaves = self._prompts.tree()
            trace.prompts, trace.answers = leaves, leaves[:]
        return trace

    def _add(self, line: int, session: Session, planned: list[Planned]) -> None:
        """Writes. A session's requests. Raises Malformed, TraceError."""
        options = self._source.options
        block_tokens = options.block_tokens or session.block_size
        if self._prompts is None:
            self._prompts = ChainedPrompts(block_tokens)
            self._heads = SharedHeads(block_tokens) if options.share_prefixes else None
        prompts, heads, trace = self._prompts, self._heads, self._trace
        if block_tokens != prompts.block_tokens:
            raise Malformed("block_size", f"{prompts.block_tokens} as in the sessions before", block_tokens)
        for request in planned:
            if len(request.ids) * block_tokens > request.prompt_tokens:
                most = (
                    f"at most {request.prompt_tokens // block_tokens} ids for {request.prompt_tokens} tokens"
                )
                raise Malformed(f"{request.path}.hash_ids", most, len(request.ids))
        first = len(trace)
        for request in planned:
            ids = request.ids if heads is None else heads.put(request.ids, request.head_key)
            try:
                prompt = prompts.add(ids, request.prompt_tokens)
            except NotChainedError as error:
                field = f"{request.path}.hash_ids"
                expected = "ids that stand for a block and all before it"
                raise self._source.error(line, field, expected, error) from error
            after, *others = [first + row for row in request.after] or [NOTHING]
            trace.add(
                prompt,
                request.output_tokens,
                session=self._sessions,
                after=after,
                think_s=request.think_s,
                also_after=others,
            )
        if planned:
            self._sessions += 1
        if session.hash_id_scope == "local":
            prompts.forget_ids()
        if heads is not None:
            heads.end_session()


@final
class SharedHeads:
    """Common ids, below zero, for the blocks of tool definitions and system prompts.

    State: the common ids by the two sizes; in the session at hand, which heads stand for which of them.
    """

    __slots__ = ("_block_tokens", "_common", "_heads", "_taken", "_used")

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._common: dict[tuple[int, int], array[int]] = {}
        self._used = 0
        self._heads: dict[int, tuple[array[int], array[int]]] = {}
        self._taken: set[tuple[int, int]] = set()

    def put(self, ids: array[int], sizes: tuple[int, int]) -> array[int]:
        """Writes. The ids with common ones in front. The first prompt of an agent shows what its head is;
        another head of the same sizes in the same session is another text, and stays its own."""
        if not ids:
            return ids
        if ids[0] not in self._heads:
            blocks = sum(sizes) // self._block_tokens
            if blocks and sizes not in self._taken:
                self._taken.add(sizes)
                self._heads[ids[0]] = ids[:blocks], self._ids_for(sizes, blocks)
            else:
                self._heads[ids[0]] = ids[:0], ids[:0]
        head, common = self._heads[ids[0]]
        alike = len(head)
        if ids[:alike] != head:
            shorter = min(alike, len(ids))
            alike = bisect_left(range(shorter), True, key=lambda block: ids[block] != head[block])
        return common[:alike] + ids[alike:]

    def end_session(self) -> None:
        """Writes. The next session's ids are others."""
        self._heads.clear()
        self._taken.clear()

    def _ids_for(self, sizes: tuple[int, int], blocks: int) -> array[int]:
        if sizes not in self._common:
            self._common[sizes] = array("q", range(-self._used - 1, -self._used - 1 - blocks, -1))
            self._used += blocks
        return self._common[sizes]


def _documents(source: Source) -> Iterator[tuple[int, bytes]]:
    """Sessions with the numbers of their lines; all of the file as one when it is one document."""
    for number, text in source.lines():
        if number == 1 and text.lstrip().startswith(b"{"):
            try:
                msgspec.json.decode(text)
            except (ValueError, RecursionError):
                everything = whole_text(source.path)
                if _is_json(everything):
                    yield number, everything
                    return
        yield number, text


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return True
