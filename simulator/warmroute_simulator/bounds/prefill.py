"""How long an engine computes on a prompt, at the very least: alone, and in company.

*Alone* is the least that passes for it on an idle engine, however its prompt is cut: m missing tokens take
k = ⌈m / S⌉ steps of at most S = `step_tokens` tokens, and by the formula of `engine.steps`

    alone(m of n) = max(k·w0, k·c0 + c1·m/1000) + k·overhead + c2·m·(n − m/2)/1e6

which is exact unless the last of several steps is so small that it takes no longer than an empty one.
Company only adds to it.

*Work* is what a request takes from an engine's time whatever it is batched with. A step's constant part is
shared by all who are in it, and at most `step_tokens` are:

    work(m of n) = m · f(S)/S + c2·m·(n − m/2)/1e6        f(S) = max(w0, c0 + c1·S/1000) + overhead

since f(x)/x is smallest for the fullest step. The attention's part is nobody else's.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from warmroute_policies.latency import LatencyCoefficients
from warmroute_simulator.engine.config import DEFAULT_STEP_TOKENS, EngineConfig


@dataclass(frozen=True, slots=True)
class PrefillTime:
    """One worker. Raises ValueError when a step holds no token."""

    latency: LatencyCoefficients
    step_tokens: int = DEFAULT_STEP_TOKENS
    step_overhead_s: float = 0.0
    request_overhead_s: float = 0.0
    """Before an engine knows of a request. It is no work: everyone's passes at the same time."""

    def __post_init__(self) -> None:
        if self.step_tokens < 1:
            raise ValueError(f"a step needs at least one token, not {self.step_tokens}")

    @classmethod
    def of(cls, engine: EngineConfig) -> PrefillTime:
        """What of an engine's configuration decides how fast it prefills."""
        return cls(engine.latency, engine.step_tokens, engine.step_overhead_s, engine.request_overhead_s)

    def alone_s(self, missing_tokens: int, prompt_tokens: int) -> float:
        """Reads. Seconds from arrival to first token at an idle engine that has all but `missing_tokens`."""
        latency = self.latency
        steps = -(-missing_tokens // self.step_tokens)
        linear_ms = max(steps * latency.w0, steps * latency.c0 + latency.c1 * missing_tokens / 1000)
        steps_s = linear_ms / 1000 + steps * self.step_overhead_s
        return self.request_overhead_s + steps_s + self._attention_s(missing_tokens, prompt_tokens)

    def work_s(self, missing_tokens: int, prompt_tokens: int) -> float:
        """Reads. The least that the same adds to the time of engines, in seconds of one engine."""
        return missing_tokens * self._token_s() + self._attention_s(missing_tokens, prompt_tokens)

    def speed_over(self, other: PrefillTime) -> float:
        """Reads. No work is done more than this many times as fast as by the other; `inf`: it takes no time.

        Work is tokens and attention, each at a price of its own, so the ratio of works lies between the
        ratios of prices.
        """
        tokens = _ratio(other._token_s(), self._token_s())
        return max(tokens, _ratio(other.latency.c2, self.latency.c2))

    def _token_s(self) -> float:
        """A token's share of a full step."""
        latency = self.latency
        step_ms = max(latency.w0, latency.c0 + latency.c1 * self.step_tokens / 1000)
        return (step_ms / 1000 + self.step_overhead_s) / self.step_tokens

    def _attention_s(self, missing_tokens: int, prompt_tokens: int) -> float:
        return self.latency.c2 * missing_tokens * (prompt_tokens - missing_tokens / 2) * 1e-9


def _ratio(other: float, own: float) -> float:
    """What is free for both does not tell them apart."""
    if own:
        return other / own
    return inf if other else 0.0
