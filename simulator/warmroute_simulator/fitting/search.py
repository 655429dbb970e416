"""The adjustment: simulate, compare with what was measured, move the parameters, again.

A request's residuals are logarithms of simulated over measured TTFT, TPOT and E2E, so that one of a second
weighs as much as one of a minute. Each of them is full of chance: whether a request just caught a step or
just missed it changes its TTFT by a tenth or more, and the smallest change of a coefficient changes who does.
So what is made small are means, over groups of requests that came one after the other, that had equally much
to compute, and that were equally long: in a mean, chance cancels out and a coefficient does not. A soft loss
keeps single groups that went another way from leading.

Two stages: first how fast prefill and decoding are as a whole (`SCALES`), from the best point of a coarse
grid; then every coefficient for itself, held back by a weak pull to where the first stage ended, because some
of them leave no trace in some measurements (no long contexts, no large batches).

Deterministic: no chance, and a bound on simulations, not on time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isnan, log, nan
from statistics import fmean, median, quantiles
from typing import Any, Final

from warmroute_simulator.engine import EngineConfig
from warmroute_simulator.engine.steps import step_seconds
from warmroute_simulator.fitting.measured import MeasuredRequest
from warmroute_simulator.fitting.parameters import ALL, MOST_FACTOR, SCALES, Parameter, rounded, varied
from warmroute_simulator.fitting.replay import Replay, Simulated

LEAST_IN_GROUP: Final = 5
MOST_GROUPS: Final = 30
"""Of each kind: enough to tell seven coefficients apart."""
SOFT: Final = 0.05
"""A group that is further off than 5 % weighs less and less."""
PULL: Final = 0.05
"""A coefficient that the data says nothing of stays; one that it knows by 1 % moves freely."""
STEPS: Final = (0.1, 0.03, 0.01)
"""Of the derivatives, coarse to fine. Times jump when a request joins one step earlier: only steps that are
larger than that grain see the slope, and only small ones find the place."""
SHIFT: Final = 10.0
"""Added to what scipy moves: it takes steps relative to the value, and these values are about 0."""
GRID: Final = (log(0.5), log(0.7), 0.0, log(1.4), log(2.0))
ROUNDS: Final = 15
"""Of each search with one size of steps; a round takes a simulation for every parameter and one more."""
MOST_REQUESTS: Final = 2000
"""A fit looks at the first of its part up to these: further ones hardly move it and cost time."""

Residuals = Callable[[EngineConfig], list[float]]


@dataclass(frozen=True, slots=True)
class Fitted:
    """Where a search ended."""

    config: EngineConfig
    simulations: int


def most_simulations(parameters: Sequence[Parameter]) -> int:
    """An upper bound, for a progress bar."""
    moved = len(parameters) + 1 + (len(SCALES) + 1 if parameters == ALL else 0)
    return len(GRID) ** 2 + len(STEPS) * ROUNDS * moved


def fit(
    requests: Sequence[MeasuredRequest],
    fitted: int,
    start: EngineConfig,
    parameters: Sequence[Parameter] = ALL,
    simulated_once: Callable[[], None] = lambda: None,
) -> Fitted:
    """The parameters with which the first `fitted` of `requests` go as they went; the others are load.

    Raises ValueError when a request can never fit in the KV cache, and where scipy is missing.
    """
    replay = Replay(requests, start.block_tokens)
    target = _Target(requests[:fitted])
    counter = Counter(lambda config: target.residuals(replay.run(config)), simulated_once)
    config = start
    if parameters in (ALL, SCALES):
        config = best_scales(counter, start, target.first_guess(start))
    if parameters == ALL:
        config = least(counter, config, SCALES, start)
    config = least(counter, config, parameters, start)
    return Fitted(rounded(config), counter.count)


class Counter:
    """Residuals, and how often they were asked for."""

    def __init__(self, residuals: Residuals, simulated_once: Callable[[], None]) -> None:
        self._residuals = residuals
        self._simulated_once = simulated_once
        self.count = 0

    def __call__(self, config: EngineConfig) -> list[float]:
        self.count += 1
        self._simulated_once()
        return self._residuals(config)


def best_scales(residuals: Residuals, start: EngineConfig, guess: tuple[float, float]) -> EngineConfig:
    """The best of a grid around `guess`, logarithms of how much slower prefill and decoding are."""
    overhead = SCALES[2].start(start)
    corners = [
        varied(start, SCALES, (guess[0] + prefill, guess[1] + decode, overhead))
        for prefill, decode in itertools.product(GRID, GRID)
    ]
    return min(corners, key=lambda corner: sum(_soft(one) for one in residuals(corner)))


def least(
    residuals: Residuals, config: EngineConfig, moved: Sequence[Parameter], usual: EngineConfig
) -> EngineConfig:
    """The least sum of soft squares from `config` on. Coefficients are pulled to those of `config`, host
    times to those of `usual`. Raises ValueError where scipy is missing."""
    bounds = [[bound + SHIFT for bound in parameter.bounds] for parameter in moved]
    pulled = [parameter.start(usual) for parameter in moved]

    def cost(shifted: Any) -> list[float]:
        values = [float(value) - SHIFT for value in shifted]
        pull = [PULL * (value - to) for value, to in zip(values, pulled, strict=True)]
        return residuals(varied(config, moved, values)) + pull

    best_cost, best = inf, [parameter.start(config) + SHIFT for parameter in moved]
    for step in STEPS:
        found = _least_squares()(
            cost,
            best,
            bounds=tuple(zip(*bounds, strict=True)),
            loss="soft_l1",
            f_scale=SOFT,
            diff_step=step / SHIFT,
            max_nfev=ROUNDS,
        )
        if found.cost < best_cost:
            best_cost, best = found.cost, [float(value) for value in found.x]
    return varied(config, moved, [value - SHIFT for value in best])


class _Target:
    """What was measured, prepared for many comparisons."""

    def __init__(self, requests: Sequence[MeasuredRequest]) -> None:
        self._requests = requests
        steps = [request.tpot_s for request in requests if request.tpot_s > 0]
        # TTFTs are compared with a usual step's length added: shorter ones are as good as equal.
        self._grain_s = median(steps) if steps else 0.0
        self._groups = [
            *_groups(requests, range(len(requests))),
            *_groups(
                requests, [request.prompt_tokens - (request.cached_tokens or 0) for request in requests]
            ),
            *_groups(requests, [request.prompt_tokens + request.output_tokens for request in requests]),
        ]

    def residuals(self, simulated: Simulated) -> list[float]:
        """One for each group and each of the three times; 0 where nothing of it was measured."""
        out = []
        for ratios in self._log_ratios(simulated):
            for group in self._groups:
                told = [ratio for row in group if not isnan(ratio := ratios[row])]
                out.append(fmean(told) if told else 0.0)
        return out

    def _log_ratios(self, simulated: Simulated) -> tuple[list[float], list[float], list[float]]:
        ttft, tpot, e2e = [], [], []
        for row, request in enumerate(self._requests):
            first, end = simulated.ttft_s[row], simulated.e2e_s[row]
            e2e.append(log(end / request.e2e_s))
            seen = not isnan(request.ttft_s)
            ttft.append(log((first + self._grain_s) / (request.ttft_s + self._grain_s)) if seen else nan)
            paced = seen and request.tpot_s > 0
            each = (end - first) / max(1, request.output_tokens - 1)
            tpot.append(log(each / request.tpot_s) if paced else nan)
        return ttft, tpot, e2e

    def first_guess(self, config: EngineConfig) -> tuple[float, float]:
        """How much slower prefill and decoding are than by `config`, as logarithms, from the requests that
        were delayed least: the fastest tenth beside what each would take alone."""
        prefill, decode = [], []
        for request in self._requests:
            missing = max(1, request.prompt_tokens - (request.cached_tokens or 0))
            if request.ttft_s > 0:
                chunk = (request.prompt_tokens - missing, missing)
                prefill.append(request.ttft_s / step_seconds(config.latency, [chunk], 0, 0))
            if request.tpot_s > 0:
                decode.append(request.tpot_s / step_seconds(config.latency, [], 1, request.prompt_tokens))
        return _fast(prefill), _fast(decode)


def _groups(requests: Sequence[MeasuredRequest], key: Sequence[int]) -> list[list[int]]:
    """Rows in the order of `key`, cut into groups of equal size."""
    order = sorted(range(len(requests)), key=lambda row: (key[row], row))
    count = max(1, min(MOST_GROUPS, len(order) // LEAST_IN_GROUP))
    cuts = [number * len(order) // count for number in range(count + 1)]
    return [order[start:stop] for start, stop in itertools.pairwise(cuts)]


def _fast(ratios: list[float]) -> float:
    if not ratios:
        return 0.0
    fast = quantiles(ratios, n=10)[0] if len(ratios) > 1 else ratios[0]
    room = log(MOST_FACTOR) + GRID[0]  # the grid around it stays within bounds
    return min(max(log(fast), -room), room) if fast > 0 else 0.0


def _soft(residual: float) -> float:
    return float((1 + (residual / SOFT) ** 2) ** 0.5)


def _least_squares() -> Any:
    try:
        from scipy.optimize import least_squares  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ValueError("a fit needs the package scipy (pip install 'warmroute[simulator]')") from error
    return least_squares
