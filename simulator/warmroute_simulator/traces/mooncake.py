"""Mooncake's format and what AIPerf made of it: a line of JSON per request, with ids of blocks of the prompt.

    {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 2353, 2354]}

`timestamp` and `delay` are milliseconds. An id stands for a block of 512 tokens (an option) and for all that
comes before it; the last one may stand for an unfinished block.

With `session_id`, lines are turns of a conversation. AIPerf sends what a later line holds *after* the
conversation so far, answers included; only a line whose ids begin with those of the former turn holds the
whole prompt itself. Where timestamps are missing, turns come `delay` after the former answer.
"""

from __future__ import annotations

from array import array
from typing import Final, final

import msgspec

from warmroute_simulator.traces.checks import quantum_of
from warmroute_simulator.traces.named_blocks import NamedBlocks
from warmroute_simulator.traces.prompts import PromptTree
from warmroute_simulator.traces.source import (
    BAD_LINE,
    MOST_TOKENS,
    Id,
    Malformed,
    Milliseconds,
    OutputTokens,
    PromptTokens,
    Source,
)
from warmroute_simulator.traces.trace import NO_SESSION, NOTHING, Trace

BLOCK_TOKENS: Final = 512

_UNKNOWN: Final = -1.0
"""In arrivals, until all lines are read: the line has no timestamp."""


class _Line(msgspec.Struct, gc=False):
    input_length: PromptTokens
    output_length: OutputTokens
    hash_ids: list[int] = []
    timestamp: Milliseconds | None = None
    session_id: Id | None = None
    delay: Milliseconds | None = None


@final
class _Turn:
    """The latest turn of a session."""

    __slots__ = ("ids", "row", "session", "tokens")

    def __init__(self, session: int, row: int, ids: list[int], tokens: int) -> None:
        self.session, self.row, self.ids = session, row, ids
        self.tokens = tokens
        """Of the conversation, with the answer."""

    def is_followed_by(self, line: _Line) -> bool:
        """Reads. Whether the line holds only what it adds."""
        return not self.ids or line.hash_ids[: len(self.ids)] != self.ids


def read(source: Source) -> Trace:
    """A Mooncake trace: open loop when every line has a timestamp. Raises TraceError."""
    trace = Trace(source.name, PromptTree())
    prompts = NamedBlocks(source, BLOCK_TOKENS)
    added = array("i")
    """Tokens that a turn adds to its conversation; 0: the line holds a whole prompt."""
    decode = msgspec.json.Decoder(_Line).decode
    sessions: dict[Id, _Turn] = {}
    timed: bool | None = None
    for number, text in source.lines():
        if source.enough(trace):
            break
        try:
            line = decode(text)
            former = None if line.session_id is None else sessions.get(line.session_id)
            if line.session_id is None:
                if timed is not None and timed is not (line.timestamp is not None):
                    raise Malformed("timestamp", "one in every line or in none")
                timed = line.timestamp is not None
            tokens = line.input_length
            if former is not None and former.is_followed_by(line):
                tokens += former.tokens
                if tokens > MOST_TOKENS:
                    raise Malformed("input_length", f"a conversation of at most {MOST_TOKENS} tokens", tokens)
                prompt, more = NOTHING, line.input_length
            else:
                prompt, more = prompts.add(number, line.hash_ids, tokens), 0
        except BAD_LINE as error:
            source.reject(number, text, error)
            continue
        row = trace.add(
            prompt,
            max(1, line.output_length),
            arrival_s=_UNKNOWN if line.timestamp is None else line.timestamp / 1000,
            session=NO_SESSION if line.session_id is None else former.session if former else len(sessions),
            after=former.row if former else NOTHING,
            think_s=(line.delay or 0.0) / 1000,
        )
        added.append(more)
        if more:
            source.count("turns hold what they add to their conversation")
        if not line.output_length:
            source.count("requests without an answer are taken to have one token of it")
        if line.session_id is not None:
            turn_tokens = tokens + max(1, line.output_length)
            sessions[line.session_id] = _Turn(trace.sessions[row], row, line.hash_ids, turn_tokens)
    _settle_prompts(trace, prompts, added)
    _settle_times(trace, source)
    return trace


def _settle_prompts(trace: Trace, prompts: NamedBlocks, added: array[int]) -> None:
    """Writes. Numbers of prompts become nodes, and turns go on from the former answer."""
    tree, leaves = prompts.tree()
    trace.tree = tree
    for row, more in enumerate(added):
        if not more:
            trace.prompts[row] = trace.answers[row] = leaves[trace.prompts[row]]
            continue
        former = trace.after[row]
        if trace.answers[former] == trace.prompts[former]:
            trace.answers[former] = tree.add(trace.prompts[former], trace.output_tokens[former])
        trace.prompts[row] = trace.answers[row] = tree.add(trace.answers[former], more)


def _settle_times(trace: Trace, source: Source) -> None:
    """Writes. Open loop when all arrivals are known; else closed, with sessions that start when their first
    line says, and requests without a session are one each."""
    arrivals, after = trace.arrivals_s, trace.after
    if _UNKNOWN not in arrivals:
        trace.quantum_s = quantum_of(arrivals)
        for row in range(len(trace)):
            after[row], trace.think_s[row] = NOTHING, 0.0
        return
    trace.closed_loop = True
    sessions = trace.session_count
    recorded = arrivals[:]
    for row, former in enumerate(after):
        if former == NOTHING:
            arrivals[row] = max(0.0, recorded[row])
        else:
            if not trace.think_s[row] and _UNKNOWN not in (recorded[row], recorded[former]):
                trace.think_s[row] = max(0.0, recorded[row] - recorded[former])
                source.count("turns without a delay wait for as long as their timestamps are apart")
            arrivals[row] = arrivals[former]
        if trace.sessions[row] == NO_SESSION:
            trace.sessions[row] = sessions
            sessions += 1
