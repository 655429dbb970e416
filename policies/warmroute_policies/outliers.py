"""Which workers are worse than they should be: too many of their requests fail, or they are much slower than
predicted when the others are not.

    errors   failed ÷ (failed + answered) within the window, from `min_requests` on, is at least `error_rate`
    slow     the median of time to first byte ÷ predicted time, over the last `min_requests` or more, is above
             `slow_factor` times the median of the other workers' medians

A time is divided by what the books predicted for that worker when the request was dispatched: its queue and
the prefill, at the worker's price and weight. So slow hardware that is declared slow is no outlier, nor is a
worker for being busy. And it is compared with the others' quotients: a price that is wrong is wrong for all.
An error rate is judged by itself: when all workers fail all are bad, and how many may be ejected is another's
decision.

Rules kept. Counts come as totals, so that nobody counts twice; times come one by one. No clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, final

from warmroute_policies.types import WorkerId

# Of a worker's times, the last so many decide: a median of 32 quotients that vary by a factor of three is
# itself off by a fifth.
_TIMES: Final = 32

# Two of three workers cannot both be slower than the rest; below three nobody knows who is the outlier.
_LEAST_WORKERS: Final = 3

# What any first byte takes beside the prefill: a step of the engine, the network. Without it short prompts
# would show quotients in the hundreds.
_STEP_S: Final = 0.02


@final
class _Seen:
    """State of one worker: its totals over the window, and its last quotients with their time."""

    def __init__(self, times: int) -> None:
        self.totals: deque[tuple[float, int, int]] = deque()
        self.quotients: deque[tuple[float, float]] = deque(maxlen=times)


@final
class Outliers:
    """State: what was seen of every worker lately."""

    def __init__(self, error_rate: float, slow_factor: float, window_s: float, min_requests: int) -> None:
        """An `error_rate` or a `slow_factor` of 0 is not looked at."""
        self._error_rate = error_rate
        self._slow_factor = slow_factor
        self._window_s = window_s
        self._min_requests = min_requests
        self._seen: dict[WorkerId, _Seen] = {}

    def counted(self, worker: WorkerId, answered: int, failed: int, now: float) -> None:
        """Writes. The worker's totals as of now; to be called about once a second."""
        totals = self._of(worker).totals
        totals.append((now, answered, failed))
        # The oldest sample is the last one outside the window: what came since lies within it.
        while len(totals) > 1 and totals[1][0] <= now - self._window_s:
            totals.popleft()

    def first_byte(self, worker: WorkerId, seconds: float, predicted_s: float, now: float) -> None:
        """Writes. A first byte took so long, or at least so long; the prediction is the dispatch's."""
        self._of(worker).quotients.append((now, seconds / (predicted_s + _STEP_S)))

    def forget(self, worker: WorkerId) -> None:
        """Writes. It was ejected, or is gone: what it was is no measure of what it will be."""
        self._seen.pop(worker, None)

    def find(self, workers: Iterable[WorkerId], now: float) -> list[tuple[WorkerId, str]]:
        """Reads. The outliers among these workers, `errors` before `slow`, each kind worst first."""
        present = [worker for worker in workers if worker in self._seen]
        failing = sorted(
            ((self._rate(worker), worker) for worker in present if self._error_rate), reverse=True
        )
        found = [(worker, "errors") for rate, worker in failing if rate >= self._error_rate]
        if self._slow_factor:
            known = {worker for worker, _ in found}
            found += [(worker, "slow") for worker in self._slow(present, now) if worker not in known]
        return found

    def _of(self, worker: WorkerId) -> _Seen:
        seen = self._seen.get(worker)
        if seen is None:
            seen = self._seen[worker] = _Seen(max(_TIMES, self._min_requests))
        return seen

    def _rate(self, worker: WorkerId) -> float:
        """Reads. Share of the window's requests that failed; 0.0 where they are too few."""
        totals = self._seen[worker].totals
        if len(totals) < 2:
            return 0.0
        answered, failed = totals[-1][1] - totals[0][1], totals[-1][2] - totals[0][2]
        return failed / (answered + failed) if answered + failed >= self._min_requests else 0.0

    def _slow(self, workers: list[WorkerId], now: float) -> list[WorkerId]:
        """Reads. The slowest first."""
        usual = []
        for worker in workers:
            recent = [quotient for at, quotient in self._seen[worker].quotients if at > now - self._window_s]
            if len(recent) >= self._min_requests:
                usual.append((_median(recent), worker))
        if len(usual) < _LEAST_WORKERS:
            return []
        usual.sort(reverse=True)
        medians = [median for median, _ in usual]
        return [
            worker
            for place, (median, worker) in enumerate(usual)
            if median > self._slow_factor * _median(medians[:place] + medians[place + 1 :])
        ]


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
