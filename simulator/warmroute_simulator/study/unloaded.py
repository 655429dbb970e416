"""The sequence of a trace on a fleet on which nobody ever waits: what bounds are computed for before any run.

An open-loop trace has a sequence without it. A closed-loop trace has none until somebody serves it, and how
long that takes decides which sessions' requests come between each other. Here each request is served at
once and alone, with every prefix cached that came before: no fleet is faster, a real one spreads the same
requests over more time.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from math import nan
from random import Random

from warmroute_simulator.bounds.prefill import PrefillTime
from warmroute_simulator.engine import EngineConfig
from warmroute_simulator.engine.steps import step_seconds
from warmroute_simulator.simulation.arrivals import ArrivalPlan, Arrivals
from warmroute_simulator.simulation.kernel import Kernel
from warmroute_simulator.traces.prompts import ROOT
from warmroute_simulator.traces.trace import Trace


@dataclass(slots=True)
class Unloaded:
    """Rows in the order in which they come, and when each of them does, in seconds by row."""

    order: array[int]
    arrived_s: array[float]


def unloaded(trace: Trace, plan: ArrivalPlan, chance: Random, engine: EngineConfig) -> Unloaded:
    """Reads. Every row of the trace comes, as the plan says. Raises ValueError for a closed-loop trace with
    requests of no session."""
    sequence = Unloaded(array("i"), array("d", [nan]) * len(trace))
    kernel = Kernel()
    prefill, latency = PrefillTime.of(engine), engine.latency
    parents, ends = trace.tree.parents, trace.tree.ends
    seen = bytearray(len(trace.tree))
    seen[ROOT] = 1

    def arrive(row: int) -> None:
        sequence.order.append(row)
        sequence.arrived_s[row] = kernel.now
        node, prompt_tokens = trace.prompts[row], trace.prompt_tokens(row)
        while not seen[node]:
            seen[node] = 1
            node = parents[node]
        missing_tokens = max(prompt_tokens - ends[node], 1)
        seen[trace.answers[row]] = 1
        decode_steps = max(trace.output_tokens[row] - 1, 0)
        step_s = step_seconds(latency, [], 1, prompt_tokens + decode_steps // 2)
        kernel.at(
            kernel.now + prefill.alone_s(missing_tokens, prompt_tokens) + decode_steps * step_s, ended, row
        )

    def ended(row: int) -> None:
        arrivals.ended(row, True)

    arrivals = Arrivals(trace, plan, chance, kernel, arrive)
    arrivals.begin()
    kernel.run()
    return sequence
