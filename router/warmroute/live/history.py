"""The last five minutes of the router's counters.

Rules kept. Samples are taken in the tick, once a second, whether or not somebody watches: a page that is
opened shows what was. Counters are read, never written, so a request pays nothing for it. A worker that
leaves takes its counters along; what it had counted until then stays in the samples.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import accumulate, islice
from operator import add, sub
from typing import NamedTuple

from warmroute.series import SHORTAGES, Metrics, Series
from warmroute_policies.types import Outcome

STEP_S = 5
"""Between two points of a chart: five minutes are 60 of them, as many as a small chart can show."""

STEPS = 60

MINUTE_S = 60
"""What "now" means for rates and shares: long enough for a p99, short enough to see a change."""

# Looking at one takes about 3 µs, and a tick may take a millisecond. Where there are more, those that
# are left come in the next ticks: their counts are late by seconds, and none is lost.
_SERIES_PER_TICK = 300

# How requests end by a fault of the worker or the router.
_FAILED = (Outcome.WORKER_ERROR, Outcome.TIMEOUT, Outcome.CANCELLED)

# The numbers of a sample: those of `_counts` in that order, then the buckets of the time to first token.
_REQUESTS, _ERRORS, _PROMPT, _ACTUAL, _PREDICTED, _REUSABLE, _REPORTED, _SAVED_S, _BUCKETS = range(9)


class Minute(NamedTuple):
    """The last minute; None where nothing was counted that could tell."""

    requests_per_s: float
    errors_per_s: float
    prompt_tokens_per_s: float
    actual_hit_rate: float | None
    predicted_hit_rate: float | None
    reusable_rate: float | None
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    prefill_saved_s_per_s: float


class Ever(NamedTuple):
    """Since the router started."""

    decisions: int
    predicted_hit_rate: float | None


class Points(NamedTuple):
    """One value for each of `STEPS` steps, oldest first; None where nothing came."""

    requests_per_s: list[float | None]
    actual_hit_rate: list[float | None]
    predicted_hit_rate: list[float | None]
    ttft_p50_s: list[float | None]
    ttft_p99_s: list[float | None]


class History:
    """State: what was last seen of every series, the seconds of the last minute, the step being filled, the
    points of the steps before it, and the sum of all."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._seen: dict[Series, list[float]] = {}
        self._refused = 0
        self._next = 0
        """Where the next tick goes on, when the last one did not get to the end."""
        self._bounds = Series().ttft_s.bounds
        self._nothing: list[float] = [0] * (_BUCKETS + len(self._bounds) + 1)
        self._seconds: deque[list[float]] = deque(maxlen=MINUTE_S)
        self._minute = self._nothing
        self._ever = self._nothing
        self._step = self._nothing
        self._in_step = 0
        self._points = [deque[float | None]([None] * STEPS, STEPS) for _ in Points._fields]

    def sample(self) -> None:
        """Writes. To be called once a second."""
        second = self._nothing
        for series in self._due():
            counts = _counts(series)
            before = self._seen.get(series)
            second = list(map(add, second, counts if before is None else map(sub, counts, before)))
            self._seen[series] = counts
        refused = sum(self._metrics.refusals.get(code, 0) for code in SHORTAGES)
        if refused > self._refused:
            second = second.copy()
            second[_ERRORS] += refused - self._refused
            self._refused = refused
        if len(self._seen) > len(self._metrics.series):
            present = set(self._metrics.series.values())
            self._seen = {series: counts for series, counts in self._seen.items() if series in present}
        self._add(second)

    def _due(self) -> Iterator[Series]:
        """The series whose turn it is."""
        every = self._metrics.series.values()
        begin = self._next if self._next < len(every) else 0
        self._next = begin + _SERIES_PER_TICK
        return islice(every, begin, self._next)

    def _add(self, second: list[float]) -> None:
        seconds = self._seconds
        if len(seconds) == MINUTE_S:
            self._minute = list(map(sub, self._minute, seconds[0]))
        seconds.append(second)
        self._minute = list(map(add, self._minute, second))
        self._ever = list(map(add, self._ever, second))
        self._step = list(map(add, self._step, second))
        self._in_step += 1
        if self._in_step == STEP_S:
            step, self._step, self._in_step = self._step, self._nothing, 0
            values = (
                step[_REQUESTS] / STEP_S,
                self._actual(step),
                _share(step[_PREDICTED], step[_PROMPT]),
                self._quantile(step, 0.5),
                self._quantile(step, 0.99),
            )
            for points, value in zip(self._points, values, strict=True):
                points.append(value)

    def minute(self) -> Minute:
        """Reads. Over the last minute, or as much of it as there was."""
        counts, length_s = self._minute, max(1, len(self._seconds))
        return Minute(
            round(counts[_REQUESTS] / length_s, 3),
            round(counts[_ERRORS] / length_s, 3),
            round(counts[_PROMPT] / length_s, 1),
            self._actual(counts),
            _share(counts[_PREDICTED], counts[_PROMPT]),
            _share(counts[_REUSABLE], counts[_PROMPT]),
            self._quantile(counts, 0.5),
            self._quantile(counts, 0.99),
            max(0.0, round(counts[_SAVED_S] / length_s, 3)),  # sums of fractions leave a trace
        )

    def ever(self) -> Ever:
        """Reads. Since the start, to compare with what else is counted since then."""
        return Ever(int(self._ever[_REQUESTS]), _share(self._ever[_PREDICTED], self._ever[_PROMPT]))

    def points(self) -> Points:
        """Reads."""
        return Points(*map(list, self._points))

    @staticmethod
    def _actual(counts: list[float]) -> float | None:
        """Engines that do not report have no hit rate; that is not one of zero."""
        return _share(counts[_ACTUAL], counts[_PROMPT]) if counts[_REPORTED] else None

    def _quantile(self, counts: list[float], share: float) -> float | None:
        """Within its bucket, answers are taken to lie evenly; beyond the last bound it is that bound."""
        buckets, low = counts[_BUCKETS:], 0.0
        wanted = share * sum(buckets)
        if not wanted:
            return None
        for bound, count, total in zip(self._bounds, buckets, accumulate(buckets), strict=False):
            if total >= wanted:
                return round(low + (bound - low) * (wanted - (total - count)) / count, 6)
            low = bound
        return low


def _counts(series: Series) -> list[float]:
    outcomes = series.outcomes
    return [
        sum(outcomes.values()),
        sum(outcomes[outcome] for outcome in _FAILED),
        series.prompt_tokens,
        series.actual_hit_tokens,
        series.predicted_hit_tokens,
        series.reusable_tokens,
        series.reported,
        series.saved_prefill_s,
        *series.ttft_s.counts,
    ]


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None
