"""What every generator has in common: its parameters, how much it makes, and when requests or sessions begin.

A workload is a frozen value of parameters that can write itself into a trace, with no other chance than what
it is handed.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final, Protocol, Self, TypeVar

from warmroute_policies.errors import ConfigError
from warmroute_simulator.traces.trace import Trace

T = TypeVar("T")

# When neither a number nor a duration is asked for: replayed in seconds, and enough for a p99.
DEFAULT_REQUESTS: Final = 10_000

MEANING: Final = "meaning"
"""Key of a field's metadata: what the parameter is, in a few words, for `simulator generate --list`."""


class Workload(Protocol):
    """A generator with its parameters."""

    @property
    def closed_loop(self) -> bool: ...

    def fill(self, trace: Trace, chance: Random, begin_s: float) -> None:
        """Writes `trace` and `chance`. Appends requests that come from `begin_s` on. A session's rows are in
        order; sorting those of several sessions by arrival is the caller's part."""


class RatedWorkload(Workload, Protocol):
    """A workload that a mix can have a share of."""

    def at_rate(self, rate_per_s: float, requests: int | None, duration_s: float | None) -> Self:
        """Reads. The same with so many *requests* per second, whatever its own rate counts."""


def about(meaning: str) -> dict[str, str]:
    """Metadata of a parameter's field."""
    return {MEANING: meaning}


REQUESTS: Final = about(f"how many requests; {DEFAULT_REQUESTS:,} when no duration is given either")


def require(condition: bool, text: str) -> None:
    if not condition:
        raise ConfigError(text)


def require_load(rate_name: str, rate_per_s: float, requests: int | None, duration_s: float | None) -> None:
    """Raises ConfigError unless rate and limits are positive."""
    require(rate_per_s > 0, f"{rate_name} must be above 0, not {rate_per_s:g}")
    require(requests is None or requests >= 1, f"requests must be at least 1, not {requests}")
    require(duration_s is None or duration_s > 0, "duration_s must be above 0")


def rows_until(trace: Trace, requests: int | None, duration_s: float | None) -> int | None:
    """Reads. How many rows the trace may have in the end; None: time alone ends it."""
    if requests is None and duration_s is None:
        requests = DEFAULT_REQUESTS
    return None if requests is None else len(trace) + requests


def poisson_times(
    chance: Random, rate_per_s: float, begin_s: float, duration_s: float | None
) -> Iterator[float]:
    """Writes `chance`. Moments of a Poisson process from `begin_s` on; without a duration it never ends."""
    at_s = begin_s
    while True:
        at_s += chance.expovariate(rate_per_s)
        if duration_s is not None and at_s >= begin_s + duration_s:
            return
        yield at_s
