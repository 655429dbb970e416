"""The router listens to SGLang's messages about its load, where `load_feed` says so.

An engine sends them with `--load-publish-endpoint`; `/server_info` says from which port. Nothing is asked
then, and what is heard is a tenth of a second old.

Rules kept. One task for all workers looks ten times a second; of what has come since, the last message of
each rank counts, so a talkative engine costs no more than a quiet one. A message is at most 64 KiB, eight
wait for each rank, and 64 are looked at in one go. A worker that has fallen silent is asked again for the
place: another process may be there by now. Nothing that is heard ends the task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final

import zmq

from warmroute.load.reports import FEED
from warmroute.load.sources import STEP_LAG_S
from warmroute.load.stat import FeedPlace, Stat, added_up, read_feed_place, read_stat
from warmroute.watch import Unanswered, ask

if TYPE_CHECKING:
    from warmroute.gateway import Gateway
    from warmroute.workers import Worker

log: Final = logging.getLogger("warmroute.load")

_LOOK_S: Final = 0.1

_MESSAGE_BYTES_MAX: Final = 64 * 1024
_WAITING_MAX: Final = 8
_AT_ONCE: Final = 64

# Engines start and change; as often as a worker is asked what it is.
_ASK_S: Final = 60.0

# A scheduler sends one a second at least.
_SILENT_S: Final = 10.0

_FRAMES: Final = 3


async def follow_feeds(gateway: Gateway) -> None:
    """Writes. Listens to all workers, those too that are added later, until it is cancelled."""
    feeds = Feeds(gateway)
    try:
        await feeds.run()
    finally:
        feeds.close()


class Feed:
    """One worker. State: its sockets, what each rank said last, and when."""

    def __init__(self) -> None:
        self.ask_at = 0.0
        self.under_way = False
        self.place: FeedPlace | None = None
        self.heard_at = 0.0
        self._sockets: list[zmq.Socket[bytes]] = []
        self._stats: list[Stat | None] = []

    def open(self, context: zmq.Context[zmq.Socket[bytes]], place: FeedPlace, now: float) -> None:
        """Writes. Listens there from now on, and nowhere else. Raises zmq.ZMQError for what is no place."""
        self.close()
        for endpoint in place.endpoints:
            heard = context.socket(zmq.SUB)
            self._sockets.append(heard)
            heard.setsockopt(zmq.RCVHWM, _WAITING_MAX)
            heard.setsockopt(zmq.MAXMSGSIZE, _MESSAGE_BYTES_MAX)
            heard.setsockopt(zmq.LINGER, 0)
            heard.setsockopt(zmq.IPV6, int("[" in endpoint))
            heard.setsockopt(zmq.SUBSCRIBE, place.topic)
            heard.connect(endpoint)
        self.place = place
        self._stats = [None] * len(place.endpoints)
        self.heard_at = now

    def close(self) -> None:
        """Writes. Twice is once."""
        for heard in self._sockets:
            heard.close(linger=0)
        self._sockets, self.place = [], None

    def hear(self, now: float) -> Sequence[Stat | None] | None:
        """Writes. What all ranks said last; None: nothing new has come."""
        news = False
        for rank, heard in enumerate(self._sockets):
            last = self._last_of(heard)
            if last is not None:
                self._stats[rank], news, self.heard_at = last, True, now
        return self._stats if news else None

    def _last_of(self, heard: zmq.Socket[bytes]) -> Stat | None:
        last = None
        for _ in range(_AT_ONCE):
            try:
                frames = heard.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            if len(frames) != _FRAMES:
                continue
            try:
                last = read_stat(frames[2])
            except ValueError:
                continue
        return last


class Feeds:
    """State: a feed for each worker, and the context of their sockets."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._feeds: dict[Worker, Feed] = {}

    async def run(self) -> None:
        """Writes. Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._look(group, monotonic())
                await asyncio.sleep(_LOOK_S)

    def close(self) -> None:
        """Writes."""
        for feed in self._feeds.values():
            feed.close()
        self._context.term()

    def _look(self, group: asyncio.TaskGroup, now: float) -> None:
        present = set(self._gateway.workers.values())
        for worker in self._feeds.keys() - present:
            self._feeds.pop(worker).close()
        for worker in present:
            feed = self._feeds.get(worker)
            if feed is None:
                feed = self._feeds[worker] = Feed()
            stats = feed.hear(now)
            if stats is not None:
                since = now - _LOOK_S - STEP_LAG_S
                self._gateway.loads.take(worker.pool.worker_id, added_up(stats), FEED, since, now)
            silent = feed.place is None or now - feed.heard_at > _SILENT_S
            if silent and now >= feed.ask_at and worker.checks_passed and not feed.under_way:
                feed.ask_at = now + _ASK_S
                feed.under_way = True
                group.create_task(self._find(worker, feed))

    async def _find(self, worker: Worker, feed: Feed) -> None:
        """Writes. Asks where the messages come from, and listens there."""
        gateway, worker_id = self._gateway, worker.pool.worker_id
        deadline = asyncio.get_running_loop().time() + gateway.settings.health_timeout_s
        try:
            body = await ask(gateway, worker.pool, "/server_info", deadline)
            place = read_feed_place(body, worker_id)
            if place is not None and gateway.workers.get(worker_id) is worker:
                feed.open(self._context, place, monotonic())
                log.info("listening to the worker's load", extra={"worker": worker_id})
        except (Unanswered, ValueError, zmq.ZMQError) as error:
            log.debug("no feed of the worker's load", extra={"worker": worker_id, "why": str(error)})
        finally:
            feed.under_way = False
