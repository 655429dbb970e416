"""Qwen-Bailian's format: a line of JSON per request of a chat service, with ids of 16-token blocks.

    {"chat_id": 7, "parent_chat_id": -1, "timestamp": 0.45, "input_length": 655, "output_length": 52,
     "type": "text", "turn": 1, "hash_ids": [1, 2, 3]}

Each request is one line, `timestamp` is seconds, and every line holds its whole prompt. `parent_chat_id` is
the former turn, −1 where there is none; a chat and all that follow from it are one session. Arrivals are as
recorded: open loop.

Whether an id stands for its block alone or for all before it too is not said by the publishers; that it is a
chain is checked, and `--contents` reads the other kind.
"""

from __future__ import annotations

from typing import Final

import msgspec

from warmroute_simulator.traces.checks import quantum_of
from warmroute_simulator.traces.named_blocks import NamedBlocks
from warmroute_simulator.traces.prompts import PromptTree
from warmroute_simulator.traces.source import BAD_LINE, Id, OutputTokens, PromptTokens, Seconds, Source
from warmroute_simulator.traces.trace import Trace

BLOCK_TOKENS: Final = 16
_ROOTS: Final = (-1, "-1", None)


class _Line(msgspec.Struct, gc=False):
    chat_id: Id
    timestamp: Seconds
    input_length: PromptTokens
    output_length: OutputTokens
    hash_ids: list[int] = []
    parent_chat_id: Id | None = None


def read(source: Source) -> Trace:
    """A Bailian trace. Raises TraceError."""
    trace = Trace(source.name, PromptTree())
    prompts = NamedBlocks(source, BLOCK_TOKENS)
    decode = msgspec.json.Decoder(_Line).decode
    sessions: dict[Id, int] = {}
    count = 0
    for number, text in source.lines():
        if source.enough(trace):
            break
        try:
            line = decode(text)
            prompt = prompts.add(number, line.hash_ids, line.input_length)
        except BAD_LINE as error:
            source.reject(number, text, error)
            continue
        # A parent from before the trace's beginning still tells its children to be one session.
        elder = line.chat_id if line.parent_chat_id in _ROOTS else line.parent_chat_id
        assert elder is not None
        session = sessions.get(elder)
        if session is None:
            session = sessions[elder] = count
            count += 1
        sessions[line.chat_id] = session
        if not line.output_length:
            source.count("requests without an answer are taken to have one token of it")
        trace.add(prompt, max(1, line.output_length), arrival_s=line.timestamp, session=session)
    trace.tree, leaves = prompts.tree()
    trace.prompts, trace.answers = leaves, leaves[:]
    trace.quantum_s = quantum_of(trace.arrivals_s)
    return trace
