"""Requests that have nothing in common: the control on which a router can win by balancing load alone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar, Self

from warmroute_simulator.generators.lengths import Lengths
from warmroute_simulator.generators.workload import (
    REQUESTS,
    about,
    poisson_times,
    require_load,
    rows_until,
)
from warmroute_simulator.traces.prompts import ROOT
from warmroute_simulator.traces.trace import Trace


@dataclass(frozen=True, slots=True)
class Uniform:
    """Default lengths have the median, the 90th percentile and the maximum of Azure's public trace of
    conversations of 2023; the rate is its rate, rounded."""

    closed_loop: ClassVar[bool] = False

    prompt_tokens: Lengths = field(
        default=Lengths.parse("lognormal(1020,0.77,1,14050)"), metadata=about("length of a prompt")
    )
    output_tokens: Lengths = field(
        default=Lengths.parse("lognormal(129,0.93,1,1000)"), metadata=about("length of an answer")
    )
    rate_per_s: float = field(default=5.5, metadata=about("requests per second, a Poisson process"))
    requests: int | None = field(default=None, metadata=REQUESTS)
    duration_s: float | None = field(default=None, metadata=about("requests come during so many seconds"))

    def __post_init__(self) -> None:
        require_load("rate_per_s", self.rate_per_s, self.requests, self.duration_s)

    def at_rate(self, rate_per_s: float, requests: int | None, duration_s: float | None) -> Self:
        return dataclasses.replace(self, rate_per_s=rate_per_s, requests=requests, duration_s=duration_s)

    def fill(self, trace: Trace, chance: Random, begin_s: float) -> None:
        tree = trace.tree
        stop = rows_until(trace, self.requests, self.duration_s)
        for at_s in poisson_times(chance, self.rate_per_s, begin_s, self.duration_s):
            if len(trace) == stop:
                break
            prompt = tree.add(ROOT, self.prompt_tokens.draw(chance))
            trace.add(prompt, self.output_tokens.draw(chance), arrival_s=at_s)
