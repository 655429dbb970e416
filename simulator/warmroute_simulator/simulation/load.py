"""What `--load 0.8` means: how fast a trace must be played to use that share of what a fleet can do.

The fleet's capacity is an estimate that knows no router: each worker serves the trace's requests one batch
after the other, computes of every prompt what a single endless cache would leave (U1), and decodes in
batches as large as its KV cache and its sequence limit allow. At a load of 1 the workers of a perfect
router would never rest; where the knee of a real one lies, `simulator sweep` finds out.

    seconds of a request on a worker = W(miss) + output · decode(B, B·context) / B
    B = min(sequences, KV tokens / mean context)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from warmroute_simulator.engine import EngineConfig
from warmroute_simulator.simulation.arrivals import ArrivalPlan, Starts
from warmroute_simulator.simulation.fleet import WorkerPlan
from warmroute_simulator.traces.prompts import ROOT
from warmroute_simulator.traces.trace import Trace

MOST_LOAD: Final = 10.0
"""Far past any knee. Whoever asks for 80 means 80 %."""


def at_load(plan: ArrivalPlan, load: float, trace: Trace, fleet: tuple[WorkerPlan, ...]) -> ArrivalPlan:
    """The plan that offers `load` times the fleet's capacity: by speed in open loop, by how often sessions
    start (a Poisson process) in closed loop.

    Raises ValueError when the load makes no sense, or when all requests of the trace come at once.
    """
    if not 0 < load <= MOST_LOAD:
        raise ValueError(
            f"the load must be above 0 and at most {MOST_LOAD:g}, not {load:g}; 80 % of the capacity are 0.8"
        )
    rate = load * capacity_per_s(trace, fleet)
    if trace.closed_loop:
        return replace(
            plan, starts=Starts.POISSON, sessions_per_s=rate * trace.session_count / max(1, len(trace))
        )
    span_s = max(trace.arrivals_s, default=0.0) - min(trace.arrivals_s, default=0.0) + trace.quantum_s
    if span_s <= 0:
        raise ValueError("all requests of the trace come at once: it has no rate that a load could change")
    return replace(plan, speed=rate * span_s / len(trace))


def capacity_per_s(trace: Trace, fleet: tuple[WorkerPlan, ...]) -> float:
    """Requests of the trace that the fleet could serve in a second."""
    misses = first_seen_tokens(trace)
    return sum(1.0 / _mean_service_s(trace, misses, worker.engine) for worker in fleet)


def first_seen_tokens(trace: Trace) -> list[int]:
    """By row: tokens of the prompt that no earlier row had; at least one, which engines always compute."""
    parents, ends = trace.tree.parents, trace.tree.ends
    seen = bytearray(len(trace.tree))
    seen[ROOT] = 1
    misses = []
    for prompt, answer in zip(trace.prompts, trace.answers, strict=True):
        node = prompt
        while not seen[node]:
            seen[node] = 1
            node = parents[node]
        seen[answer] = 1
        misses.append(max(1, ends[prompt] - ends[node]))
    return misses


def _mean_service_s(trace: Trace, misses: list[int], engine: EngineConfig) -> float:
    if not misses:
        return 1.0
    ends, latency = trace.tree.ends, engine.latency
    rows = len(misses)
    price = latency.price
    prefill_s = sum(
        price.seconds(miss, ends[prompt]) for miss, prompt in zip(misses, trace.prompts, strict=True)
    )
    output_tokens = sum(trace.output_tokens)
    context = sum(ends[prompt] for prompt in trace.prompts) / rows + output_tokens / rows / 2
    batch = max(1.0, min(engine.max_num_seqs, engine.kv_tokens / context))
    step_ms = latency.d0 + latency.d1 * batch + latency.d2 * batch * context / 1000
    return (prefill_s + output_tokens * step_ms / 1000 / batch) / rows
