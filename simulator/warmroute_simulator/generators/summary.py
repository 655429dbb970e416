"""What one wants to know of a trace before replaying it, in one pass over its tree.

Reuse is that of one cache without limits which serves the requests row by row: the share of all prompt tokens
that stand on nodes which an earlier prompt or a continued answer has filled. It is a bound for the trace and
not a forecast: requests that overlap in time can reuse less, and engines cache whole pages and compute at
least one token.
"""

from __future__ import annotations

from dataclasses import dataclass

from warmroute_simulator.traces.prompts import ROOT
from warmroute_simulator.traces.trace import Trace


@dataclass(frozen=True, slots=True)
class TraceSummary:
    trace: str
    requests: int
    sessions: int
    closed_loop: bool
    prompt_tokens: int
    output_tokens: int
    longest_tokens: int
    """Prompt and answer of the longest request: what a worker must be able to hold."""
    reused_tokens: int
    span_s: float
    """From the first arrival to the last; in closed loop, from the first session's beginning."""
    nodes: int
    notes: tuple[str, ...]

    @property
    def reuse(self) -> float:
        """Share of the prompt tokens, 0 to 1."""
        return self.reused_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


def summarise(trace: Trace) -> TraceSummary:
    """Reads."""
    tree = trace.tree
    parents, ends = tree.parents, tree.ends
    filled = bytearray(len(tree))
    filled[ROOT] = True
    prompt_tokens = reused = longest = 0
    for prompt, answer, output in zip(trace.prompts, trace.answers, trace.output_tokens, strict=True):
        node = prompt
        while not filled[node]:
            filled[node] = True
            node = parents[node]
        filled[answer] = True
        reused += ends[node]
        prompt_tokens += ends[prompt]
        longest = max(longest, ends[prompt] + output)
    arrivals = trace.arrivals_s
    return TraceSummary(
        trace=trace.name,
        requests=len(trace),
        sessions=trace.session_count,
        closed_loop=trace.closed_loop,
        prompt_tokens=prompt_tokens,
        output_tokens=sum(trace.output_tokens),
        longest_tokens=longest,
        reused_tokens=reused,
        span_s=arrivals[-1] - arrivals[0] if arrivals else 0.0,
        nodes=len(tree) - 1,
        notes=tuple(trace.notes),
    )
