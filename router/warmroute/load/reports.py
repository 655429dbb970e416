"""Where all that engines say of their load comes together: it is handed to the core, and kept for people.

State that the core has no use for lives here: who told it, and how many questions were asked with what end.
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

import msgspec

from warmroute.load.orca import read_orca
from warmroute.load.sources import STEP_LAG_S
from warmroute_policies.types import LoadReport, WorkerId

if TYPE_CHECKING:
    from warmroute_policies.balancer import Balancer

# A scheduler sends a message a second at least; two may be lost.
_FED_S: Final = 3.0

ENDS: Final = ("answered", "failed", "odd")
"""How a question ended: with an answer, without, or with one that cannot be read."""

HEADS: Final = "answers"
FEED: Final = "feed"
"""What tells, where it is no endpoint."""


class Reported(msgspec.Struct, frozen=True):
    """What one engine has said, as people see it."""

    report: LoadReport
    """The last word on each matter."""
    age_s: float
    told_by: str
    """A path, `HEADS` or `FEED`: the last one."""
    foreign_requests: int
    foreign_tokens: int
    foreign_queue_s: float
    """What of it is not this router's own."""
    under_pressure: bool


class Reports:
    """State: who told last of each worker, and counts."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self._told_by: dict[int, str] = {}
        """By slot; a slot's next worker takes it over."""
        self._fed_at: dict[int, float] = {}
        self.questions = dict.fromkeys(ENDS, 0)
        self.asking_s = 0.0
        """Time that engines took for answers."""

    def take(self, worker_id: WorkerId, report: LoadReport, told_by: str, since: float, now: float) -> bool:
        """Writes. An engine said this, of some moment from `since` to now. Whether it has work of others;
        a worker that is gone has none."""
        fleet = self._balancer.fleet
        slot = fleet.slot_of.get(worker_id)
        if slot is None:
            return False
        self._balancer.report_load(worker_id, report, since, now)
        self._told_by[slot] = told_by
        if told_by is FEED:
            self._fed_at[slot] = now
        return fleet.foreign_requests[slot] > 0 or fleet.foreign_tokens[slot] > 0

    def is_fed(self, worker_id: WorkerId, now: float) -> bool:
        """Reads. Whether its engine sends messages, so that there is nothing to ask."""
        slot = self._balancer.fleet.slot_of.get(worker_id)
        return slot is not None and now - self._fed_at.get(slot, -inf) < _FED_S

    def in_head(self, worker_id: WorkerId, value: bytes) -> None:
        """Writes. An answer's head said this. Gauges are behind it, which are written once a step."""
        report = read_orca(value)
        if report is not None:
            now = monotonic()
            self.take(worker_id, report, HEADS, now - STEP_LAG_S, now)

    def asked(self, end: str, took_s: float) -> None:
        """Writes. A question ended, one of `ENDS`."""
        self.questions[end] += 1
        self.asking_s += took_s

    def of(self, worker_id: WorkerId, now: float) -> Reported | None:
        """Reads. What the worker's engine has said; None: nothing."""
        fleet = self._balancer.fleet
        slot = fleet.slot_of[worker_id]
        told = self._balancer.foreign.told.get(slot)
        if told is None:
            return None
        return Reported(
            told.report,
            max(0.0, now - told.at),
            self._told_by[slot],
            fleet.foreign_requests[slot],
            fleet.foreign_tokens[slot],
            max(0.0, fleet.foreign_until[slot] - now),
            slot in self._balancer.pressure.slots,
        )
