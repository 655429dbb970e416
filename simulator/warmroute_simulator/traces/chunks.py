"""The project's own trace format: prompts as lists of chunks, exact for everything that a trace can say.

    {"format": "warmroute-chunks", "version": 1, "name": "agents", "closed_loop": true, "quantum_s": 0.0}
    {"chunks": [["system", 900], ["question 1", 40]], "output_tokens": 200, "answer": "answer 1",
     "session": "a"}
    {"chunks": [["system", 900], ["question 1", 40], ["answer 1", 200], ["question 2", 35]],
     "output_tokens": 80, "session": "a", "after": 0, "think_s": 3.0}

Each request is one line in a file. A chunk is an id (a number or a text) and its tokens. The id names
what the chunk *holds*, so it may stand anywhere in a prompt; two prompts share as many leading chunks as are
equal in both. `answer` is the chunk that the answer becomes where a later prompt has it right after this
prompt. `after` is the number of the request that must have ended, counted from 0 in the file, or a list of
them; `think_s` is waited then. `at_s` is the arrival, in a closed loop the start of the session.

The header may be missing. A loop is then closed if any request has `after`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from warmroute_simulator.traces.files import writing
from warmroute_simulator.traces.prompts import ROOT, PromptTree
from warmroute_simulator.traces.source import (
    BAD_LINE,
    MOST_TOKENS,
    Id,
    Malformed,
    OutputTokens,
    PromptTokens,
    Seconds,
    Source,
)
from warmroute_simulator.traces.trace import NO_SESSION, NOTHING, Trace

FORMAT: Final = "warmroute-chunks"
VERSION: Final = 1


class Header(msgspec.Struct, omit_defaults=True):
    """The first line."""

    format: str
    version: int
    name: str = ""
    closed_loop: bool = False
    quantum_s: Seconds = 0.0
    notes: list[str] = []


class _Line(msgspec.Struct, omit_defaults=True):
    chunks: list[tuple[Id, PromptTokens]]
    output_tokens: OutputTokens
    at_s: Seconds = 0.0
    answer: Id | None = None
    session: Id | None = None
    after: int | list[int] | None = None
    think_s: Seconds = 0.0


def read(source: Source) -> Trace:
    """A trace in this format. Raises TraceError."""
    return _Reader(source).read()


def write(trace: Trace, path: Path) -> None:
    """Writes. The trace as a file, packed if it is named `.gz` or `.zst`; `read` makes the same of it.

    Raises TraceError when the file cannot be written.
    """
    with writing(path) as file:
        for line in lines_of(trace):
            file.write(line)


def lines_of(trace: Trace) -> Iterator[bytes]:
    """Reads. The trace's lines; chunks are named by numbers of tree nodes."""
    encode = msgspec.json.Encoder().encode
    yield encode(Header(FORMAT, VERSION, trace.name, trace.closed_loop, trace.quantum_s, trace.notes)) + b"\n"
    tree = trace.tree
    for row, prompt in enumerate(trace.prompts):
        answer, session, after = trace.answers[row], trace.sessions[row], trace.after[row]
        others = trace.also_after.get(row, ())
        line = _Line(
            [(node, tree.ends[node] - tree.start(node)) for node in tree.path(prompt)],
            trace.output_tokens[row],
            trace.arrivals_s[row],
            None if answer == prompt else answer,
            None if session == NO_SESSION else session,
            [after, *others] if others else None if after == NOTHING else after,
            trace.think_s[row],
        )
        yield encode(line) + b"\n"


