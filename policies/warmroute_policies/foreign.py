"""What others have sent to the workers: what engines say of their load, less what this router has there.

    foreign = what the engine says − what the own books said at that moment

The moment is not known to the millisecond: of gauges it lies a second back. So the books of all that time are
looked at (`recent`), and what they allow is an interval: no fewer than the report less the most that the
books said, no more than the report less the least. The estimate is moved into that interval and no further.
An own request is therefore never taken for another's, and while the own load goes up and down the intervals
of successive reports close in on the truth.

    requests    running or waiting, of which `waiting_requests` is the least that there can be
    tokens      prompt tokens that wait to be computed, where there are others at all. An engine that tells
                only how many requests wait is taken to lack as much of each as own requests lacked lately
    queue       the prefill seconds of these at the worker's price; they run down between two reports

What the columns get follows that slowly: 1 − 1/e of a change within `smoothing_s`, or within three reports if
these are rarer. Routers that go by one fresh report all send to the worker that is idle there, and leave it
together on the next. Simulated: three routers with `least_requests`, told every half second what was so half
a second ago, waited 2.5 times as long for first tokens as if they had known nothing of each other; with 3 s
1.05 times. Where one of them knew half of the workers alone, 3 s took two fifths off the wait, 0 s one fifth.
What lasts is corrected; what comes and goes the others even out by themselves.

Rules kept. What is not told stays as it was, and is never taken for zero. Of an engine that stops telling,
half is forgotten every second once nothing was told for `stale_s`. An own request that goes to a worker is
seen at once by the books, reports or not.
"""

from __future__ import annotations

from math import exp
from typing import Final, final

from warmroute_policies.fleet import Fleet
from warmroute_policies.pressure import Pressure
from warmroute_policies.types import LoadReport
from warmroute_policies.values import Record

# A belief that moved further with a single report would follow what comes and goes.
_REPORTS: Final = 3.0

# Of the mean of what own requests lack: about the last fifty count.
_USUAL_SHARE: Final = 1 / 50


class Told(Record):
    """What one worker's engine has said, and what follows from it."""

    report: LoadReport
    """The last word on each matter."""
    at: float
    """When anything was told last."""
    counted_at: float
    """When requests or their tokens were told last."""
    requests: int = 0
    waiting: int = 0
    tokens: int = 0
    """Of others, as far as this is sure."""
    felt_requests: float = 0.0
    felt_tokens: float = 0.0
    """What follows these slowly."""


@final
class Foreign:
    """State: what was told of each slot, and what the router's own requests lack of their prompts.

    It writes the columns of others' work in the fleet, and who is under pressure.
    """

    def __init__(self, fleet: Fleet, pressure: Pressure, stale_s: float, smoothing_s: float) -> None:
        """0 seconds of smoothing: what is told is believed at once."""
        self._fleet = fleet
        self._pressure = pressure
        self._stale_s = stale_s
        self._smoothing_s = smoothing_s
        self.told: dict[int, Told] = {}
        """By slot, to be read; slots of which nothing was told are missing."""
        self._usual_tokens = 0.0
        """0.0: not known."""

    def report(self, slot: int, report: LoadReport, since: float, now: float) -> None:
        """Writes. The engine of a slot said this; it is about some moment from `since` to now."""
        if self._fleet.recent is None:
            self._fleet.watch_own(now)
        told = self.told.get(slot)
        if told is None:
            told = self.told[slot] = Told(report, now, now)
        else:
            told.report, told.at = _latest(told.report, report), now
        if report.kv_usage is not None:
            self._pressure.told(slot, report.kv_usage, told.report.waiting_requests)
        if self._count(slot, told, report, since, now):
            self._follow(told, now - told.counted_at)
            told.counted_at = now
            self._write(slot, told, now)

    def _count(self, slot: int, told: Told, report: LoadReport, since: float, now: float) -> bool:
        """Writes. Moves what is believed to what the report allows. False: it says nothing of requests, or is
        about a time of which the books are not known."""
        assert self._fleet.recent is not None
        own = self._fleet.recent.extremes(slot, since, now)
        if own is None:
            return False
        waiting, tokens = report.waiting_requests, report.waiting_tokens
        if report.requests is not None:
            told.requests = _into(
                told.requests, report.requests - own.most_requests, report.requests - own.least_requests
            )
        if waiting is not None:
            # Of the own requests whose prefill is not over, some are in a batch already: those do not wait.
            told.waiting = _into(told.waiting, waiting - own.most_waiting, waiting)
            if tokens is None:
                told.tokens = int(told.waiting * self._usual_tokens)
        if tokens is not None:
            told.tokens = _into(told.tokens, tokens - own.most_tokens, tokens)
        return report.requests is not None or waiting is not None or tokens is not None

    def _follow(self, told: Told, passed_s: float) -> None:
        """Writes. What is felt comes nearer to what is told, so long after the last report."""
        requests, tokens = max(told.requests, told.waiting), told.tokens
        if not requests and told.report.requests is not None:
            tokens = 0  # own prompts turned out longer than predicted: there is nobody else
        share = 1.0
        if self._smoothing_s:
            share -= exp(-passed_s / max(self._smoothing_s, _REPORTS * passed_s))
        told.felt_requests += (requests - told.felt_requests) * share
        told.felt_tokens += (tokens - told.felt_tokens) * share

    def sent(self, missing_tokens: int) -> None:
        """Writes. An own request went to some worker and lacks so much of its prompt there."""
        usual = self._usual_tokens
        self._usual_tokens = usual + (missing_tokens - usual) * _USUAL_SHARE if usual else missing_tokens

    def end(self, slot: int) -> None:
        """Writes. The slot is empty, or its engine is another one. Nothing was told: nothing happens."""
        self._pressure.end(slot)
        self.told.pop(slot, None)

    def tick(self, now: float) -> None:
        """Writes. Forgets what nobody confirms; to be called about once a second."""
        for slot, told in self.told.items():
            if now - told.at > self._stale_s:
                self._pressure.end(slot)
            felt = told.felt_requests >= 0.5 or told.felt_tokens >= 0.5
            if now - told.counted_at > self._stale_s and felt:
                told.requests //= 2
                told.waiting //= 2
                told.tokens //= 2
                told.felt_requests /= 2.0
                told.felt_tokens /= 2.0
                self._write(slot, told, now)

    def _write(self, slot: int, told: Told, now: float) -> None:
        requests, tokens = round(told.felt_requests), round(told.felt_tokens)
        self._fleet.set_foreign(slot, requests, tokens, self._seconds(slot, tokens, told.waiting), now)

    def _seconds(self, slot: int, tokens: int, waiting: int) -> float:
        """Reads. The prefill of what waits, in as many equal parts as there are requests."""
        parts = max(1, waiting)
        each = tokens // parts
        return parts * self._fleet.prefill_seconds(slot, each, each)


def _into(value: int, least: int, most: int) -> int:
    """The value, or the end of the interval that is nearer to it; never below 0."""
    return max(0, least, min(value, most))


def _latest(before: LoadReport, report: LoadReport) -> LoadReport:
    """Field by field what was told last."""
    return LoadReport(
        before.requests if report.requests is None else report.requests,
        before.waiting_requests if report.waiting_requests is None else report.waiting_requests,
        before.waiting_tokens if report.waiting_tokens is None else report.waiting_tokens,
        before.kv_usage if report.kv_usage is None else report.kv_usage,
    )
