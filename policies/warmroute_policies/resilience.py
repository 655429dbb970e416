"""When to stop trusting a worker, and how often to try again.

`Ejector` is the passive side of health: failures of real requests. `Checks` is the active side: answers to
the router's own questions. `RetryBudget` keeps retries from
multiplying an overload: they are a share of the traffic, with a floor for quiet times.
"""

from __future__ import annotations

import enum


class Trust(enum.Enum):
    """What an ejector thinks of its worker."""

    TRUSTED = "trusted"
    EJECTED = "ejected"
    DUE = "due"
    """Left alone for long enough: the next request goes there to find out."""
    PROBING = "probing"
    """That request is on its way; no other one follows it."""


class Ejector:
    """State: failures in a row, and since when the worker is ejected. One per worker.

    A failed probe doubles the time until the next one, up to `_BACKOFF_MAX` times the first.
    """

    def __init__(self, failures: int, eject_for_s: float) -> None:
        self._failures_max = failures
        self._eject_for_s = eject_for_s
        self._failures = 0
        self._ejections = 0
        self._until = 0.0
        self.trust = Trust.TRUSTED

    def reconfigure(self, failures: int, eject_for_s: float) -> None:
        """Writes. Other limits for what comes; an ejection under way ends when it was to end."""
        self._failures_max, self._eject_for_s = failures, eject_for_s

    def failed(self, now: float) -> None:
        """Writes. A request failed by the worker's fault. Once it is ejected, those that were already on
        their way tell nothing new: an engine that dies with a hundred streams has failed once."""
        if self.trust is Trust.EJECTED:
            return
        self._failures += 1
        if self.trust is not Trust.TRUSTED or self._failures >= self._failures_max:
            self.trust = Trust.EJECTED
            self._until = now + self._eject_for_s * min(2**self._ejections, _BACKOFF_MAX)
            self._ejections += 1
            self._failures = 0

    @property
    def clean(self) -> bool:
        """Reads. Nothing to forgive."""
        return self._failures == 0 and self.trust is Trust.TRUSTED

    def succeeded(self) -> None:
        """Writes. The worker answered."""
        self._failures = self._ejections = 0
        self.trust = Trust.TRUSTED

    def probe_due(self, now: float) -> bool:
        """Reads. Whether the worker has been left alone for long enough."""
        return self.trust is Trust.EJECTED and now >= self._until

    @property
    def accepts(self) -> bool:
        """Reads. Whether a request may be sent."""
        return self.trust is Trust.TRUSTED or self.trust is Trust.DUE


# With 10 s to begin with, a worker that stays broken is asked every 80 s.
_BACKOFF_MAX = 8


class Checks:
    """State: good or failed checks in a row, and the verdict. One per worker.

    The first check decides alone, and so does the first good one of a worker that never was well: `rise`
    and `fall` are there to ride out single outliers, and there is nothing yet to ride out.
    """

    def __init__(self, rise: int, fall: int) -> None:
        self._rise = rise
        self._fall = fall
        self._run = 0
        self._was_well = False
        self.well: bool | None = None
        """None until the first check."""
        self.why: str | None = None
        """What the last check found wrong; None when it was good."""
        self.last_at: float | None = None

    def reconfigure(self, rise: int, fall: int) -> None:
        """Writes. Other limits, from the next check on."""
        self._rise, self._fall = rise, fall

    def seen(self, why: str | None, now: float) -> bool:
        """Writes. A check ended, `why` says what failed; returns the verdict."""
        good = why is None
        self._run = self._run + 1 if good is (self.why is None) else 1
        self.why, self.last_at = why, now
        enough = self._rise if good else self._fall
        well = good if self.well is None or not self._was_well or self._run >= enough else self.well
        self.well = well
        self._was_well = self._was_well or well
        return well


# Seconds of the floor that may be saved up: a burst of failures after a quiet time may still be retried.
_SAVED_S = 10.0


class RetryBudget:
    """State: tokens, and up to when and up to which request they were counted.

    A retry takes one; each second adds `min_per_s`, each request `ratio`. At most `saved` wait to be taken,
    or the floor's of ten seconds where that is more.
    """

    def __init__(self, ratio: float, min_per_s: float, saved: float = 1.0) -> None:
        self._ratio = ratio
        self._min_per_s = min_per_s
        self._limit = max(saved, min_per_s * _SAVED_S)
        self._tokens = self._limit
        self._filled_at = 0.0
        self._requests = 0

    def fill(self, now: float, requests: int) -> float:
        """Writes. Retries that may be made now; `requests` counts all since the start."""
        if self._filled_at:
            earned = (now - self._filled_at) * self._min_per_s + (requests - self._requests) * self._ratio
            self._tokens = min(self._limit, self._tokens + earned)
        self._filled_at, self._requests = now, requests
        return self._tokens

    def take(self, now: float, requests: int) -> bool:
        """Writes. Whether a retry may be made; then it is paid for."""
        if self.fill(now, requests) < 1.0:
            return False
        self._tokens -= 1.0
        return True
