"""Where an engine can be asked for its load, and what it turns out not to tell.

    /v1/loads    SGLang: all there is, in 1 KB; where it answers nothing else is asked
    /get_load    older SGLang
    /load        vLLM: requests in flight, exact at once, where the engine was started so that it counts them
    /metrics     all of them: what waits and how full the cache is; some 100 KB, written once a step

Which of them there are is found out by asking. Rules kept. What answers 404, or three times in a row what
cannot be read, is not there, and is tried again after ten minutes: another engine may have taken its place.
vLLM's `/load` is 0 for ever unless counting is on. So a 0 is worth nothing before there was another number;
three of them while the router has requests there show that nobody counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from warmroute.load.answers import read_get_load, read_server_load, read_v1_loads
from warmroute.load.gauges import read_gauges
from warmroute.load.pace import Mood, Pace
from warmroute_policies.types import LoadReport

_TRY_AGAIN_S: Final = 600.0
_ODD_IN_A_ROW: Final = 3
_ZEROS_IN_A_ROW: Final = 3

# An endpoint that is not there, or not for GET.
_ABSENT: Final = frozenset((404, 405, 410, 501))

STEP_LAG_S: Final = 1.0
"""Gauges are written once a step, or every few. 0.6 s were seen with a long prefill."""

_NO_LAG_S: Final = 0.1
"""A number that a server counts itself: a request may be on its way to or from it."""


@dataclass(frozen=True, slots=True)
class Source:
    """An endpoint."""

    path: str
    read: Callable[[bytes], LoadReport]
    """Raises ValueError."""
    lag_s: float
    """How long before the question the moment may lie that it tells of."""
    instead_of: tuple[str, ...] = ()
    """Paths that nobody needs to ask where this one answers."""
    may_not_count: bool = False
    """Zeros prove nothing."""


SOURCES: Final = (
    Source("/v1/loads?include=core", read_v1_loads, STEP_LAG_S, ("/get_load", "/load", "/metrics")),
    Source("/get_load", read_get_load, STEP_LAG_S, ("/load",)),
    Source("/load", read_server_load, _NO_LAG_S, may_not_count=True),
    Source("/metrics", read_gauges, STEP_LAG_S),
)


class Asked:
    """One source of one worker. State: its pace, when it is due, whether it is there and counts."""

    def __init__(self, source: Source, pace: Pace, due_at: float) -> None:
        self.source = source
        self.pace = pace
        self.due_at = due_at
        self.answers = False
        """The last answer could be read."""
        self.absent = False
        self._counts = not source.may_not_count
        self._odd = 0
        self._zeros = 0

    def take(self, body: bytes, *, busy: bool) -> LoadReport | None:
        """Writes. What the answer tells; `busy`: the router had requests there all the time. None: nothing,
        as far as is known yet. Raises ValueError."""
        report = self.source.read(body)
        self._odd = 0
        self.answers = True
        self.absent = False
        if self._counts:
            return report
        if report.requests:
            self._counts = True
            return report
        self._zeros = self._zeros + 1 if busy else 0
        if self._zeros >= _ZEROS_IN_A_ROW:
            self._gone()
        return None

    def failed(self, status: int | None, *, odd: bool) -> None:
        """Writes. No answer (`status`: another than 2xx), or one that cannot be read."""
        self._odd = self._odd + 1 if odd else 0
        if status in _ABSENT or self._odd >= _ODD_IN_A_ROW:
            self._gone()

    def _gone(self) -> None:
        self.absent, self.answers = True, False
        self._odd = self._zeros = 0
        self._counts = not self.source.may_not_count

    def next_at(self, now: float, wait_s: float) -> None:
        """Writes. When it is to be asked again."""
        self.due_at = now + (_TRY_AGAIN_S if self.absent else wait_s)


class Sources:
    """All sources of one worker. State: theirs, whether one of them is being asked, and what was logged.
    What an answer makes due again was due when that answer was asked for."""

    def __init__(self, make_pace: Callable[[], Pace], now: float) -> None:
        self.asked = [Asked(source, make_pace(), now) for source in SOURCES]
        self.under_way = False
        self._wake_at = 0.0
        """Before, none is due: most of the ten looks a second end here."""
        self.complained = False
        """The log has it that this worker tells nothing."""

    def due(self, now: float) -> Asked | None:
        """Writes. The source that is due first; None: none is, or one is being asked."""
        if self.under_way or now < self._wake_at:
            return None
        spared = {path for asked in self.asked if asked.answers for path in asked.source.instead_of}
        needed = [one for one in self.asked if one.source.path not in spared]
        first = min(needed, key=lambda one: one.due_at)
        if first.due_at <= now:
            return first
        self._wake_at = first.due_at
        return None

    @property
    def silent(self) -> bool:
        """Reads. The worker tells nothing of its load, wherever it is asked."""
        return all(asked.absent for asked in self.asked)


def mood_of(*, foreign: bool, own: bool) -> Mood:
    """Whether there is reason to ask again soon: others' work, the router's own, or nobody's."""
    if foreign:
        return Mood.DISAGREES
    return Mood.BUSY if own else Mood.IDLE
