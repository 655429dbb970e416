"""The traffic of the demo: sessions of agents, chats and document questions, made from a seed.

How it is made. Nothing here knows a policy, a worker or a block. Lengths follow what is published of such
traffic in shape, and are shorter so that a session fits into seconds:

- *Agents* share one of three long prompts of instructions and tools (about 8,000 tokens), get a task of their
  own, and go step by step: a short answer, a tool's output (log-normal), the next step after a tool call's
  time. Half of them fan out once: three side questions on the whole context at once, whose answers come back
  as one message.
- *Chats* share one of six system prompts (about 1,200 tokens); three to six short turns with time to read.
- *RAG* asks one question about one of 80 documents (about 3,000 tokens), popularity by Zipf.

Sessions start at random in the first part of the given time, and then run in a closed loop: a turn follows
the answer before it. Their number is proportional to the time. At 20 s they make about 550 requests of 4.3
million prompt tokens, four fifths of them from agents; four engines of the default preset would need 27 s to
prefill all that if they cached nothing. Both policies play the same list, so they differ only in where a
request goes.

Rules kept: pure; all chance is the `Random` of the seed; a token is taken as 4 bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import accumulate
from random import Random

BYTES_PER_TOKEN = 4

AGENTS_PER_S = 1.0
AGENT_KINDS = 3
AGENT_SYSTEM_TOKENS = 8000
AGENT_STEPS = (6, 12)
AGENT_TASK_TOKENS = (500, 6000)
"""The task and the files that it names."""
TOOL_OUTPUT_TOKENS = 700
TOOL_OUTPUT_SPREAD = 1.4
TOOL_OUTPUT_TOKENS_MAX = 10_000
"""Median, log-normal sigma (the ninetieth percentile is six times the median) and the tool's own limit."""
TOOL_CALL_S = (0.1, 0.6)
FAN_OUT = 3

CHATS_PER_S = 2.5
CHAT_KINDS = 6
CHAT_SYSTEM_TOKENS = 1200
CHAT_TURNS = (3, 6)
READING_S = (0.8, 2.5)
"""People are slower; the pause only has to be long beside an answer."""

QUESTIONS_PER_S = 6.0
DOCUMENTS = 80
DOCUMENT_TOKENS = (2000, 4000)
ZIPF_EXPONENT = 1.0
"""About what is measured of requests for web pages and documents."""

STARTS_WITHIN = 0.6
"""Share of the time in which sessions start; the rest is for the last of them to end."""

FULL_PAUSES_S = 20.0
"""A shorter demo has shorter pauses in proportion, or its sessions would outlast it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One request of a session, or several at once."""

    pause_s: float
    """After the answer before it."""
    role: str
    text: str
    """What is appended to the conversation before it is sent."""
    answer_tokens: int
    branches: tuple[str, ...] = ()
    """Side questions, each sent behind the same conversation; their answers do not become part of it."""


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation, as its client will play it."""

    kind: str
    """agent, chat or rag"""
    name: str
    """Sent as x-session-id."""
    starts_at_s: float
    system: str
    tools: str
    """A JSON array, or empty."""
    turns: tuple[Turn, ...]

    @property
    def requests(self) -> int:
        return sum(max(1, len(turn.branches)) for turn in self.turns)


def sessions(duration_s: float, seed: int) -> list[Session]:
    """All sessions, by start. At least one of each kind, however short the time."""
    writer = Writer(Random(seed))
    made = [*_agents(duration_s, writer), *_chats(duration_s, writer), *_questions(duration_s, writer)]
    return sorted(made, key=lambda session: session.starts_at_s)


class Writer:
    """Text of a wanted length. State: the chance it draws from."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "is")]
        # Phrases and not words: a call per phrase makes a megabyte in a few hundredths of a second.
        self._phrases = [
            " ".join("".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(8)) + ". "
            for _ in range(2000)
        ]
        self._phrase_bytes = sum(map(len, self._phrases)) / len(self._phrases)

    def text(self, tokens: float) -> str:
        """About that many tokens."""
        size = max(BYTES_PER_TOKEN, round(tokens * BYTES_PER_TOKEN))
        phrases = self.chance.choices(self._phrases, k=int(size / self._phrase_bytes * 1.2) + 2)
        return "".join(phrases)[:size]


