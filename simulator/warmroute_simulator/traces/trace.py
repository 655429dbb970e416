"""A trace: what was asked for, when, and which prompts begin alike; columns, a row for each request.

Two kinds of time. *Open loop*: a request comes when the trace says, however busy the fleet is. *Closed loop*
(agents): a request comes `think_s` after the requests that it waits for have ended; a session's first
requests come when the session starts, and when that is the simulation decides (lanes, or a Poisson process).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from warmroute_simulator.traces.prompts import ROOT, PromptTree

NO_SESSION = -1
NOTHING = -1
"""In `after`: the request waits for no other."""


@dataclass(slots=True)
class Trace:
    """State: the columns. Row numbers are the requests' names everywhere in the simulator."""

    name: str
    """The file, or what the generator was asked for."""
    tree: PromptTree
    closed_loop: bool = False
    quantum_s: float = 0.0
    """Arrivals were rounded down to multiples of it; a simulation spreads them. 0: they are exact."""
    notes: list[str] = field(default_factory=list)
    """What a reader should know of the import: lines skipped, assumptions made."""
    skipped: int = 0
    """Lines that were malformed and passed over."""

    prompts: array[int] = field(default_factory=lambda: array("i"))
    """Node of the tree at which each prompt ends."""
    answers: array[int] = field(default_factory=lambda: array("i"))
    """Node that the answer's tokens fill, a child of the prompt's, when a later prompt goes on from it;
    else the prompt's own node: nobody ever asks for this answer's KV again."""
    output_tokens: array[int] = field(default_factory=lambda: array("i"))
    arrivals_s: array[float] = field(default_factory=lambda: array("d"))
    """Open loop: seconds since the trace's beginning. Closed loop: when the session starts where the trace
    knows it, the same for all its rows; else 0. A simulation may go by it or decide for itself."""
    sessions: array[int] = field(default_factory=lambda: array("i"))
    """Number of the session, from 0 on without a gap, or NO_SESSION."""
    after: array[int] = field(default_factory=lambda: array("i"))
    """Closed loop: the request that must have ended before, an earlier row, or NOTHING."""
    think_s: array[float] = field(default_factory=lambda: array("d"))
    """Closed loop: how long the client waits after that, or after the session's start."""
    also_after: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Further requests that must have ended, for rows that join several (sub-agents)."""

    def __len__(self) -> int:
        return len(self.output_tokens)

    @property
    def session_count(self) -> int:
        return max(self.sessions, default=NO_SESSION) + 1

    def prompt_tokens(self, row: int) -> int:
        return self.tree.ends[self.prompts[row]]

    def add(
        self,
        prompt: int,
        output_tokens: int,
        *,
        arrival_s: float = 0.0,
        answer: int = ROOT,
        session: int = NO_SESSION,
        after: int = NOTHING,
        think_s: float = 0.0,
        also_after: Sequence[int] = (),
    ) -> int:
        """Writes. One more request; its row. `answer` ROOT: nobody continues its answer.

        A reader that learns of the nodes only at the end may pass any `prompt` and set the columns
        `prompts` and `answers` then.
        """
        row = len(self.output_tokens)
        self.prompts.append(prompt)
        self.answers.append(answer if answer != ROOT else prompt)
        self.output_tokens.append(output_tokens)
        self.arrivals_s.append(arrival_s)
        self.sessions.append(session)
        self.after.append(after)
        self.think_s.append(think_s)
        if also_after:
            self.also_after[row] = tuple(also_after)
        return row

    def head(self, requests: int) -> Trace:
        """Reads. The first `requests` rows. Sessions that are cut stay cut; the tree is shared."""
        rows = slice(0, requests)
        return Trace(
            self.name,
            self.tree,
            self.closed_loop,
            self.quantum_s,
            list(self.notes),
            self.skipped,
            self.prompts[rows],
            self.answers[rows],
            self.output_tokens[rows],
            self.arrivals_s[rows],
            self.sessions[rows],
            self.after[rows],
            self.think_s[rows],
            {row: others for row, others in self.also_after.items() if row < requests},
        )
