"""Conversations: each next prompt is the one before, its answer, and a new message.

    root ── system prompt ──┬── message ── answer ── message ── answer ── message
                            └── message ── answer ── …

Sessions begin as a Poisson process. Open loop: each next message comes when an answer of that length would
have been read on an unhurried engine, so that a slow fleet does not slow its users down. Closed loop: it
comes a think time after the answer ended.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random
from typing import Self, final

from warmroute_simulator.generators.lengths import LONGEST, Durations, Lengths
from warmroute_simulator.generators.popularity import Popularity, require_exponent
from warmroute_simulator.generators.workload import (
    REQUESTS,
    about,
    poisson_times,
    require,
    require_load,
    rows_until,
)
from warmroute_simulator.traces.prompts import ROOT
from warmroute_simulator.traces.trace import NOTHING, Trace


@dataclass(frozen=True, slots=True)
class Chat:
    """Default answers have the median and the 90th percentile of Mooncake's public trace of conversations.
    Messages, turns and pauses are a chat's that people type: some paste a document."""

    system_prompts: int = field(
        default=4, metadata=about("different system prompts that sessions share; 0: none")
    )
    system_tokens: Lengths = field(
        default=Lengths.parse("500-2000"), metadata=about("length of a system prompt")
    )
    zipf_exponent: float = field(default=1.0, metadata=about("popularity of system prompts; 0: all alike"))
    turns: Lengths = field(
        default=Lengths.parse("lognormal(4,0.8,1,40)"), metadata=about("messages in a session")
    )
    message_tokens: Lengths = field(
        default=Lengths.parse("lognormal(80,1.5,5,20000)"), metadata=about("length of a user's message")
    )
    output_tokens: Lengths = field(
        default=Lengths.parse("lognormal(350,0.42,10,2000)"), metadata=about("length of an answer")
    )
    think_s: Durations = field(
        default=Durations.parse("lognormal(30,1.2,1,600)"),
        metadata=about("pause between an answer and the next message"),
    )
    context_tokens: int = field(
        default=131_072, metadata=about("a session ends before prompt and answer exceed it")
    )
    closed_loop: bool = field(
        default=False, metadata=about("a message waits until the answer before it ended")
    )
    # 50 tokens per second, what readers of a stream are usually promised.
    token_s: float = field(default=0.02, metadata=about("open loop: assumed time for one token of an answer"))
    sessions_per_s: float = field(
        default=2.0, metadata=about("sessions that begin per second, a Poisson process")
    )
    requests: int | None = field(default=None, metadata=REQUESTS)
    duration_s: float | None = field(
        default=None,
        metadata=about("sessions begin during so many seconds; in open loop nothing comes later"),
    )

    def __post_init__(self) -> None:
        require(self.system_prompts >= 0, "system_prompts must not be negative")
        require_exponent("zipf_exponent", self.zipf_exponent)
        require(self.token_s >= 0, "token_s must not be negative")
        require(self.context_tokens <= LONGEST, f"context_tokens must not exceed {LONGEST:,}")
        system = self.system_tokens.most if self.system_prompts else 0
        first = system + self.message_tokens.most + self.output_tokens.most
        require(
            first <= self.context_tokens,
            f"context_tokens must hold the longest first turn, {first} tokens; it is {self.context_tokens}",
        )
        require_load("sessions_per_s", self.sessions_per_s, self.requests, self.duration_s)

    def at_rate(self, rate_per_s: float, requests: int | None, duration_s: float | None) -> Self:
        return dataclasses.replace(
            self, sessions_per_s=rate_per_s / self.turns.mean, requests=requests, duration_s=duration_s
        )

    def fill(self, trace: Trace, chance: Random, begin_s: float) -> None:
        stop = rows_until(trace, self.requests, self.duration_s)
        conversations = self._conversations(trace, chance, begin_s)
        if not self.closed_loop:
            self._in_time(trace, conversations, stop, begin_s)
            return
        for conversation in conversations:
            while len(trace) != stop and conversation.say():
                pass
            if len(trace) == stop:
                return

    def _conversations(self, trace: Trace, chance: Random, begin_s: float) -> Iterator[_Conversation]:
        add = trace.tree.add
        systems = [add(ROOT, self.system_tokens.draw(chance)) for _ in range(self.system_prompts)] or [ROOT]
        popularity = Popularity(len(systems), self.zipf_exponent)
        sessions = count(trace.session_count)
        for start_s in poisson_times(chance, self.sessions_per_s, begin_s, self.duration_s):
            system = systems[popularity.draw(chance)]
            yield _Conversation(self, trace, chance, next(sessions), start_s, system)

    def _in_time(
        self, trace: Trace, conversations: Iterator[_Conversation], stop: int | None, begin_s: float
    ) -> None:
        """Writes. Rows in the order in which they come, so that the trace ends in the midst of sessions, as a
        recording does, and not with the few longest ones."""
        end_s = inf if self.duration_s is None else begin_s + self.duration_s
        newest = next(conversations, None)
        waiting = [] if newest is None else [(newest.at_s, newest.session, newest)]
        while waiting and len(trace) != stop:
            at_s, _, speaker = heappop(waiting)
            if at_s >= end_s:
                return
            if speaker is newest:
                newest = next(conversations, None)
                if newest is not None:
                    heappush(waiting, (newest.at_s, newest.session, newest))
            if speaker.say():
                heappush(waiting, (speaker.at_s, speaker.session, speaker))


@final
class _Conversation:
    """State: its last row, and the message that comes next and when; it writes its session's rows."""

    __slots__ = (
        "_chance", "_config", "_left", "_message", "_output", "_row", "_start_s", "_system", "_think_s",
        "_trace", "at_s", "session",
    )  # fmt: skip

    def __init__(
        self, config: Chat, trace: Trace, chance: Random, session: int, start_s: float, system: int
    ) -> None:
        self._config, self._trace, self._chance = config, trace, chance
        self.session, self._start_s, self.at_s = session, start_s, start_s
        self._system, self._row, self._think_s = system, NOTHING, 0.0
        self._left = config.turns.draw(chance)
        self._message, self._output = config.message_tokens.draw(chance), config.output_tokens.draw(chance)

    def say(self) -> bool:
        """Writes. The row of the next message; whether there is another one, at `at_s`."""
        config, trace, chance, row = self._config, self._trace, self._chance, self._row
        tree, output = trace.tree, self._output
        before = self._system
        if row != NOTHING:
            before = trace.answers[row] = tree.add(trace.prompts[row], trace.output_tokens[row])
        prompt = tree.add(before, self._message)
        if config.closed_loop:
            self._row = trace.add(
                prompt,
                output,
                arrival_s=self._start_s,
                session=self.session,
                after=row,
                think_s=self._think_s,
            )
        else:
            self._row = trace.add(prompt, output, arrival_s=self.at_s, session=self.session)
        self._left -= 1
        if not self._left:
            return False
        self._message, self._output = config.message_tokens.draw(chance), config.output_tokens.draw(chance)
        self._think_s = config.think_s.draw(chance)
        self.at_s += output * config.token_s + self._think_s
        return tree.ends[prompt] + output + self._message + self._output <= config.context_tokens
