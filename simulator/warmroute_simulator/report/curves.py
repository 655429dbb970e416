"""What a page draws of one run, thinned out: some tens of kilobytes however long the run was.

A run's records may live in another process, and four policies' records need not be kept at once: curves are
small, can be pickled, and are all that a page needs beside the report.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from heapq import nlargest
from math import ceil
from statistics import NormalDist
from typing import Final

import msgspec

from warmroute_simulator.report.latencies import e2e_s, quantile, tpot_s, ttft_s
from warmroute_simulator.report.model import Report
from warmroute_simulator.simulation.records import Outcome, Records

ECDF_POINTS: Final = 300
"""One for every other pixel of a plot."""
_BINS: Final = 60
"""Stretches of time: few enough that each has some hundred requests, enough to see a wave."""
_LOAD_POINTS: Final = 96
"""Of a small plot, half a point for each pixel."""
SLOWEST: Final = 10

LOWEST_SHARE: Final = 0.01
HIGHEST_SHARE: Final = 0.999
"""The part of a distribution that is drawn; beyond it single requests decide."""


class Ecdf(msgspec.Struct, frozen=True):
    """For each share of requests the latency that they do not exceed; evenly spread on a normal scale."""

    shares: list[float]
    values_s: list[float]


class Hits(msgspec.Struct, frozen=True):
    """Hit rates of the requests that arrived in each stretch of time; None: nobody came."""

    edges_s: list[float]
    """One more than there are stretches; seconds since the first arrival."""
    rates: list[float | None]
    infinite: list[float | None]
    """Of one infinite cache; empty when not known."""


class Waits(msgspec.Struct, frozen=True):
    """TTFT of the requests that arrived in each stretch of time and count; None: there are none."""

    edges_s: list[float]
    """As those of `Hits`."""
    p90_s: list[float | None]


class Mark(msgspec.Struct, frozen=True):
    """Something that a scenario did."""

    at_s: float
    """Since the first arrival, within the run."""
    what: str


class WorkerLoad(msgspec.Struct, frozen=True):
    """One worker over time."""

    running: list[float]
    waiting: list[float]
    kv_used: list[float]
    kv_cached: list[float]


class Load(msgspec.Struct, frozen=True):
    """All workers over time; means of the samples that became one point."""

    times_s: list[float]
    """Since the simulation's beginning."""
    workers: list[WorkerLoad]


class Slow(msgspec.Struct, frozen=True):
    """One of the slowest requests."""

    row: int
    arrived_s: float
    worker: str
    reason: str
    prompt_tokens: int
    output_tokens: int
    predicted_tokens: int
    hit_tokens: int
    evicted_tokens: int
    elsewhere_tokens: int
    ttft_s: float
    e2e_s: float


class Curves(msgspec.Struct, frozen=True):
    """One run. The distributions leave out what the report's latencies leave out."""

    ttft: Ecdf | None
    tpot: Ecdf | None
    e2e: Ecdf | None
    session: Ecdf | None
    hits: Hits
    waits: Waits
    marks: list[Mark]
    load: Load
    slowest: list[Slow]
    """By TTFT, the slowest first."""


def curves(records: Records, report: Report, infinite_hit_tokens: Sequence[int] = ()) -> Curves:
    """Reads. `infinite_hit_tokens`: by position in `records.admitted`, what one infinite cache would hit."""
    start_s = min((at for at in records.arrived_s if at == at), default=0.0)
    from_s = start_s + report.warm_up.skip_s
    rows = _measured(records, from_s)
    sessions = zip(records.session_started_s, records.session_ended_s, strict=True)
    ttfts, tpots, e2es = ttft_s(records), tpot_s(records), e2e_s(records)
    edges_s = [_digits(edge * report.span_s / _BINS) for edge in range(_BINS + 1)]
    bins = _bins(records, start_s, report.span_s)
    return Curves(
        ttft=ecdf(ttfts[row] for row in rows),
        tpot=ecdf(tpots[row] for row in rows),
        e2e=ecdf(e2es[row] for row in rows),
        session=ecdf(end - start for start, end in sessions if start >= from_s),
        hits=_hits(records, edges_s, bins, infinite_hit_tokens),
        waits=Waits(edges_s, _p90_by_bin(rows, ttfts, bins)),
        marks=_marks(records, start_s, report.span_s),
        load=_load(records),
        slowest=[_slow(records, row, ttfts, e2es) for row in slowest_rows(records, report)],
    )


def slowest_rows(records: Records, report: Report, count: int = SLOWEST) -> list[int]:
    """Reads. The requests with the largest TTFT after the warm-up: those whose decisions need explaining."""
    start_s = min((at for at in records.arrived_s if at == at), default=0.0)
    ttfts = ttft_s(records)
    rows = (row for row in _measured(records, start_s + report.warm_up.skip_s) if ttfts[row] == ttfts[row])
    return nlargest(count, rows, key=lambda row: (ttfts[row], -row))


