"""Several workloads in one trace: by their share of the requests, or each in its own stretch of time.

    mix:spec=chat*0.7+agents*0.3,rate_per_s=20      7 of 10 requests are a chat's
    mix:spec=chat(turns=4)*2+uniform                parameters in parentheses; no share means 1

A file (`mix_file`) can also say from when to when. A part with a share has that share of the mix's rate and
requests; a part with a stretch of time and no share keeps its own rate. One part in closed loop puts all in
closed loop: chats wait for their answers, and requests without a session are sessions of one request, since
what begins in closed loop is a session.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Final

import msgspec

from warmroute_policies.errors import ConfigError
from warmroute_policies.parameters import Value
from warmroute_simulator.generators.catalogue import make
from warmroute_simulator.generators.chat import Chat
from warmroute_simulator.generators.order import give_sessions
from warmroute_simulator.generators.spec import parameters_in, split_outside
from warmroute_simulator.generators.workload import (
    DEFAULT_REQUESTS,
    REQUESTS,
    RatedWorkload,
    about,
    require,
    require_load,
)
from warmroute_simulator.traces.trace import NO_SESSION, Trace

# Between a chat's default rate and that of eight busy workers.
DEFAULT_RATE_PER_S: Final = 10.0

# What a part with a share gets from the mix.
_OF_THE_MIX: Final = ("rate_per_s", "sessions_per_s", "requests", "duration_s")


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One workload of a mix."""

    generator: str
    params: dict[str, str | int | float | bool] = {}
    share: float | None = None
    """Of the mix's rate and requests, in relation to the other shares; None: 1, or its own rate when it has
    a stretch of time."""
    start_s: float = 0.0
    end_s: float | None = None

    @property
    def weight(self) -> float:
        """0: the part has its own rate."""
        if self.share is not None:
            return self.share
        return 0.0 if self.start_s or self.end_s is not None else 1.0


@dataclass(frozen=True, slots=True)
class Mixture:
    """Parts with the rate that they share. Raises ConfigError for what does not fit together."""

    parts: tuple[Part, ...]
    rate_per_s: float = DEFAULT_RATE_PER_S
    requests: int | None = None
    duration_s: float | None = None

    def __post_init__(self) -> None:
        require(bool(self.parts), "a mix needs at least one part")
        require_load("rate_per_s", self.rate_per_s, self.requests, self.duration_s)
        self.workloads()  # which says what is wrong with a part

    @property
    def closed_loop(self) -> bool:
        return any(workload.closed_loop for _, workload in self.workloads())

    def fill(self, trace: Trace, chance: Random, begin_s: float) -> None:
        """Writes. Each part takes its own chance, so that changing one leaves the others as they are."""
        for part, workload in self.workloads():
            own_chance = Random(chance.getrandbits(64))
            first = len(trace)
            if self.closed_loop and not workload.closed_loop:
                if isinstance(workload, Chat):
                    workload = dataclasses.replace(workload, closed_loop=True)
                trace.notes.append(f"{part.generator} in closed loop, as other parts of the mix are")
            workload.fill(trace, own_chance, begin_s + part.start_s)
            if self.closed_loop and first < len(trace) and trace.sessions[first] == NO_SESSION:
                give_sessions(trace, first)

    def workloads(self) -> list[tuple[Part, RatedWorkload]]:
        """Reads. What each part is to make; parts that round to no request are left out."""
        durations = [self._duration_s(part) for part in self.parts]
        asked = [self.requests] * len(self.parts)
        if self.requests is None:  # then time ends a part where it can
            asked = [DEFAULT_REQUESTS if duration is None else None for duration in durations]
        shares = _shares([part.weight for part in self.parts])
        workloads: list[tuple[Part, RatedWorkload]] = []
        for number, (part, share, duration_s) in enumerate(zip(self.parts, shares, durations, strict=True)):
            params: dict[str, Value] = dict(part.params)
            if not share:
                if duration_s is not None:
                    _refuse(part, ("duration_s",), "its stretch of time says it")
                    params["duration_s"] = duration_s
                workloads.append((part, make(part.generator, params)))
                continue
            _refuse(part, _OF_THE_MIX, "a part with a share has the mix's")
            workload = make(part.generator, params)
            total = asked[number]
            requests = None if total is None else _portion(shares, number, total)
            if requests != 0:
                workload = workload.at_rate(self.rate_per_s * share, requests, duration_s)
                workloads.append((part, workload))
        return workloads

    def _duration_s(self, part: Part) -> float | None:
        """Raises ConfigError when the part's time is over before it begins."""
        require(part.start_s >= 0, f"{part.generator}: start_s must not be negative")
        fits = part.share is None or 0 < part.share < inf
        require(fits, f"{part.generator}: share must be a number above 0")
        ends = [end_s for end_s in (part.end_s, self.duration_s) if end_s is not None]
        if not ends:
            return None
        require(part.start_s < min(ends), f"{part.generator}: starts at {part.start_s:g} s and ends before")
        return min(ends) - part.start_s


@dataclass(frozen=True, slots=True)
class Mix:
    """A mixture in one line."""

    spec: str = field(
        default="chat*0.7+agents*0.3", metadata=about("NAME[(param=value,...)][*SHARE], joined by +")
    )
    rate_per_s: float = field(
        default=DEFAULT_RATE_PER_S, metadata=about("requests per second of all parts together")
    )
    requests: int | None = field(default=None, metadata=REQUESTS)
    duration_s: float | None = field(
        default=None, metadata=about("requests come, sessions begin during so many seconds")
    )

    def __post_init__(self) -> None:
        self.mixture()

    @property
    def closed_loop(self) -> bool:
        return self.mixture().closed_loop

    def fill(self, trace: Trace, chance: Random, begin_s: float) -> None:
        self.mixture().fill(trace, chance, begin_s)

    def mixture(self) -> Mixture:
        parts = tuple(_part(text) for text in split_outside(self.spec, "+"))
        return Mixture(parts, self.rate_per_s, self.requests, self.duration_s)


def _part(text: str) -> Part:
    """From `NAME[(param=value,...)][*SHARE]`."""
    named, *shares = split_outside(text, "*")
    name, parenthesis, inner = named.strip().partition("(")
    share = 1.0
    if shares:
        try:
            (share,) = map(float, shares)
        except ValueError:
            raise ConfigError(f"expected NAME*SHARE with one number, not `{text.strip()}`") from None
    if parenthesis and not inner.endswith(")"):
        raise ConfigError(f"expected NAME(param=value,...), not `{named.strip()}`")
    return Part(name.strip(), dict(parameters_in(inner[:-1])), share)


def _refuse(part: Part, names: tuple[str, ...], reason: str) -> None:
    for name in names:
        require(name not in part.params, f"{part.generator}: `{name}` must not be given; {reason}")


def _shares(weights: list[float]) -> list[float]:
    total = sum(weights)
    return [weight / total if total else 0.0 for weight in weights]


def _portion(shares: list[float], number: int, total: int) -> int:
    """Of `total`, rounded so that all portions add up to it."""
    return round(total * sum(shares[: number + 1])) - round(total * sum(shares[:number]))
