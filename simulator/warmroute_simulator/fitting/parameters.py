"""What a fit adjusts, as numbers that a search may move freely.

Coefficients are factors of those that the search starts from, as logarithms: they stay positive, and a step
of 0.1 means a tenth whatever the unit. Host time of a request has no natural scale and may be 0: it is
counted in units of 10 ms.

A constant per step (`step_overhead_s`) is not among `ALL`: it shifts w0, c0 and d0 alike, so no measurement
can tell them apart, and after a fit these three hold it. Where the coefficients are trusted, it and the
request's are all that is adjusted (`OVERHEADS`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log
from typing import Any, Final

import msgspec

from warmroute_policies.latency import LatencyCoefficients
from warmroute_policies.parameters import suggestion
from warmroute_simulator.engine import EngineConfig

PREFILL: Final = ("w0", "c0", "c1", "c2")
DECODE: Final = ("d0", "d1", "d2")
OVERHEAD_UNIT_S: Final = 0.01
MOST_FACTOR: Final = 20.0
"""From the slowest to the fastest GPU that serves a model it is a factor of ten."""
MOST_OVERHEAD_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number of the search: names in one group are scaled together."""

    names: tuple[str, ...]
    overhead: bool = False

    @property
    def bounds(self) -> tuple[float, float]:
        if self.overhead:
            return 0.0, MOST_OVERHEAD_S / OVERHEAD_UNIT_S
        return -log(MOST_FACTOR), log(MOST_FACTOR)

    def start(self, config: EngineConfig) -> float:
        if not self.overhead:
            return 0.0
        overhead_s: float = getattr(config, self.names[0])
        return min(overhead_s / OVERHEAD_UNIT_S, self.bounds[1])


REQUEST_OVERHEAD: Final = Parameter(("request_overhead_s",), overhead=True)
STEP_OVERHEAD: Final = Parameter(("step_overhead_s",), overhead=True)
SCALES: Final = (Parameter(PREFILL), Parameter(DECODE), REQUEST_OVERHEAD)
"""How fast the GPU is at prefill and at decoding, and the host: all that a few figures can tell."""
ALL: Final = (*(Parameter((name,)) for name in (*PREFILL, *DECODE)), REQUEST_OVERHEAD)
OVERHEADS: Final = (STEP_OVERHEAD, REQUEST_OVERHEAD)


def varied(config: EngineConfig, parameters: Sequence[Parameter], values: Sequence[float]) -> EngineConfig:
    """The configuration with the parameters at these values."""
    factors: dict[str, float] = {}
    overheads: dict[str, Any] = {}
    for parameter, value in zip(parameters, values, strict=True):
        for name in parameter.names:
            if parameter.overhead:
                overheads[name] = float(value) * OVERHEAD_UNIT_S
            else:
                factors[name] = exp(value)
    latency = config.latency
    changed = {name: getattr(latency, name) * factor for name, factor in factors.items()}
    return replace(config, latency=msgspec.structs.replace(latency, **changed), **overheads)


def named(wanted: str) -> tuple[Parameter, ...]:
    """The parameters that `all`, `scales`, `overheads` or names of coefficients mean, comma-separated.

    Raises ValueError.
    """
    groups = {"all": ALL, "scales": SCALES, "overheads": OVERHEADS}
    if wanted in groups:
        return groups[wanted]
    single = {parameter.names[0]: parameter for parameter in (*ALL, *OVERHEADS)}
    found: dict[str, Parameter] = {}
    for name in wanted.split(","):
        if name not in single:
            raise ValueError(f"nothing to adjust is called `{name}`{suggestion(name, [*groups, *single])}")
        found[name] = single[name]
    return tuple(found.values())


def rounded(config: EngineConfig) -> EngineConfig:
    """Five significant figures: more than any measurement holds, and a file that can be read."""
    latency = config.latency
    figures = {name: _rounded(getattr(latency, name)) for name in latency.__struct_fields__}
    return replace(
        config,
        latency=LatencyCoefficients(**figures),
        step_overhead_s=_rounded(config.step_overhead_s),
        request_overhead_s=_rounded(config.request_overhead_s),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
