"""Requests with their texts: JSON lines as a client sends them to an OpenAI-compatible API, with or without
times and answers.

    {"timestamp": 12.5, "session_id": "s1", "max_tokens": 200, "completion": "The answer.",
     "messages": [{"role": "system", "content": "…"}, {"role": "user", "content": "…"}]}

Each request is one line. The prompt is `messages` (with `tools`), or `prompt`: a text or a list of token
ids. All of it may stand under `body`, as in files for batch APIs. The time is `arrival_s`, `arrival`,
`arrival_time`, `timestamp` or `created`, in seconds, in milliseconds since 1970, or a date; without times the
loop is closed and turns of a `session_id` follow each other. The answer's length is `output_tokens` or
`completion_tokens`, also under `usage`; else that of the recorded answer (`completion`, `answer`, `response`,
or a last message of the assistant); else `max_tokens`.

There is no tokenizer: a token is 4 bytes of UTF-8 (an option), which also holds for what two prompts share.
A prompt whose messages go on from a recorded answer shares that answer's tokens with whoever wrote it.
"""

from __future__ import annotations

from array import array
from typing import Final, final

import msgspec
from xxhash import xxh3_64_intdigest

from warmroute_simulator.traces.chains import packed
from warmroute_simulator.traces.checks import quantum_of
from warmroute_simulator.traces.continued import NO_ROW, ContinuedPrompts
from warmroute_simulator.traces.prompts import PromptTree
from warmroute_simulator.traces.source import BAD_LINE, MOST_TOKENS, Id, Malformed, Source
from warmroute_simulator.traces.text_lines import (
    IMAGE_TOKENS,
    TextLine,
    arrival_s,
    content_of,
    counted_tokens,
    recorded_answer,
    rendered,
)
from warmroute_simulator.traces.trace import NO_SESSION, NOTHING, Trace

BLOCK_TOKENS: Final = 16

# What common benchmarks ask for when nothing is said.
_OUTPUT_TOKENS: Final = 128

# Ids of tokens as 32-bit numbers: hashed like a text of this many bytes per token.
_ID_BYTES: Final = 4


def read(source: Source) -> Trace:
    """Texts as a trace: open loop when the lines have times. Raises TraceError."""
    return _Reader(source).read()


@final
class _Reader:
    """State: the trace so far, its prompts, recorded answers by the hash of all up to their end, and the
    sessions with their latest rows."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._trace = Trace(source.name, PromptTree())
        self._prompts = ContinuedPrompts()
        self._bytes_per_token = source.options.bytes_per_token
        self._block_tokens = source.options.block_tokens or BLOCK_TOKENS
        self._answers: dict[int, int] = {}
        self._sessions: dict[Id, int] = {}
        self._latest: dict[Id, int] = {}
        self._timed: bool | None = None

    def read(self) -> Trace:
        source, trace, prompts = self._source, self._trace, self._prompts
        decode = msgspec.json.Decoder(TextLine).decode
        for number, text in source.lines():
            if source.enough(trace):
                break
            try:
                self._add(decode(text))
            except BAD_LINE as error:
                source.reject(number, text, error)
        trace.tree, trace.prompts, trace.answers = prompts.tree()
        if self._timed is False:
            self._close_loop()
        else:
            trace.after = array("i", [NOTHING]) * len(trace)
            trace.quantum_s = quantum_of(trace.arrivals_s)
        return trace

    def _add(self, line: TextLine) -> None:
        """Writes. One request. Raises Malformed, and has then changed nothing."""
        came_s = arrival_s(line)
        if self._timed is not None and self._timed is not (came_s is not None):
            raise Malformed("timestamp", "a time in every line or in none")
        body = line.body or line
        answer = recorded_answer(line) or recorded_answer(body)
        messages, digests = body.messages, list[int]()
        token_ids = body.input_tok_ids if body.input_tok_ids is not None else body.prompt
        bytes_per_token = self._bytes_per_token
        if messages is not None:
            if messages and messages[-1].role == "assistant" and answer is None:
                answer = content_of(messages[-1], f"messages[{len(messages) - 1}]", 0)
                messages = messages[:-1]
            material, digests = rendered(body.tools, messages, int(IMAGE_TOKENS * bytes_per_token))
        elif isinstance(token_ids, list):
            material, bytes_per_token, answer = array("I", token_ids).tobytes(), float(_ID_BYTES), None
        else:
            text = body.text_input if token_ids is None else token_ids
            if text is None:
                raise Malformed("messages", "`messages` or `prompt`, a text or token ids")
            material = text.encode()
        tokens = max(1, int(len(material) / bytes_per_token))
        if tokens > MOST_TOKENS:
            raise Malformed(None, f"at most {MOST_TOKENS} tokens", tokens)
        output_tokens = self._output_tokens(line, body, answer)
        self._timed = came_s is not None
        ids, rest = self._hashed(material, tokens, bytes_per_token)
        row = self._prompts.add(ids, tokens / self._block_tokens, tokens, output_tokens)
        self._prompts.rest_ids[row] = rest
        self._prompts.continues[row] = next(
            (self._answers[digest] for digest in reversed(digests) if digest in self._answers), NO_ROW
        )
        if answer and messages is not None:
            self._answers[xxh3_64_intdigest(material + answer)] = row
        name = line.session_id if line.session_id is not None else line.conversation_id
        session, after = NO_SESSION, NOTHING
        if name is not None:
            session = self._sessions.setdefault(name, len(self._sessions))
            after = self._latest.get(name, NOTHING)
            self._latest[name] = row
        self._trace.add(0, output_tokens, arrival_s=came_s or 0.0, session=session, after=after)

    def _hashed(self, material: bytes, tokens: int, bytes_per_token: float) -> tuple[array[int], int]:
        """Reads. Chained ids of the whole blocks, and one for the rest."""
        block_bytes = self._block_tokens * bytes_per_token
        seed, start = 0, 0
        ids: list[int] = []
        for block in range(1, tokens // self._block_tokens + 1):
            stop = int(block * block_bytes)
            seed = xxh3_64_intdigest(material[start:stop], seed)
            ids.append(seed)
            start = stop
        return packed(ids), xxh3_64_intdigest(material[start:], seed)

    def _output_tokens(self, line: TextLine, body: TextLine, answer: bytes | None) -> int:
        """Writes (counts). The answer's length."""
        tokens = counted_tokens(line)
        if tokens is None:
            tokens = counted_tokens(body)
        if tokens is None and answer is not None:
            tokens = int(len(answer) / self._bytes_per_token)
        if tokens is None:
            tokens = body.max_completion_tokens or body.max_tokens or line.max_tokens
        if tokens is None:
            self._source.count(f"requests tell nothing of their answers; {_OUTPUT_TOKENS} tokens are assumed")
            tokens = _OUTPUT_TOKENS
        return max(1, tokens)

    def _close_loop(self) -> None:
        """Writes. Without times, turns follow each other; a request without a session is one of its own."""
        trace = self._trace
        trace.closed_loop = True
        trace.notes.append("no line has a time: sessions start when the simulation says")
        sessions = trace.session_count
        for row, session in enumerate(trace.sessions):
            if session == NO_SESSION:
                trace.sessions[row] = sessions
                sessions += 1
