"""Several runs that belong together: the same cell with several seeds, or a policy over several loads.

These are the values that tables and pages show. How an interval comes about is `study.intervals`' business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from warmroute_simulator.report.latencies import Spread
from warmroute_simulator.report.model import Report

Settings: TypeAlias = dict[str, str | int | float]


class Interval(msgspec.Struct, frozen=True):
    """A mean, and where the true one probably is; no bounds where there was one value only."""

    mean: float
    low: float | None
    high: float | None


class Summary(msgspec.Struct, frozen=True):
    """One cell of a comparison over its seeds."""

    policy: str
    settings: Settings
    seeds: list[int]
    keys: dict[str, Interval]
    """By the dotted name of a number in `Report`: "hit_rate", "ttft_s.p99"."""


class Difference(msgspec.Struct, frozen=True):
    """One policy minus another, on the same seeds and settings."""

    policy: str
    versus: str
    settings: Settings
    seeds: list[int]
    keys: dict[str, Interval]


class LoadPoint(msgspec.Struct, frozen=True):
    """One run of a sweep, as far as the knee shows."""

    policy: str
    load: float
    """Whatever was swept, as a number: requests per second, sessions at once, speed."""
    goodput_per_s: float
    goodput_share: float | None
    ttft_p99_s: float | None

    @classmethod
    def of(cls, report: Report, load: float) -> LoadPoint:
        """Reads."""
        return cls(
            report.policy,
            load,
            report.goodput.requests_per_s,
            report.goodput.share,
            None if report.ttft_s is None else report.ttft_s.p99,
        )


def numbers(report: Report) -> dict[str, float]:
    """Reads. What is averaged over seeds, by dotted name; a number that was not measured is left out."""
    found: dict[str, float | None] = {
        "requests": report.requests,
        "hit_rate": report.hit_rate,
        "predicted_hit_rate": report.predicted_hit_rate,
    }
    spreads: dict[str, Spread | None] = {
        "ttft_s": report.ttft_s,
        "tpot_s": report.tpot_s,
        "e2e_s": report.e2e_s,
        "session_s": report.session_s,
    }
    for name, spread in spreads.items():
        if spread is not None:
            found |= {
                f"{name}.mean": spread.mean,
                f"{name}.p50": spread.p50,
                f"{name}.p90": spread.p90,
                f"{name}.p99": spread.p99,
            }
    found |= {
        "output_tokens_per_s": report.output_tokens_per_s,
        "goodput.requests_per_s": report.goodput.requests_per_s,
        "goodput.share": report.goodput.share,
        "imbalance": report.imbalance,
        "evicted_tokens": report.evicted_tokens,
        "bounds.single_infinite": report.bounds.single_infinite,
        "bounds.pooled_lru": report.bounds.pooled_lru,
        "bounds.pooled_belady": report.bounds.pooled_belady,
        "below_bounds_points.single_infinite": report.below_bounds_points.single_infinite,
        "below_bounds_points.pooled_lru": report.below_bounds_points.pooled_lru,
        "below_bounds_points.pooled_belady": report.below_bounds_points.pooled_belady,
        "wall_s": report.wall_s,
        "cpu_s": report.cpu_s,
    }
    return {name: value for name, value in found.items() if value is not None}


def alone(report: Report) -> Summary:
    """Reads. A report as the summary of one seed: a mean of everything, an interval of nothing."""
    intervals = {key: Interval(value, None, None) for key, value in numbers(report).items()}
    return Summary(report.policy, report.settings, [report.seed], intervals)


def varying(settings: Sequence[Settings]) -> list[str]:
    """Reads. Names of the settings that are not the same in all."""
    names = dict.fromkeys(name for one in settings for name in one)
    return [name for name in names if len({str(one.get(name)) for one in settings}) > 1]
