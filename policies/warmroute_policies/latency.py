"""How long an engine takes: coefficients, the formula of a prefill, and measured presets.

The formula is the fit that `PRESETS` were made with (all coefficients in milliseconds):

    prefill_ms(n new, p cached)       = max(w0, c0 + c1·n/1000) + c2·n·(p + n/2)/1e6
    decode_ms(B sequences, C context) = d0 + d1·B + d2·C/1000

The router prices work with the linear and the quadratic part alone, `PrefillPrice`: a floor or a
constant is the same on every worker and for every request, so it cannot change a decision.
"""

from __future__ import annotations

import msgspec


class LatencyCoefficients(msgspec.Struct, frozen=True):
    """One model on one kind of worker. Milliseconds; `c1` µs per token, `c2` and `d2` as in the formula."""

    w0: float
    c0: float
    c1: float
    c2: float
    d0: float
    d1: float
    d2: float

    @property
    def price(self) -> PrefillPrice:
        return PrefillPrice(linear_s=self.c1 * 1e-6, quadratic_s=self.c2 * 1e-9)


class PrefillPrice(msgspec.Struct, frozen=True):
    """Seconds of prefill: W(m) = linear·m + quadratic·m·(n − m/2) for m missing tokens of n.

    The second term is the exact area of causal attention: the m new tokens attend to the n − m cached
    ones and to m/2 new ones on average.
    """

    linear_s: float
    quadratic_s: float

    def seconds(self, missing_tokens: float, prompt_tokens: float) -> float:
        return missing_tokens * (self.linear_s + self.quadratic_s * (prompt_tokens - missing_tokens / 2))


# Fitted to the silicon tables of aiconfigurator-core 0.12.0 (Apache-2.0, ai-dynamo/aiconfigurator,
# commit 095f58a5), prompts of 16 to 16,384 new tokens after 0 to 65,536 cached ones, batches of 1 to 256
# sequences. No host, scheduler or HTTP overhead is inside.
PRESETS: dict[str, LatencyCoefficients] = {
    "llama-3.1-8b-h100": LatencyCoefficients(6.99, 2.91, 18.96, 0.799, 6.42, 0.0105, 0.0423),
    "llama-3.1-8b-h100-sglang": LatencyCoefficients(7.06, 2.73, 20.07, 0.853, 6.47, 0.0081, 0.0422),
    "llama-3.1-8b-h200": LatencyCoefficients(5.49, 1.83, 19.48, 0.803, 4.95, 0.0111, 0.0298),
    "llama-3.1-8b-a100": LatencyCoefficients(11.90, 7.20, 54.47, 2.964, 11.49, 0.0317, 0.0842),
    "llama-3.1-8b-l40s": LatencyCoefficients(26.45, 5.38, 67.19, 2.872, 22.25, 0.0318, 0.1968),
    "llama-3.1-70b-h100-tp4": LatencyCoefficients(17.42, 6.92, 59.91, 0.998, 15.21, 0.0317, 0.0268),
    "llama-3.1-70b-h100-tp4-sglang": LatencyCoefficients(18.02, 5.66, 63.18, 1.012, 15.18, 0.0319, 0.0271),
    "llama-3.1-70b-h100-tp8": LatencyCoefficients(11.80, 6.69, 38.25, 0.499, 9.99, 0.0235, 0.0135),
    "llama-3.1-70b-h200-tp4": LatencyCoefficients(13.61, 4.73, 60.17, 1.010, 12.24, 0.0312, 0.0187),
    "llama-3.1-70b-a100-tp4": LatencyCoefficients(30.16, 17.86, 153.67, 3.692, 27.74, 0.0993, 0.0545),
    "qwen3-8b-h100": LatencyCoefficients(8.08, 4.12, 18.79, 0.898, 6.61, 0.0113, 0.0477),
    "qwen3-8b-h200": LatencyCoefficients(6.52, 3.06, 19.04, 0.906, 5.10, 0.0116, 0.0336),
    "qwen3-32b-h100-tp2": LatencyCoefficients(17.49, 7.00, 47.88, 1.611, 13.61, 0.0258, 0.0425),
    "qwen3-32b-fp8-h200-sglang": LatencyCoefficients(13.81, 10.14, 56.41, 3.100, 11.89, 0.0349, 0.0528),
}

DEFAULT_PRESET = "llama-3.1-8b-h100"
