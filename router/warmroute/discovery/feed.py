"""What one source said last, and whether it is believed.

Being wrong costs unequal things. A worker kept that is gone costs one failed connection: health checks and
ejection take it out of service. A worker removed that is well costs its cache, and the last one costs the
service. So a failure of the source changes nothing, and a set without a single ready worker, after one that
had some, is believed only when the source has said so for `discovery_empty_hold_s` without a failure in
between. Workers that are leaving in so many words (a pod that terminates) are not held.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from time import monotonic, time

from warmroute.discovery.found import Found, Sight, Source
from warmroute.metrics.snapshot import SourceRow
from warmroute_policies.types import WorkerId

log = logging.getLogger("warmroute.discovery")


class Feed:
    """A source's `Report`. State: what it said last, what of that is in force, how often it failed."""

    def __init__(self, source: Source, empty_hold_s: float, changed: Callable[[], None]) -> None:
        self.source = source
        self.kind = source.kind
        self.target = source.target
        self.wanted: dict[WorkerId, Found] = {}
        """In force."""
        self.syncs = 0
        """Times that it said which workers there are."""
        self.failures = 0
        self.last_success_at: float | None = None
        """Seconds since 1970; None: never."""
        self.error: str | None = None
        """Why it does not know now."""
        self._empty_hold_s = empty_hold_s
        self._changed = changed
        self._said: dict[WorkerId, Found] = {}
        self._empty_since: float | None = None
        self._confirm: asyncio.TimerHandle | None = None

    @property
    def workers(self) -> int:
        """Reads. How many workers it names that are not leaving."""
        return sum(found.sight is not Sight.LEAVING for found in self.wanted.values())

    def found(self, workers: Iterable[Found]) -> None:
        """Writes. See `Report`."""
        said: dict[WorkerId, Found] = {}
        for found in workers:
            before = said.get(found.backend.url)
            if before is None or found.sight < before.sight:
                said[found.backend.url] = found
        self.syncs += 1
        self.last_success_at = time()
        if self.error is not None or self.syncs == 1:
            log.info(
                "discovery has an answer",
                extra={"from": self.kind, "target": self.target, "workers": len(said)},
            )
        self.error = None
        self._said = said
        self._believe()

    def failed(self, why: str) -> None:
        """Writes. See `Report`."""
        self.failures += 1
        self._let_go()
        if why != self.error:
            self.error = why
            log.warning(
                "discovery failed, workers stay" if self.syncs else "discovery failed, no workers yet",
                extra={"from": self.kind, "target": self.target, "why": why},
            )

    def row(self) -> SourceRow:
        """Reads. What is counted of it."""
        return SourceRow(
            self.kind, self.target, self.workers, self.syncs, self.failures, self.last_success_at
        )

    def close(self) -> None:
        """Writes. Nothing happens by itself any more. Twice is once."""
        self._let_go()

    def _believe(self) -> None:
        leaving = {key: found for key, found in self._said.items() if found.sight is Sight.LEAVING}
        held = self.wanted | leaving
        if _any_ready(self._said) or not _any_ready(held):
            self._let_go()
            self._force(self._said)
            return
        now = monotonic()
        if self._empty_since is None:
            self._empty_since = now
            log.warning(
                "discovery finds no ready worker, all stay for now",
                extra={"from": self.kind, "target": self.target, "hold_s": self._empty_hold_s},
            )
        left_s = self._empty_since + self._empty_hold_s - now
        if left_s <= 0:
            self._let_go()
            self._force(self._said)
            return
        if self._confirm is None:  # a watch that nothing happens on says nothing again
            self._confirm = asyncio.get_running_loop().call_later(left_s, self._confirmed)
        self._force(held)

    def _confirmed(self) -> None:
        self._let_go()
        self._force(self._said)

    def _let_go(self) -> None:
        self._empty_since = None
        if self._confirm is not None:
            self._confirm.cancel()
            self._confirm = None

    def _force(self, wanted: dict[WorkerId, Found]) -> None:
        self.wanted = wanted
        self._changed()


def _any_ready(workers: dict[WorkerId, Found]) -> bool:
    return any(found.sight is Sight.READY for found in workers.values())
