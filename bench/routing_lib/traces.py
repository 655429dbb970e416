"""Where a study's traces come from: values that another process can read a trace from.

Seeds need something to change. A made-up trace is another one with each seed. Sessions in closed loop start
at other moments and in another order. Arrivals of an open-loop recording are spread inside the ticks of its
clock; where that clock is exact, they are spread over a second all the same (`spread_s`): bursts of minutes
stay what they are, and which of two neighbours comes first is chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from warmroute_simulator.generators.registry import generate
from warmroute_simulator.study.halves import picked
from warmroute_simulator.traces.formats import ReadOptions, read_trace
from warmroute_simulator.traces.trace import Trace


@dataclass(frozen=True, slots=True)
class Source:
    """One trace, or one for each seed."""

    text: str
    """What tells it apart: a run is kept under it."""
    requests: int
    """About as many, to guess how long a run takes."""
    path: Path | None = None
    """None: made up, by what `text` says."""
    spread_s: float = 0.0
    sessions: int | None = None
    """Closed loop: only so many."""
    longest_tokens: int | None = None
    """Closed loop: only sessions whose prompts and answers never exceed it together."""

    @property
    def present(self) -> bool:
        """Reads. Whether it can be read here."""
        return self.path is None or self.path.exists()

    def key(self, seed: int) -> int:
        """Reads. Seeds with equal keys have the same trace."""
        return seed if self.path is None else 0

    def read(self, seed: int) -> Trace:
        """Reads. Raises ValueError, TraceError, ConfigError or OSError with a message for the user."""
        if self.path is None:
            return generate(self.text, seed)
        trace = read_trace(self.path, ReadOptions(share_prefixes=True))
        trace.quantum_s = max(trace.quantum_s, self.spread_s)
        return trace if self.sessions is None else self._some_sessions(trace, self.sessions)

    def _some_sessions(self, trace: Trace, count: int) -> Trace:
        longest = self.longest_tokens
        too_long = {
            session
            for session, prompt, output in zip(
                trace.sessions, trace.prompts, trace.output_tokens, strict=True
            )
            if longest is not None and trace.tree.ends[prompt] + output > longest
        }
        kept = {session for session in range(trace.session_count) if session not in too_long}
        first = set(sorted(kept)[:count])
        rows = [row for row, session in enumerate(trace.sessions) if session in first]
        return picked(trace, rows, f"{len(first)} sessions")


def made_up(spec: str, requests: int) -> Source:
    """Reads. What a generator makes, so many requests of it."""
    return Source(f"{spec}{',' if ':' in spec else ':'}requests={requests}", requests)


def recorded(
    folder: Path,
    file: str,
    *,
    requests: int,
    spread_s: float = 0.0,
    sessions: int | None = None,
    longest_tokens: int | None = None,
) -> Source:
    """Reads. A file below the folder of traces; where that folder is tells no runs apart."""
    text = file
    if spread_s:
        text += f", arrivals spread over {spread_s:g} s"
    if sessions is not None:
        text += f", {sessions} sessions"
    if longest_tokens is not None:
        text += f" of at most {longest_tokens:,} tokens"
    return Source(text, requests, folder / file, spread_s, sessions, longest_tokens)
