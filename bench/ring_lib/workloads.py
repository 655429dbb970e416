"""What is played to everybody: four traces, the same for all contestants and another one in every round.

How much is asked for. Eight engines of the fleet's preset, an L40S with a Llama-3.1-8B, prefill 119,000
tokens a second. Rates are such that they would be 60 to 90 % busy with prefills if nothing were ever reused:
busy enough for queues, and below the load at which round robin breaks down, where a single run says little.
Answers are short and of one length: routing decides about prefills, and every streamed token costs the
machine's two cores as much with every contestant.

The recording of Mooncake is played ten times as fast and its prompts are a sixth as long, so that its load
and what lies between two uses of a prefix suit the fleet. Where it is absent, sessions that grow under
one common beginning take its place, and the results say so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from warmroute_simulator.generators.registry import generate
from warmroute_simulator.traces.formats import ReadOptions, read_trace
from warmroute_simulator.traces.prompts import PromptTree
from warmroute_simulator.traces.trace import Trace

ANSWER_TOKENS: Final = 32

MOONCAKE: Final = "mooncake/conversation_trace.jsonl.gz"
_LENGTH_DIVISOR: Final = 6

SIMULATED: Final = "simulated"
VLLM: Final = "vllm"


@dataclass(frozen=True, slots=True)
class Workload:
    """One trace for each seed."""

    name: str
    about: str
    """For the page: a sentence."""
    spec: str
    """What the generator is asked for, or what is taken of a recording."""
    seconds: float
    """About as long as requests come."""
    recording: Path | None = None
    sessions_begin: float = 1.0
    """Share of the time in which sessions do; the rest is for the last of them to end."""
    reuse: bool = True
    """Whether prompts share anything."""

    def trace(self, seed: int) -> Trace:
        """Reads. Raises ConfigError, TraceError or OSError."""
        if self.recording is None:
            return generate(f"{self.spec},duration_s={self.seconds * self.sessions_begin:g}", seed)
        return _recorded(self, seed)


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a fleet the workloads are made for."""

    per_s: float
    """Factor of the rates."""
    tokens: float
    """Factor of the lengths."""


SCALES: Final = {SIMULATED: Scale(1.0, 1.0), VLLM: Scale(0.15, 0.1)}
"""By fleet. Two small vLLM on a core each compute some 7,000 tokens a second together, and a word of four
bytes is two or three tokens to them."""


def workloads(traces: Path, seconds: float, fleet: str = SIMULATED) -> dict[str, Workload]:
    """Reads. By name; `seconds` is how long requests come."""
    scale = SCALES[fleet]

    def per_s(rate: float) -> str:
        return f"{rate * scale.per_s:.3g}"

    def tokens(count: float) -> int:
        return round(count * scale.tokens)

    answers = f"output_tokens={ANSWER_TOKENS}"
    groups = 150 if fleet == SIMULATED else 12
    found = [
        Workload(
            "shared prefix",
            f"{groups} prefixes of {tokens(3072):,} tokens, a new question of {tokens(200)} below one of them"
            f" every time, {per_s(30)} requests a second",
            f"shared_prefix:groups={groups},prompts_per_group=0,prefix_tokens={tokens(3072)},"
            f"question_tokens={tokens(200)},{answers},rate_per_s={per_s(30)}",
            seconds,
        ),
        _mooncake(traces / MOONCAKE, float(per_s(30)), seconds, answers, scale),
        Workload(
            "agents",
            "agents of three kinds in a closed loop: contexts that grow with every tool's result, pauses of"
            f" half a second, sub-agents now and then; {per_s(7)} sessions begin a second",
            f"agents:kinds=3,system_tokens={tokens(2500)}-{tokens(4000)},"
            f"task_tokens=lognormal({tokens(2000)},0.8,{tokens(200)},{tokens(8000)}),"
            f"steps=lognormal(10,0.5,2,18),{answers},"
            f"result_tokens=lognormal({tokens(300)},1.0,{tokens(20)},{tokens(4000)}),"
            "think_s=lognormal(0.5,0.9,0.05,3),fan_out_probability=0.02,fan_out=2-3,sub_steps=2-4,"
            f"sub_system_tokens={tokens(1500)}-{tokens(2000)},briefing_tokens={tokens(200)}-{tokens(600)},"
            f"part_tokens={tokens(50)}-{tokens(200)},report_tokens={ANSWER_TOKENS},"
            f"context_tokens={60_000 if fleet == SIMULATED else 3_000},summary_tokens={ANSWER_TOKENS},"
            f"sessions_per_s={per_s(7)}",
            seconds,
            sessions_begin=0.4,
        ),
        Workload(
            "unique",
            f"prompts that share nothing, a median of {tokens(2000):,} tokens, {per_s(28)} requests a second",
            f"uniform:prompt_tokens=lognormal({tokens(2000)},0.6,{tokens(200)},{tokens(8000)}),{answers},"
            f"rate_per_s={per_s(28)}",
            seconds,
            reuse=False,
        ),
    ]
    return {workload.name: workload for workload in found}


def _mooncake(path: Path, per_s: float, seconds: float, answers: str, scale: Scale) -> Workload:
    if path.exists():
        return Workload(
            "mooncake",
            f"the first requests of the recording of conversations of Mooncake, {per_s:g} a second in its"
            f" order and with its bursts, prompts divided by {_LENGTH_DIVISOR / scale.tokens:.0f}",
            f"{MOONCAKE} / {_LENGTH_DIVISOR / scale.tokens:g} at {per_s:g}/s",
            seconds,
            path,
        )
    return Workload(
        "mooncake",
        "conversations under one beginning, in place of the recording of Mooncake, which was not there",
        "chat:closed_loop=true,system_prompts=1,system_tokens=85,turns=lognormal(3,0.8,1,20),"
        f"message_tokens=lognormal({round(350 * scale.tokens)},1.2,20,20000),{answers},"
        f"think_s=lognormal(2,0.8,0.5,8),sessions_per_s={per_s / 2:.3g}",
        seconds,
        sessions_begin=0.6,
    )


def _recorded(workload: Workload, seed: int) -> Trace:
    """As many rows as come in the time; where in a tick of its clock a request came is chance."""
    assert workload.recording is not None
    divisor, per_s = (float(word.removesuffix("/s")) for word in workload.spec.split()[2::2])
    trace = read_trace(workload.recording, ReadOptions()).head(round(per_s * workload.seconds))
    chance = Random(seed)
    trace.arrivals_s = type(trace.arrivals_s)(
        "d", [at_s + chance.uniform(0, trace.quantum_s) for at_s in trace.arrivals_s]
    )
    faster = workload.seconds / max(trace.arrivals_s)
    for row, at_s in enumerate(trace.arrivals_s):
        trace.arrivals_s[row] = at_s * faster
        trace.output_tokens[row] = ANSWER_TOKENS
    trace.tree = _shorter(trace.tree, divisor)
    return trace


def _shorter(tree: PromptTree, divisor: float) -> PromptTree:
    """The same tree; no node is empty."""
    shorter = PromptTree()
    for node in range(1, len(tree)):
        tokens = tree.ends[node] - tree.start(node)
        shorter.add(tree.parents[node], max(1, math.ceil(tokens / divisor)))
    return shorter
