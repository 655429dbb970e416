"""The gateway's workers follow what the sources say.

Whose worker is it? Discovery adds workers that nobody has, and changes only those. It lets go of a worker as
soon as a person acts on it: one removed by hand is not added again until its source has stopped naming it in
between, one whose removal was called off by hand stays, one drained by hand is taken back by hand. A weight
set by hand holds until the source itself says something else than before.

A worker that appears is not trusted before a check has passed. One that vanishes gets no new requests and is
removed when those that it has are done; it is taken back when it comes again before that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final

from warmroute.config.backends import Backend
from warmroute.discovery.backoff import Backoff
from warmroute.discovery.feed import Feed
from warmroute.discovery.found import Sight, Source
from warmroute.gateway import Gateway
from warmroute.workers import Worker
from warmroute_policies.types import WorkerId

log = logging.getLogger("warmroute.discovery")

# A source that ended by a fault of ours begins again; at most so often does its traceback fill the log.
_RESTART_FIRST_S: Final = 1.0
_RESTART_LONGEST_S: Final = 60.0

# A worker costs 20 µs to add to a small fleet and 0.5 ms to one of a thousand; requests go on in between.
_ADDED_AT_ONCE: Final = 8
_NEXT_S: Final = 0.01

# Workers that were left out wait for others to be gone, and no source says when that is.
_ROOM_S: Final = 1.0


class _Owned:
    """A worker that discovery added. State: what was done to it last."""

    def __init__(self, worker: Worker, backend: Backend) -> None:
        self.worker = worker
        self.backend = backend
        """As its source said it last; people may have changed the worker's own since."""
        self.paused = False
        self.leaves_at: float | None = None
        """By our doing: how `Removals` knows it."""


