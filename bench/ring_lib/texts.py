"""A trace's prompts as the messages of a chat, whose common beginnings are as long as the trace says.

A node of the tree is one text, made of words of four bytes: what the built-in engines count as a token. The
first node of a path is the system prompt where no prompt ends with it, what follows is a user's message (or
a tool's result, as a user's message), and a node that an answer filled is the assistant's message, with the
text that *this* contestant's engine has answered. The built-in engines' answers follow from the prompt, so
they are the same bytes for everybody.
"""

from __future__ import annotations

from random import Random

import msgspec

from warmroute_simulator.serve.tokens import WORDS
from warmroute_simulator.traces.trace import NO_SESSION, Trace


class Script:
    """The requests of one trace as bytes. State: texts of nodes, and the answers that came."""

    def __init__(self, trace: Trace, seed: int, model: str) -> None:
        self.trace = trace
        self._seed, self._model = seed, model
        self._texts: dict[int, str] = {}
        self._answered = {
            answer: row
            for row, (prompt, answer) in enumerate(zip(trace.prompts, trace.answers, strict=True))
            if prompt != answer
        }
        self._ends = set(trace.prompts)
        self._answers: dict[int, str] = {}

    def wants(self, row: int) -> bool:
        """Reads. Whether a later prompt holds this row's answer."""
        return self.trace.prompts[row] != self.trace.answers[row]

    def answer(self, row: int, text: str) -> None:
        """Writes."""
        self._answers[row] = text

    def body(self, row: int) -> bytes:
        """Writes (remembers texts). The request of this row; answers before it must have come."""
        return msgspec.json.encode(
            {
                "model": self._model,
                "messages": self.messages(row),
                "max_tokens": self.trace.output_tokens[row],
                "ignore_eos": True,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )

    def session(self, row: int) -> str:
        """Reads. Its name; a request that belongs to none is one of its own. Every contestant is told it."""
        session = self.trace.sessions[row]
        return f"{self._seed}-r{row}" if session == NO_SESSION else f"{self._seed}-{session}"

    def messages(self, row: int) -> list[dict[str, str]]:
        """Writes (remembers texts)."""
        path = self.trace.tree.path(self.trace.prompts[row])
        messages: list[dict[str, str]] = []
        for place, node in enumerate(path):
            answered = self._answered.get(node)
            if answered is not None:
                messages.append({"role": "assistant", "content": self._answers[answered]})
            elif place == 0 and node not in self._ends:
                messages.append({"role": "system", "content": self._text(node)})
            elif messages and messages[-1]["role"] == "user":
                messages[-1]["content"] += self._text(node)
            else:
                messages.append({"role": "user", "content": self._text(node)})
        return messages

    def _text(self, node: int) -> str:
        text = self._texts.get(node)
        if text is None:
            tree = self.trace.tree
            tokens = tree.ends[node] - tree.start(node)
            values = Random(f"{self._seed}/{node}").randbytes(tokens)
            text = self._texts[node] = b"".join([WORDS[value] for value in values]).decode()
        return text