class _Reader:
    """State: the trace so far, the node of every chunk by what leads to it, and rows by their number in the
    file."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.trace = Trace(source.name, PromptTree())
        self._nodes: dict[tuple[int, Id, int], int] = {}
        self._answer_ids: dict[int, Id] = {}
        self._sessions: dict[Id, int] = {}
        self._rows: dict[int, int] = {}
        self._requests = 0

    def read(self) -> Trace:
        source, trace = self.source, self.trace
        decode = msgspec.json.Decoder(_Line).decode
        header: Header | None = None
        first = True
        for number, text in source.lines():
            if source.enough(trace):
                break
            if first:
                first, header = False, _header(source, number, text)
                if header is not None:
                    continue
            self._requests += 1
            try:
                self._add(decode(text))
            except BAD_LINE as error:
                source.reject(number, text, error)
        self._find_answers()
        trace.closed_loop = any(after != NOTHING for after in trace.after)
        if header is not None:
            trace.name = header.name or trace.name
            trace.closed_loop, trace.quantum_s, trace.notes = (
                header.closed_loop,
                header.quantum_s,
                header.notes,
            )
            self._keep_session_numbers()
        return trace

    def _add(self, line: _Line) -> None:
        """Writes. One request. Raises Malformed."""
        if not line.chunks:
            raise Malformed("chunks", "at least one chunk", "[]")
        total = sum(tokens for _, tokens in line.chunks)
        if total > MOST_TOKENS:
            raise Malformed("chunks", f"at most {MOST_TOKENS} tokens in all", total)
        awaited = self._awaited(line.after)
        tree, nodes, node = self.trace.tree, self._nodes, ROOT
        for chunk, tokens in line.chunks:
            key = (node, chunk, tokens)
            found = nodes.get(key)
            node = nodes.setdefault(key, tree.add(node, tokens)) if found is None else found
        session = NO_SESSION
        if line.session is not None:
            session = self._sessions.setdefault(line.session, len(self._sessions))
        row = self.trace.add(
            node,
            max(1, line.output_tokens),
            arrival_s=line.at_s,
            session=session,
            after=awaited[0] if awaited else NOTHING,
            think_s=line.think_s,
            also_after=awaited[1:],
        )
        self._rows[self._requests - 1] = row
        if line.answer is not None:
            self._answer_ids[row] = line.answer

    def _awaited(self, after: int | list[int] | None) -> list[int]:
        """Reads. Rows for numbers of the file. Raises Malformed."""
        if after is None:
            return []
        numbers = [after] if isinstance(after, int) else after
        for number in numbers:
            if number not in self._rows:
                expected = f"the number of an earlier request, 0 to {self._requests - 2}"
                raise Malformed(
                    "after", expected if self._requests > 1 else "nothing in the first request", number
                )
        return [self._rows[number] for number in numbers]

    def _find_answers(self) -> None:
        """Writes. Answers that a later prompt goes on from."""
        trace = self.trace
        wanted = {(trace.prompts[row], chunk) for row, chunk in self._answer_ids.items()}
        found: dict[tuple[int, Id], int] = {}
        for (parent, chunk, _), node in self._nodes.items():
            if (parent, chunk) in wanted:
                found.setdefault((parent, chunk), node)
        for row, chunk in self._answer_ids.items():
            prompt = trace.prompts[row]
            exact = self._nodes.get((prompt, chunk, trace.output_tokens[row]))
            trace.answers[row] = exact or found.get((prompt, chunk), prompt)

    def _keep_session_numbers(self) -> None:
        """Writes. Sessions that are numbered without a gap keep their numbers."""
        names = self._sessions
        if all(isinstance(name, int) for name in names) and set(names) == set(range(len(names))):
            number_of: dict[int, Any] = {number: name for name, number in names.items()}
            for row, session in enumerate(self.trace.sessions):
                self.trace.sessions[row] = number_of.get(session, NO_SESSION)


def _header(source: Source, number: int, text: bytes) -> Header | None:
    """The header, or None when the first line is a request. Raises TraceError."""
    try:
        fields = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except BAD_LINE:
        return None
    if "format" not in fields:
        return None
    try:
        header = msgspec.json.decode(text, type=Header)
    except BAD_LINE as error:
        raise source.told(number, text, error) from error
    if header.format != FORMAT:
        raise source.error(number, "format", f"`{FORMAT}`", header.format)
    if header.version != VERSION:
        raise source.error(number, "version", f"{VERSION}, which is what this release reads", header.version)
    return header
