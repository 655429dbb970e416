"""Who is connected to the feed, and what waits for each of them.

Rules kept. Nobody waits for a slow reader: it gets the newest snapshot, misses decisions, and is told how
many. Events are encoded once for all.
"""

from __future__ import annotations

import asyncio
from collections import deque

QUEUED_MAX = 50
"""Lists of decisions that wait for one reader: ten seconds of them."""


class Watcher:
    """State: the newest snapshot and the decisions that its reader has not taken, and how many it missed."""

    def __init__(self) -> None:
        self._snapshot: bytes | None = None
        self._decisions: deque[tuple[int, bytes]] = deque()
        self._missed = 0
        self._something = asyncio.Event()
        self._ended = False

    def snapshot(self, encoded: bytes) -> None:
        """Writes. A newer snapshot takes the place of one that was not taken."""
        self._snapshot = encoded
        self._something.set()

    def decisions(self, count: int, encoded: bytes, skipped: int) -> None:
        """Writes. A list of so many decisions; `skipped` were left out for everybody."""
        self._missed += skipped
        if len(self._decisions) >= QUEUED_MAX:
            self._missed += self._decisions.popleft()[0]
        self._decisions.append((count, encoded))
        self._something.set()

    def end(self) -> None:
        """Writes. The reader has left, or the router stops. Twice is once."""
        self._ended = True
        self._something.set()

    async def take(self) -> bytes | None:
        """Writes. Waits for events and takes all that there are, as they go over the wire. None: the end."""
        while not self._ended:
            if self._snapshot is not None or self._decisions:
                return self._events()
            self._something.clear()
            await self._something.wait()
        return None

    def _events(self) -> bytes:
        events = []
        if self._snapshot is not None:
            events.append(b"event: snapshot\ndata: %b\n\n" % self._snapshot)
            self._snapshot = None
        while self._decisions:
            _, encoded = self._decisions.popleft()
            events.append(
                b'event: decisions\ndata: {"skipped":%d,"decisions":%b}\n\n' % (self._missed, encoded)
            )
            self._missed = 0
        return b"".join(events)
