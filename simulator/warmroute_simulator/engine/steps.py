"""How long an engine's steps take, and where a run of equal decode steps stands at a given time.

One step computes chunks of prefill and one token for each decoding sequence (milliseconds; coefficients and
their source in `warmroute_policies.latency`), for B decoding sequences with C tokens of context together, and
prefills of n_i new tokens after p_i known ones, n = Σ n_i:

    prefill alone  max(w0, c0 + c1·n/1000) + Σ c2·n_i·(p_i + n_i/2)/1e6
    decode alone   d0 + d1·B + d2·C/1000
    both           max(w0, d0 + c1·n/1000) + Σ c2·n_i·(p_i + n_i/2)/1e6 + d1·B + d2·C/1000

A mixed step costs a whole decode step and the prefill's tokens on top. One could hope that the decodes' share
of reading the weights hides behind the prefill's arithmetic (c0 in place of d0); engines do not achieve it.
Steady runs at 8 to 128 concurrent requests on H100s give as the price of a prefill on top of a decode step
1.01 times c1·n + c2·n²/2 (TensorRT-LLM, 42 runs, residual 2.6 %) and 0.98 times (vLLM, 25 runs, 2.7 %).

Between two events a decode batch does the same thing again and again; only C grows, by B per step. Such a
run of k steps is one object, and its j-th step ends after j·first + grow·j(j−1)/2 seconds.
"""

from __future__ import annotations

import math
from typing import final

from warmroute_policies.latency import LatencyCoefficients
from warmroute_simulator.engine.sequence import Sequence


def step_seconds(
    latency: LatencyCoefficients, prefill: list[tuple[int, int]], decoding: int, context_tokens: int
) -> float:
    """Duration of one step; `prefill` holds (tokens known before, new tokens) of each chunk."""
    decode_ms = latency.d1 * decoding + latency.d2 * context_tokens / 1000
    if not prefill:
        return (latency.d0 + decode_ms) / 1000
    new_tokens = 0
    attention = 0.0
    for known, new in prefill:
        new_tokens += new
        attention += new * (known + new / 2)
    base_ms = latency.d0 if decoding else latency.c0
    linear_ms = max(latency.w0, base_ms + latency.c1 * new_tokens / 1000)
    return (linear_ms + latency.c2 * attention / 1e6 + decode_ms) / 1000


@final
class Run:
    """Steps in flight: one step of any kind, or several equal decode steps."""

    __slots__ = ("decodes", "first_s", "grow_s", "prefill", "started_at", "steps")

    def __init__(
        self, started_at: float, first_s: float, prefill: list[tuple[Sequence, int]], *, decodes: bool
    ) -> None:
        self.started_at = started_at
        self.first_s = first_s
        """Duration of the first step."""
        self.grow_s = 0.0
        """How much longer each further step takes than the one before it."""
        self.steps = 1
        self.prefill = prefill
        """Who computes how many tokens of its prompt."""
        self.decodes = decodes
        """Does every sequence of the decode batch yield a token in each step?"""

    def end_of(self, steps: int) -> float:
        return self.started_at + steps * self.first_s + self.grow_s * steps * (steps - 1) / 2

    def ended_by(self, now: float) -> int:
        """How many of the steps have ended at `now`."""
        if now < self.started_at + self.first_s:
            return 0
        if self.steps == 1 or now >= self.end_of(self.steps):
            return self.steps
        linear = self.first_s - self.grow_s / 2
        elapsed = now - self.started_at
        if self.grow_s > 0:
            root = math.sqrt(linear * linear + 2 * self.grow_s * elapsed)
            guess = int(2 * elapsed / (linear + root))
        else:
            guess = int(elapsed / self.first_s)
        guess = min(max(guess, 1), self.steps)
        while guess < self.steps and self.end_of(guess + 1) <= now:
            guess += 1
        while self.end_of(guess) > now:
            guess -= 1
        return guess

    def steps_before(self, ready_at: float, *, overlap: bool) -> int:
        """After how many steps at the earliest a request that is ready at `ready_at` may join.

        The step that it joins is decided on when it starts, or with `overlap` when the one before it does.
        """
        steps = self.ended_by(ready_at)
        if self.end_of(steps) < ready_at:
            steps += 1
        return max(1, steps + 1 if overlap else steps)

    def skip(self, steps: int) -> None:
        """Let the first `steps` steps be past."""
        self.started_at = self.end_of(steps)
        self.first_s += self.grow_s * steps
        self.steps -= steps