class Discovery:
    """State: the sources and what they said, the workers that are its own, those that people dismissed."""

    def __init__(self, gateway: Gateway, sources: Sequence[Source]) -> None:
        settings = gateway.settings
        self._gateway = gateway
        self.sources = tuple(
            Feed(source, settings.discovery_empty_hold_s, self._reconcile) for source in sources
        )
        self._owned: dict[WorkerId, _Owned] = {}
        self._dismissed: set[WorkerId] = set()
        self._peoples: set[WorkerId] = set()
        """Wanted by a source too, but added by people."""
        self._left_out = 0
        self._changed_at: float | None = None
        self._done: Counter[str] = Counter()
        """What was done and is not logged yet."""
        self._next: asyncio.TimerHandle | None = None
        """Adds more workers."""

    async def run(self) -> None:
        """Writes. Keeps all sources going until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for feed in self.sources:
                    group.create_task(_keep(feed))
        finally:
            for feed in self.sources:
                feed.close()
            if self._next is not None:
                self._next.cancel()

    # --- for people -----------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        """Reads. The kinds of all sources."""
        return ", ".join(dict.fromkeys(feed.kind for feed in self.sources))

    @property
    def target(self) -> str:
        """Reads. What is watched."""
        return ", ".join(feed.target for feed in self.sources)

    @property
    def workers(self) -> int:
        """Reads. Workers that are there by discovery, those that leave included."""
        workers = self._gateway.workers
        return sum(workers.get(worker_id) is owned.worker for worker_id, owned in self._owned.items())

    @property
    def last_change_ago_s(self) -> float | None:
        """Reads. None: nothing has changed yet."""
        return None if self._changed_at is None else monotonic() - self._changed_at

    @property
    def error(self) -> str | None:
        """Reads. Why a source does not know which workers there should be."""
        errors = [f"{feed.target}: {feed.error}" for feed in self.sources if feed.error is not None]
        return "; ".join(errors) or None

    def summary(self) -> dict[str, Any]:
        """Reads. All of this, as JSON has it."""
        ago_s = self.last_change_ago_s
        return {
            "kind": self.kind,
            "target": self.target,
            "workers": self.workers,
            "last_change_ago_s": None if ago_s is None else round(ago_s, 3),
            "error": self.error,
        }

    def view(self) -> dict[str, Any]:
        """Reads. The summary, each source, and the workers that were left out."""
        return self.summary() | {
            "left_out": self._left_out,
            "dismissed": sorted(self._dismissed),
            "sources": [{**feed.row()._asdict(), "error": feed.error} for feed in self.sources],
        }

    # --- reconciling ----------------------------------------------------------------------------

    def _reconcile(self) -> None:
        """Writes. Brings the gateway's workers in line with what is wanted; again changes nothing. Of many
        that are new some are added now, and the others soon."""
        self._see_hands()
        wanted = self._wanted()
        self._dismissed &= wanted.keys()
        self._peoples &= wanted.keys()
        for worker_id, owned in self._owned.items():
            if worker_id not in wanted and owned.leaves_at is None:
                self._remove(worker_id, owned)
                self._done["leaving"] += 1
        new = []
        for worker_id, (backend, sight, kind) in wanted.items():
            known = self._owned.get(worker_id)
            if known is not None:
                self._done[self._adjust(worker_id, known, backend, sight)] += 1
            elif worker_id in self._gateway.workers:
                self._peoples.add(worker_id)
            elif worker_id in self._peoples:
                self._dismissed.add(worker_id)
            elif sight is Sight.READY and worker_id not in self._dismissed:
                new.append((backend, kind))
        self._add(new)

    def _wanted(self) -> dict[WorkerId, tuple[Backend, Sight, str]]:
        """Reads. What all sources together want to be there, and which of them is heard."""
        wanted: dict[WorkerId, tuple[Backend, Sight, str]] = {}
        for feed in self.sources:
            for worker_id, (backend, sight) in feed.wanted.items():
                if sight is not Sight.LEAVING and (worker_id not in wanted or sight < wanted[worker_id][1]):
                    wanted[worker_id] = backend, sight, feed.kind
        return wanted

    def _see_hands(self) -> None:
        """Writes. Lets go of the workers that a person has acted on."""
        removals = self._gateway.removals
        for worker_id, owned in list(self._owned.items()):
            worker = self._gateway.workers.get(worker_id)
            due_at = removals.due_at(worker_id)
            if worker is owned.worker and due_at == owned.leaves_at:
                continue
            del self._owned[worker_id]
            if worker is None and owned.leaves_at is not None:
                continue  # it went as we had it go
            if worker is None or (worker is owned.worker and due_at is not None):
                self._dismissed.add(worker_id)
            if worker is owned.worker:
                worker.added_by = "admin"  # its removal was called off, or it is removed by hand

    def _add(self, new: list[tuple[Backend, str]]) -> None:
        """Writes. Adds some now; if some are left it looks again soon."""
        room = max(0, self._gateway.settings.discovery_max_workers - len(self._owned))
        for backend, kind in new[: min(room, _ADDED_AT_ONCE)]:
            worker = self._gateway.workers.add(backend, trusted=False, added_by=kind)
            self._owned[backend.url] = _Owned(worker, backend)
            self._done["added"] += 1
        if self._next is not None:
            self._next.cancel()
            self._next = None
        left_out = max(0, len(new) - room)
        more = len(new) - left_out > _ADDED_AT_ONCE
        if more or left_out:
            wait_s = _NEXT_S if more else _ROOM_S
            self._next = asyncio.get_running_loop().call_later(wait_s, self._reconcile)
        if not more:
            self._tell(left_out)

    def _remove(self, worker_id: WorkerId, owned: _Owned) -> None:
        self._gateway.removals.begin(worker_id, self._gateway.settings.discovery_drain_s)
        owned.leaves_at = self._gateway.removals.due_at(worker_id)

    def _adjust(self, worker_id: WorkerId, owned: _Owned, backend: Backend, sight: Sight) -> str:
        """What was done: a worker that is there stays, is taken back, paused, or described anew."""
        gateway, done = self._gateway, ""
        if backend is not owned.backend and backend != owned.backend:  # the same one costs no comparison
            owned.backend = backend
            gateway.workers.describe(worker_id, backend, owned.worker.learned)
            done = "changed"
        paused = sight is Sight.PAUSED
        if owned.leaves_at is not None:
            owned.leaves_at = None
            gateway.removals.cancel(worker_id)  # it still drains
            owned.paused, done = True, "paused"
        elif paused and not owned.paused:
            gateway.workers.drain(worker_id, True)
            owned.paused, done = True, "paused"
        if owned.paused and not paused:
            owned.paused, done = False, "taken_back"
            if not owned.worker.drained_by_hand:
                gateway.workers.drain(worker_id, False)
        return done

    def _tell(self, left_out: int) -> None:
        done, self._done = self._done, Counter()
        del done[""]
        if left_out and left_out != self._left_out:
            log.warning(
                "discovery finds more workers than it may add",
                extra={
                    "left_out": left_out,
                    "discovery_max_workers": self._gateway.settings.discovery_max_workers,
                },
            )
        self._left_out = left_out
        if done:
            self._changed_at = monotonic()
            log.info("discovery changed workers", extra={**done, "workers": len(self._owned)})


async def _keep(feed: Feed) -> None:
    """Writes. Runs one source for ever."""
    backoff = Backoff(_RESTART_FIRST_S, _RESTART_LONGEST_S)
    while True:
        try:
            await feed.source.run(feed)
        except Exception as error:  # a source's boundary: our fault there must not end the router
            log.exception("a source of workers broke, it begins again", extra={"target": feed.target})
            feed.failed(f"{type(error).__name__}: {error}")
        await asyncio.sleep(backoff.next_s())
