"""All that watches the router, together: samples, decisions, snapshots, and who gets them.

Rules kept. While nobody watches, a second costs one sample of the counters and a request nothing. A snapshot
is made and encoded once a second, whoever asks for it. When the router stops, every stream ends at once.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from warmroute.live.decisions import Decided, Decisions
from warmroute.live.history import History
from warmroute.live.snapshot import Snapshots
from warmroute.live.watchers import Watcher

if TYPE_CHECKING:
    from warmroute.gateway import Gateway

WATCHERS_MAX = 32
"""Open pages at a time; further ones are answered 503."""

# A snapshot that is younger is told again: the tick makes one every second.
_FRESH_S = 0.9

# Decisions are told together, five times a second: a page that moves more often is no easier to read.
_TOGETHER_S = 0.2


class Feed:
    """State: the watchers, the newest snapshot, and the decisions that are not yet told."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.history = History(gateway.metrics)
        self._snapshots = Snapshots(gateway, self.history)
        self._decisions = Decisions(gateway.balancer, self._decided)
        self._watchers: set[Watcher] = set()
        self._untold: list[Decided] = []
        self._skips_told = 0
        self._telling: asyncio.TimerHandle | None = None
        self._newest = b""
        self._newest_at = 0.0
        self._making: asyncio.Task[bytes] | None = None

    # --- watchers -------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Reads. Whether nobody more may watch."""
        return len(self._watchers) >= WATCHERS_MAX

    def join(self) -> Watcher:
        """Writes. Somebody watches from now on; pair it with `leave`."""
        watcher = Watcher()
        if self._gateway.stopping:
            watcher.end()
        if not self._watchers:
            self._gateway.watch(self._decisions)
            self._skips_told = self._decisions.skipped
        self._watchers.add(watcher)
        if monotonic() - self._newest_at < _FRESH_S:
            watcher.snapshot(self._newest)
        else:
            self._make()
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Writes. Twice is once."""
        self._watchers.discard(watcher)
        if not self._watchers:
            self._gateway.unwatch(self._decisions)
            self._decisions.clear()
            self._untold.clear()

    def stop(self) -> None:
        """Writes. The router stops: streams end."""
        for watcher in self._watchers:
            watcher.end()

    # --- what they get ---------------------------------------------------------------------------

    def tick(self) -> None:
        """Writes. Once a second."""
        self.history.sample()
        if self._watchers:
            self._make()

    async def snapshot(self) -> bytes:
        """Writes. The newest snapshot, at most about a second old."""
        if monotonic() - self._newest_at < _FRESH_S:
            return self._newest
        return await asyncio.shield(self._make())

    def _make(self) -> asyncio.Task[bytes]:
        """One at a time, for all who ask meanwhile."""
        if self._making is None:
            self._making = asyncio.get_running_loop().create_task(self._made())
        return self._making

    async def _made(self) -> bytes:
        try:
            self._newest = await self._snapshots.encoded()
            self._newest_at = monotonic()
        finally:
            self._making = None
        for watcher in self._watchers:
            watcher.snapshot(self._newest)
        return self._newest

    def _decided(self, decided: Decided) -> None:
        self._untold.append(decided)
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(_TOGETHER_S, self._tell)

    def _tell(self) -> None:
        self._telling = None
        told, self._untold = self._untold, []
        if told:
            skipped, self._skips_told = self._decisions.skipped - self._skips_told, self._decisions.skipped
            encoded = msgspec.json.encode(told)
            for watcher in self._watchers:
                watcher.decisions(len(told), encoded, skipped)
