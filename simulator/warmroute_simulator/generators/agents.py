"""Agents: loops of a model and its tools, with sub-agents and contexts that fill up.

    root ── system + tools of a kind ──┬── task ── answer ── tool's result ── answer ── …
                                       └── task …

    root ── system + tools of its sub-agents ── briefing ──┬── part 1 ── answer ── result ── …
                                                           └── part 2 …

A step's prompt is the one before, its answer (a call of tools) and what the tools said. At some steps the
tools are k sub-agents: they begin alike, run at the same time, and the parent's next step waits for all of
them and reads their last answers. Before prompt and answer would exceed the context, the agent asks for a
summary of the conversation; what follows begins with system prompt, tools and that summary. The summary's
text is new to every cache at that place.

Closed loop: a step comes a think time (tools, people) after the one before has ended. A session's rows are
in the order in which they depend on each other; the rows of sub-agents that run together stand one agent
after the other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar, Final, Self, final

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

# The client's request to summarise the conversation: a page of instructions.
SUMMARISE_TOKENS: Final = 500


@dataclass(frozen=True, slots=True)
class Agents:
    """Defaults have the medians and 90th percentiles of public recordings of a coding agent (360 sessions,
    38 sub-agents). Pauses are cut at two minutes, after which people have left. Recorded sessions start
    sub-agents once in some 600 steps; here it is once in 100, in a session of median length with a chance of
    one in three."""

    closed_loop: ClassVar[bool] = True

    kinds: int = field(
        default=3, metadata=about("kinds of agents; one kind has one system prompt and one set of tools")
    )
    zipf_exponent: float = field(default=1.0, metadata=about("popularity of kinds; 0: all alike"))
    system_tokens: Lengths = field(
        default=Lengths.parse("12000-18000"), metadata=about("length of system prompt and tools")
    )
    task_tokens: Lengths = field(
        default=Lengths.parse("lognormal(9800,0.8,200,60000)"), metadata=about("length of the task")
    )
    steps: Lengths = field(
        default=Lengths.parse("lognormal(41,1.1,1,561)"), metadata=about("steps of an agent")
    )
    output_tokens: Lengths = field(
        default=Lengths.parse("lognormal(215,1.1,10,8000)"), metadata=about("length of an answer")
    )
    result_tokens: Lengths = field(
        default=Lengths.parse("lognormal(500,1.7,10,50000)"),
        metadata=about("length of what the tools of one step say"),
    )
    think_s: Durations = field(
        default=Durations.parse("lognormal(10,2.17,0,120)"),
        metadata=about("from the end of an answer to the next step: tools, people"),
    )
    fan_out_probability: float = field(
        default=0.01, metadata=about("share of steps after which sub-agents run")
    )
    fan_out: Lengths = field(
        default=Lengths.parse("2-4"), metadata=about("sub-agents that run at the same time")
    )
    sub_steps: Lengths = field(
        default=Lengths.parse("lognormal(11,0.6,1,40)"), metadata=about("steps of a sub-agent")
    )
    sub_system_tokens: Lengths = field(
        default=Lengths.parse("8400-10000"), metadata=about("length of sub-agents' system prompt and tools")
    )
    briefing_tokens: Lengths = field(
        default=Lengths.parse("500-3000"), metadata=about("length of what sub-agents are all told")
    )
    part_tokens: Lengths = field(
        default=Lengths.parse("50-500"), metadata=about("length of what each of them is told alone")
    )
    report_tokens: Lengths = field(
        default=Lengths.parse("1500-5000"), metadata=about("length of a sub-agent's last answer")
    )
    context_tokens: int = field(
        default=200_000, metadata=about("prompt and answer never exceed it: summaries replace conversations")
    )
    summary_tokens: Lengths = field(
        default=Lengths.parse("1000-5000"), metadata=about("length of such a summary")
    )
    sessions_per_s: float = field(
        default=0.05, metadata=about("sessions that begin per second, a Poisson process")
    )
    requests: int | None = field(default=None, metadata=REQUESTS)
    duration_s: float | None = field(default=None, metadata=about("sessions begin during so many seconds"))

    def __post_init__(self) -> None:
        require(self.kinds >= 1, "kinds must be at least 1")
        require_exponent("zipf_exponent", self.zipf_exponent)
        require(0 <= self.fan_out_probability <= 1, "fan_out_probability must be 0 to 1")
        require(self.context_tokens <= LONGEST, f"context_tokens must not exceed {LONGEST:,}")
        longest = self._longest_start()
        require(
            longest <= self.context_tokens,
            f"context_tokens must hold the longest beginning and a summary, {longest} tokens; "
            f"it is {self.context_tokens}",
        )
        require_load("sessions_per_s", self.sessions_per_s, self.requests, self.duration_s)

    @property
    def reserve_tokens(self) -> int:
        """Room that is left after each answer, so that the conversation can still be summarised."""
        return SUMMARISE_TOKENS + self.summary_tokens.most

    def _longest_start(self) -> int:
        """The longest prompt and answer of a first step, and of a step after a summary."""
        added, answer = self.result_tokens.most, self.output_tokens.most
        start = self.task_tokens.most
        system = self.system_tokens.most
        if self.fan_out_probability:
            added = max(added, self.fan_out.most * self.report_tokens.most)
            answer = max(answer, self.report_tokens.most)
            start = max(start, self.briefing_tokens.most + self.part_tokens.most)
            system = max(system, self.sub_system_tokens.most)
        return system + max(start, self.summary_tokens.most + added) + answer + self.reserve_tokens

    def at_rate(self, rate_per_s: float, requests: int | None, duration_s: float | None) -> Self:
        fan_outs = (self.steps.mean - 1) * self.fan_out_probability
        each = self.steps.mean + fan_outs * self.fan_out.mean * self.sub_steps.mean
        return dataclasses.replace(
            self, sessions_per_s=rate_per_s / each, requests=requests, duration_s=duration_s
        )

    def fill(self, trace: Trace, chance: Random, begin_s: float) -> None:
        add = trace.tree.add
        systems = [
            (add(ROOT, self.system_tokens.draw(chance)), add(ROOT, self.sub_system_tokens.draw(chance)))
            for _ in range(self.kinds)
        ]
        popularity = Popularity(self.kinds, self.zipf_exponent)
        stop = rows_until(trace, self.requests, self.duration_s)
        session = trace.session_count
        for start_s in poisson_times(chance, self.sessions_per_s, begin_s, self.duration_s):
            if len(trace) == stop:
                break
            system, sub_system = systems[popularity.draw(chance)]
            _Session(self, trace, chance, session, start_s, sub_system, stop).run(system)
            session += 1


@final
class _Session:
    """State: the trace, of which it writes one session's rows, and the chance that it takes."""

    __slots__ = ("chance", "config", "session", "start_s", "stop", "sub_system", "trace")

    def __init__(
        self,
        config: Agents,
        trace: Trace,
        chance: Random,
        session: int,
        start_s: float,
        sub_system: int,
        stop: int | None,
    ) -> None:
        self.config, self.trace, self.chance = config, trace, chance
        self.session, self.start_s = session, start_s
        self.sub_system = sub_system
        self.stop = stop

    @property
    def full(self) -> bool:
        return len(self.trace) == self.stop

    def run(self, system: int) -> None:
        """Writes. The session from the task to the agent's last answer, or to the trace's last row."""
        config, chance = self.config, self.chance
        prompt = self.trace.tree.add(system, config.task_tokens.draw(chance))
        row = self._ask(prompt, config.output_tokens.draw(chance))
        for _ in range(config.steps.draw(chance) - 1):
            if self.full:
                return
            if chance.random() < config.fan_out_probability:
                row = self._fan_out(system, row)
            else:
                row = self._step(system, row, config.output_tokens.draw(chance))

    def _step(self, system: int, row: int, output: int) -> int:
        """Writes. What follows `row` once its tools have run; the last row that there was room for."""
        result = self.config.result_tokens.draw(self.chance)
        return self._go_on(system, row, result, output, (row,), self.config.think_s.draw(self.chance))

    def _fan_out(self, system: int, row: int) -> int:
        """Writes. Sub-agents that begin when `row` has ended, and the step that reads what they report."""
        config, chance, tree = self.config, self.chance, self.trace.tree
        briefing = tree.add(self.sub_system, config.briefing_tokens.draw(chance))
        reports = []
        for _ in range(config.fan_out.draw(chance)):
            if self.full:
                return row
            reports.append(self._sub_agent(briefing, row))
        if self.full:
            return row
        tokens = sum(self.trace.output_tokens[report] for report in reports)
        return self._go_on(system, row, tokens, config.output_tokens.draw(chance), reports, 0.0)

    def _sub_agent(self, briefing: int, parent: int) -> int:
        """Writes. All rows of one sub-agent; the one whose answer is its report."""
        config, chance = self.config, self.chance
        prompt = self.trace.tree.add(briefing, config.part_tokens.draw(chance))
        steps = config.sub_steps.draw(chance)
        row = self._ask(prompt, self._sub_output(steps == 1), after=(parent,))
        for left in range(steps - 2, -1, -1):
            if self.full:
                break
            row = self._step(self.sub_system, row, self._sub_output(left == 0))
        return row

    def _sub_output(self, last: bool) -> int:
        lengths = self.config.report_tokens if last else self.config.output_tokens
        return lengths.draw(self.chance)

    def _go_on(
        self, system: int, row: int, added: int, output: int, after: Sequence[int], think_s: float
    ) -> int:
        """Writes. The step that reads `added` tokens after the conversation up to `row` or its summary."""
        trace, tree = self.trace, self.trace.tree
        before = tree.ends[trace.prompts[row]] + trace.output_tokens[row]
        trace.answers[row] = conversation = tree.add(trace.prompts[row], trace.output_tokens[row])
        if before + added + output + self.config.reserve_tokens > self.config.context_tokens:
            summary = self.config.summary_tokens.draw(self.chance)
            row = self._ask(tree.add(conversation, SUMMARISE_TOKENS), summary, after, think_s)
            if self.full:
                return row
            after, think_s = (row,), 0.0
            conversation = tree.add(system, summary)
        return self._ask(tree.add(conversation, added), output, after, think_s)

    def _ask(self, prompt: int, output: int, after: Sequence[int] = (), think_s: float = 0.0) -> int:
        """Writes. One row that begins `think_s` after all of `after` have ended."""
        return self.trace.add(
            prompt,
            output,
            arrival_s=self.start_s,
            session=self.session,
            after=after[0] if after else NOTHING,
            think_s=think_s,
            also_after=after[1:],
        )
