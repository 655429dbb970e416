"""What a prefill really costs on each class of workers, learned from the times to first token.

A preset is measured on one model and one accelerator; on another all that is priced in seconds is wrong by
the same factor, and delays are weighed wrongly against constants. The answers tell the truth. For m computed
tokens of a prompt of n, dispatched while B requests were in flight on a worker of weight w:

    w·(TTFT − rtt) = c + α·a·m + β·b·m·(n − m/2) + d·B          a, b: the preset's; α, β, c, d: learned

    minimise   Σ 0.995^age · h·(residual / s)²  +  0.995^count · ((α − α₀)² + (β − β₀)²)
               + ½·(α − β)²  +  0.02·((c / 10 ms)² + (d / 1 ms)²)
    subject to c, d ≥ 0  and  1/30 ≤ α, β ≤ 30

    s   10 ms + the preset's prefill: errors count by their share, else a few long prompts decide alone
    h   Huber's weight min(1, 3σ / |r|): r is the residual over 10 ms + what was expected, and σ its running
        scale
    α₀  where the belief began, worth one sample, which fades like others
    α−β the two features rise together: what the samples do not tell apart keeps the preset's ratio of b to a

The prices are α·a and β·b. The constant and the interference are estimated so that they do not pass for
prefill; a policy has its own terms for them. Recursive least squares with forgetting is the textbook's
(Ljung, System Identification, 2nd ed., section 11.2), the weights are Huber's (Annals of Mathematical
Statistics 35, 1964); minimisation is by coordinate descent, which keeps bounds for free.

Rules kept: sums and four coefficients per class, whatever the traffic. A sample is only what a prefill that
found nobody waiting took: the balancer sees to it. Work that other routers send to the worker is noise here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

from warmroute_policies.latency import PrefillPrice

# Share of the past that one sample leaves: the last 200 decide, some minutes of a busy fleet.
_KEEP: Final = 0.995

# What the belief at the beginning is worth in samples. Little: one wrong by three scatters prefixes in the
# first seconds, and a fleet near its knee takes minutes to gather them again.
_PRIOR_SAMPLES: Final = 1.0

# Of the tie between α and β, in samples. Prompts of 2,000 tokens hold too little attention to tell β: it is
# 3 % of such a prefill, so 200 samples weigh 0.2 and the tie wins; after a cached prefix of 30,000 they do.
_TIE_SAMPLES: Final = 0.5

# Towards no constant and no interference: only where the samples cannot tell them from the slope. A 25th of
# the tie, since both are really there.
_SMALL_SAMPLES: Final = 0.02

# An engine's step, with a host's overheads: the unit of the constant, and what any time is wrong by.
_STEP_S: Final = 0.01

# What one request in flight adds, in order of magnitude: the unit of d.
_INTERFERENCE_S: Final = 0.001

# The widest believable error of a preset: from the slowest accelerator with the largest model in
# `latency.PRESETS` to the fastest with the smallest it is a factor of 8 for a token.
FACTOR_MAX: Final = 30.0

# Huber's: residuals beyond 3σ count with their size, not with its square.
_CLIP: Final = 3.0

# Of the running scale: 20 samples. It starts wide, since at first it is the belief that is wrong.
_SCALE_STEP: Final = 0.05
_FIRST_SCALE: Final = 1.0
# One per cent: below it rounding of times would pass for outliers.
_LEAST_SCALE: Final = 0.01
# Mean absolute deviation to standard deviation, for normal noise: √(π/2).
_DEVIATION: Final = 1.2533

# Each of the first samples may change everything. Later ones move the solution by a two-hundredth each, and
# to solve for every one of them is work for nothing.
_SOLVE_ALL_OF: Final = 16
_SOLVE_EVERY: Final = 8

# Sweeps of one solution. It goes on where the last one stopped, so few do; when nothing moves, one does.
_SWEEPS: Final = 40
_MOVED: Final = 1e-5

_CONSTANT: Final = 0
_LINEAR: Final = 1
_QUADRATIC: Final = 2
_INFLIGHT: Final = 3

_LOWEST: Final = (0.0, 1 / FACTOR_MAX, 1 / FACTOR_MAX, 0.0)
_HIGHEST: Final = (1e9, FACTOR_MAX, FACTOR_MAX, 1e9)


def _bounded(value: float) -> float:
    return min(max(value, 1 / FACTOR_MAX), FACTOR_MAX)


@final
class _ClassSpeed:
    """State of one class: weighted sums of products (`squares`, `products`), coefficients, scale, a count."""

    def __init__(self, preset: PrefillPrice, believed: PrefillPrice) -> None:
        self.preset = preset
        linear = _bounded(believed.linear_s / preset.linear_s) if preset.linear_s > 0 else 1.0
        quadratic = _bounded(believed.quadratic_s / preset.quadratic_s) if preset.quadratic_s > 0 else linear
        self.coefficients = [0.0, linear, quadratic, 0.0]
        """c in steps, α, β, d in units of interference."""
        self.squares = [[0.0] * 4 for _ in range(4)]
        self.squares[_LINEAR][_LINEAR] = self.squares[_QUADRATIC][_QUADRATIC] = _PRIOR_SAMPLES
        self.products = [0.0, _PRIOR_SAMPLES * linear, _PRIOR_SAMPLES * quadratic, 0.0]
        self.scale = _FIRST_SCALE
        self.samples = 0

    def price(self) -> PrefillPrice:
        """Reads."""
        return PrefillPrice(
            self.coefficients[_LINEAR] * self.preset.linear_s,
            self.coefficients[_QUADRATIC] * self.preset.quadratic_s,
        )

    def add(self, seconds: float, missing_tokens: float, prompt_tokens: float, inflight: float) -> None:
        """Writes. One sample into the sums."""
        linear_s = self.preset.linear_s * missing_tokens
        quadratic_s = self.preset.quadratic_s * missing_tokens * (prompt_tokens - missing_tokens / 2)
        unit_s = _STEP_S + linear_s + quadratic_s
        row = [
            _STEP_S / unit_s,
            linear_s / unit_s,
            quadratic_s / unit_s,
            _INTERFERENCE_S * inflight / unit_s,
        ]
        told, expected = seconds / unit_s, 0.0
        for feature, coefficient in zip(row, self.coefficients, strict=True):
            expected += feature * coefficient
        clip, size = _CLIP * self.scale, abs(told - expected) / (expected + row[_CONSTANT])
        weight = 1.0 if size <= clip else clip / size
        scale = self.scale + _SCALE_STEP * (_DEVIATION * min(size, clip) - self.scale)
        self.scale = max(scale, _LEAST_SCALE)
        for i in range(4):
            weighted, squares = weight * row[i], self.squares[i]
            self.products[i] = _KEEP * self.products[i] + weighted * told
            for j in range(4):
                squares[j] = _KEEP * squares[j] + weighted * row[j]
        self.samples += 1

    def solve(self) -> None:
        """Writes. The coefficients that the sums ask for, within their bounds."""
        found, squares, products = self.coefficients, self.squares, self.products
        for _ in range(_SWEEPS):
            moved = 0.0
            for i in range(4):
                row, before = squares[i], found[i]
                pull, curvature = products[i], row[i]
                for j in range(4):
                    if j != i:
                        pull -= row[j] * found[j]
                if i in (_LINEAR, _QUADRATIC):
                    pull += _TIE_SAMPLES * found[_LINEAR + _QUADRATIC - i]
                    curvature += _TIE_SAMPLES
                else:
                    curvature += _SMALL_SAMPLES
                after = found[i] = min(max(pull / curvature, _LOWEST[i]), _HIGHEST[i])
                moved = max(moved, abs(after - before))
            if moved < _MOVED:
                break


@final
class LearnedPrices:
    """State: one `_ClassSpeed` per worker class that was seen."""

    def __init__(
        self,
        presets: Mapping[str, PrefillPrice],
        default: PrefillPrice,
        believed: Mapping[str, PrefillPrice],
    ) -> None:
        """`believed`: where the beliefs begin, by class; the preset's where it is missing."""
        self._presets = presets
        self._default = default
        self._believed = believed
        self._speeds: dict[str, _ClassSpeed] = {}

    def price(self, worker_class: str) -> PrefillPrice:
        """Reads. What is believed of a worker of weight 1, never outside the bounds."""
        speed = self._speeds.get(worker_class)
        return self._begin(worker_class).price() if speed is None else speed.price()

    def prices(self) -> dict[str, PrefillPrice]:
        """Reads. By class, of those that something is known of beyond the preset."""
        return {name: self.price(name) for name in sorted({*self._believed, *self._speeds})}

    def learn(
        self, worker_class: str, seconds: float, missing_tokens: int, prompt_tokens: int, inflight: int
    ) -> PrefillPrice | None:
        """Writes. One settled prefill; `seconds` are those of a worker of weight 1. The new price, when it
        is time for one."""
        if missing_tokens < 1 or prompt_tokens < missing_tokens or seconds < 0:
            return None  # an engine that counts otherwise
        speed = self._speeds.get(worker_class)
        if speed is None:
            speed = self._speeds[worker_class] = self._begin(worker_class)
        speed.add(seconds, missing_tokens, prompt_tokens, inflight)
        if speed.samples > _SOLVE_ALL_OF and speed.samples % _SOLVE_EVERY:
            return None
        speed.solve()
        return speed.price()

    def _begin(self, worker_class: str) -> _ClassSpeed:
        preset = self._presets.get(worker_class, self._default)
        return _ClassSpeed(preset, self._believed.get(worker_class, preset))