def _starts(per_s: float, duration_s: float, chance: Random) -> list[float]:
    """When each of the sessions starts."""
    count = max(1, round(per_s * duration_s))
    return [chance.uniform(0, STARTS_WITHIN * duration_s) for _ in range(count)]


def _pause_s(between_s: tuple[float, float], duration_s: float, chance: Random) -> float:
    return chance.uniform(*between_s) * min(1.0, duration_s / FULL_PAUSES_S)


def _agents(duration_s: float, writer: Writer) -> list[Session]:
    chance = writer.chance
    kinds = [(writer.text(AGENT_SYSTEM_TOKENS / 2), _tools(writer)) for _ in range(AGENT_KINDS)]
    made = []
    for number, starts_at_s in enumerate(_starts(AGENTS_PER_S, duration_s, chance)):
        system, tools = chance.choice(kinds)
        steps = chance.randint(*AGENT_STEPS)
        fans_out_at = chance.randrange(2, steps) if chance.random() < 0.5 else None
        task = "Task: " + writer.text(chance.randint(*AGENT_TASK_TOKENS))
        turns = [Turn(0.0, "user", task, _answer_tokens(chance))]
        for step in range(1, steps):
            output = "Tool output: " + writer.text(_tool_output_tokens(chance))
            branches = tuple(writer.text(60) for _ in range(FAN_OUT)) if step == fans_out_at else ()
            turns += [
                Turn(
                    _pause_s(TOOL_CALL_S, duration_s, chance),
                    "user",
                    output,
                    _answer_tokens(chance),
                    branches,
                )
            ]
        made.append(Session("agent", f"agent-{number}", starts_at_s, system, tools, tuple(turns)))
    return made


def _chats(duration_s: float, writer: Writer) -> list[Session]:
    chance = writer.chance
    kinds = [writer.text(CHAT_SYSTEM_TOKENS) for _ in range(CHAT_KINDS)]
    made = []
    for number, starts_at_s in enumerate(_starts(CHATS_PER_S, duration_s, chance)):
        turns = tuple(
            Turn(
                _pause_s(READING_S, duration_s, chance) if turn else 0.0,
                "user",
                writer.text(chance.randint(15, 120)),
                chance.randint(40, 160),
            )
            for turn in range(chance.randint(*CHAT_TURNS))
        )
        made.append(Session("chat", f"chat-{number}", starts_at_s, chance.choice(kinds), "", turns))
    return made


def _questions(duration_s: float, writer: Writer) -> list[Session]:
    chance = writer.chance
    documents = [writer.text(chance.randint(*DOCUMENT_TOKENS)) for _ in range(DOCUMENTS)]
    popularity = list(accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, DOCUMENTS + 1)))
    made = []
    for number, starts_at_s in enumerate(_starts(QUESTIONS_PER_S, duration_s, chance)):
        (document,) = chance.choices(documents, cum_weights=popularity)
        text = f"Answer from this document.\n\n{document}\n\nQuestion: {writer.text(25)}"
        turn = Turn(0.0, "user", text, chance.randint(30, 120))
        made.append(Session("rag", f"rag-{number}", starts_at_s, "", "", (turn,)))
    return made


def _answer_tokens(chance: Random) -> int:
    """Agents mostly call a tool and say little."""
    return chance.randint(30, 120)


def _tool_output_tokens(chance: Random) -> float:
    return min(TOOL_OUTPUT_TOKENS_MAX, TOOL_OUTPUT_TOKENS * chance.lognormvariate(0.0, TOOL_OUTPUT_SPREAD))


def _tools(writer: Writer) -> str:
    tools = [
        {
            "type": "function",
            "function": {
                "name": f"tool_{number}",
                "description": writer.text(AGENT_SYSTEM_TOKENS / 2 / 12),
                "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
            },
        }
        for number in range(10)
    ]
    return json.dumps(tools)
