"""One line for several engines: they are told apart by their topics, `kv@<host:port>@<model>`.

`host:port` is the worker's URL without its scheme. Where there is only one worker that is listened to in this
way, any topic is its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, final

from warmroute.config.endpoints import Endpoint
from warmroute.kv_events.sources import worker_in
from warmroute.kv_events.wire import Unreadable, read_live

if TYPE_CHECKING:
    from warmroute.kv_events.sockets import Line, Sockets
    from warmroute.kv_events.worker import WorkerEvents

log = logging.getLogger("warmroute.kv_events")

_SOCKET_AGAIN_S: Final = 5.0

# Topics are made up by engines, so what is remembered of them is bounded.
_TOPICS_MAX: Final = 4096


@final
class SharedLine:
    """State: the line, who is heard on it, whose each topic is."""

    def __init__(self, endpoint: Endpoint, sockets: Sockets) -> None:
        self._endpoint, self._sockets = endpoint, sockets
        self._line: Line | None = None
        self._open_at = 0.0
        self._complained = False
        self._connected = False
        """Some engine has connected: it may be another process than before, and nobody says whose."""
        self._workers: dict[str, WorkerEvents] = {}
        """By `host:port`."""
        self._of_topic: dict[bytes, WorkerEvents | None] = {}
        self.unmatched = 0
        """Messages with a topic of no worker."""

    def serve(self, workers: Iterable[WorkerEvents], now: float) -> None:
        """Writes. Who is heard on it now."""
        served = {worker.worker.pool.url.partition("://")[2]: worker for worker in workers}
        if served != self._workers:
            self._workers = served
            self._of_topic.clear()
        if self._connected:
            self._connected = False
            for worker in served.values():
                worker.connected(now)
        if self._line is None and now >= self._open_at:
            try:
                self._line = self._sockets.subscribe(
                    self._endpoint.address, "", self._heard, bind=self._endpoint.bind
                )
            except OSError as error:
                self._open_at = now + _SOCKET_AGAIN_S
                if not self._complained:
                    self._complained = True
                    log.warning("cannot listen to KV events: %s", error)
            else:
                self._line.tell_of_connections(self._one_connected)

    def close(self) -> None:
        """Writes. Twice is once."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _one_connected(self, now: float) -> None:
        self._connected = True

    def _heard(self, frames: list[bytes], now: float) -> None:
        try:
            message = read_live(frames)
        except Unreadable as error:
            self._unmatched("a message cannot be read", repr(str(error)))
            return
        topic = message.topic
        if topic not in self._of_topic:
            if len(self._of_topic) >= _TOPICS_MAX:
                self._of_topic.clear()
            self._of_topic[topic] = self._find(topic)
        worker = self._of_topic[topic]
        if worker is None:
            self._unmatched("a topic is of no worker", repr(topic[:200]))
        else:
            worker.message(message, now)

    def _find(self, topic: bytes) -> WorkerEvents | None:
        named = worker_in(topic.decode("utf-8", "replace"))
        found = None if named is None else self._workers.get(named)
        if found is None and len(self._workers) == 1:
            (found,) = self._workers.values()
        return found

    def _unmatched(self, what: str, shown: str) -> None:
        self.unmatched += 1
        if self.unmatched == 1:
            log.warning("KV events: %s", what, extra={"shown": shown, "workers": sorted(self._workers)})