def ecdf(values: Iterable[float]) -> Ecdf | None:
    """Reads. `nan` is left out; None when nothing is left."""
    ordered = sorted(value for value in values if value == value)
    if not ordered:
        return None
    normal = NormalDist()
    # The slowest of n stands for the last n-th: beyond it nothing is known.
    highest = min(HIGHEST_SHARE, max(1 - 1 / len(ordered), 0.5))
    low, high = normal.inv_cdf(LOWEST_SHARE), normal.inv_cdf(highest)
    points = min(ECDF_POINTS, max(2 * len(ordered), 2))
    shares = [normal.cdf(low + (high - low) * point / (points - 1)) for point in range(points)]
    return Ecdf([_digits(share) for share in shares], [_digits(quantile(ordered, share)) for share in shares])


def _measured(records: Records, from_s: float) -> list[int]:
    """Reads. Rows that ended well and came after the warm-up."""
    ok, arrivals = Outcome.OK.value, records.arrived_s
    return [row for row, outcome in enumerate(records.outcome) if outcome == ok and arrivals[row] >= from_s]


def _bins(records: Records, start_s: float, span_s: float) -> array[int]:
    """Reads. By row, the stretch of time in which it arrived; 0 for one that never did."""
    width_s = span_s / _BINS or 1.0
    arrivals = records.arrived_s
    return array("h", (min(int((at - start_s) / width_s), _BINS - 1) if at == at else 0 for at in arrivals))


def _marks(records: Records, start_s: float, span_s: float) -> list[Mark]:
    """Reads. What happened before the first arrival has an effect from there on; what happened after the last
    request had ended has none."""
    marks = (Mark(max(_digits(found.at_s - start_s), 0.0), found.what) for found in records.happened)
    return [mark for mark in marks if mark.at_s <= span_s]


def _p90_by_bin(rows: Sequence[int], values: Sequence[float], bins: Sequence[int]) -> list[float | None]:
    found: list[list[float]] = [[] for _ in range(_BINS)]
    for row in rows:
        if values[row] == values[row]:
            found[bins[row]].append(values[row])
    return [_digits(quantile(sorted(one), 0.9)) if one else None for one in found]


def _hits(
    records: Records, edges_s: list[float], bins: Sequence[int], infinite_hit_tokens: Sequence[int]
) -> Hits:
    """Reads. Hit tokens ÷ prompt tokens by the time of arrival."""
    ends, prompts = records.trace.tree.ends, records.trace.prompts
    totals, hits = [0] * _BINS, [0] * _BINS
    for row, hit in enumerate(records.hit_tokens):
        if hit >= 0:
            totals[bins[row]] += ends[prompts[row]]
            hits[bins[row]] += hit
    infinite: list[float | None] = []
    if infinite_hit_tokens:
        bound_totals, bound_hits = [0] * _BINS, [0] * _BINS
        for row, hit in zip(records.admitted, infinite_hit_tokens, strict=True):
            bound_totals[bins[row]] += ends[prompts[row]]
            bound_hits[bins[row]] += hit
        infinite = _rates(bound_hits, bound_totals)
    return Hits(edges_s, _rates(hits, totals), infinite)


def _rates(hits: list[int], totals: list[int]) -> list[float | None]:
    return [_digits(hit / total) if total else None for hit, total in zip(hits, totals, strict=True)]


def _load(records: Records) -> Load:
    """Reads. Neighbouring samples become one; the last may stand for fewer."""
    samples = records.samples
    size = ceil(len(samples) / _LOAD_POINTS) or 1
    groups = [samples[first : first + size] for first in range(0, len(samples), size)]
    workers = [
        WorkerLoad(
            [_mean([sample.running[worker] for sample in group]) for group in groups],
            [_mean([sample.waiting[worker] for sample in group]) for group in groups],
            [_mean([sample.kv_used[worker] for sample in group]) for group in groups],
            [_mean([sample.kv_cached[worker] for sample in group]) for group in groups],
        )
        for worker in range(len(records.workers))
    ]
    return Load([_mean([sample.at_s for sample in group]) for group in groups], workers)


def _slow(records: Records, row: int, ttfts: array[float], e2es: array[float]) -> Slow:
    worker, reason = records.worker[row], records.reason[row]
    return Slow(
        row,
        records.arrived_s[row],
        "" if worker < 0 else records.workers[worker],
        "" if reason < 0 else records.reasons[reason],
        records.trace.prompt_tokens(row),
        records.trace.output_tokens[row],
        records.predicted_tokens[row],
        records.hit_tokens[row],
        records.evicted_tokens[row],
        records.elsewhere_tokens[row],
        ttfts[row],
        e2es[row],
    )


def _mean(values: Sequence[float]) -> float:
    return _digits(sum(values) / len(values))


def _digits(value: float) -> float:
    """Four significant digits: more than a plot can show."""
    return float(f"{value:.4g}")
