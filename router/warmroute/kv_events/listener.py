"""All of a router's workers, as far as their KV events go: who is listened to, and who tells whom.

It is an observer while it listens to anybody: requests that have ended say when events must have come. It is
asked to look after itself once a second; workers that came, left or changed since are noticed there.

Rules kept. Sockets and their library come into being with the first worker that is to be listened to. What
is asked of workers is asked by `watch`, together with all else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Final, final
from urllib.parse import urlsplit

from warmroute.config.endpoints import AUTO, OFF, parse_endpoint
from warmroute.kv_events.shared import SharedLine
from warmroute.kv_events.sources import Offer, Told, nobody_listens, read_event_sources, read_server_info
from warmroute.kv_events.worker import WorkerEvents
from warmroute_policies.types import Outcome

if TYPE_CHECKING:
    from warmroute.config import Settings
    from warmroute.config.backends import Backend
    from warmroute.exchange import Exchange
    from warmroute.gateway import Gateway
    from warmroute.kv_events.sockets import Sockets
    from warmroute.workers import Worker
    from warmroute_policies.types import Decision, RoutingRequest, Usage, WorkerId

log = logging.getLogger("warmroute.kv_events")

# Whether somebody listens at an address is known within a round trip.
_PROBE_S: Final = 1.0

NO_SUCH_RANK: Final = "the engine names no publisher for this rank"

ONE_TOPIC: Final = "ranks behind one URL share a topic: use kv_events=auto, or kv_events= behind its URL"

MISSING: Final = "kv_events needs more than is installed: pip install 'warmroute[exact]'"

Ask = Callable[[str], Awaitable[bytes | None]]
"""GETs a path of the worker; None: it did not answer so that it can be read."""


class _Followed:
    """A worker, what its operator said, what it said itself, and what comes of it."""

    def __init__(self, events: WorkerEvents, backend: Backend) -> None:
        self.events, self.backend = events, backend
        self.told: Told | None = None

    @property
    def is_shared(self) -> bool:
        """Reads. It is heard on the line of all that have none of their own."""
        return any(publisher.shared for publisher in self.events.publishers)


@final
class KvEvents:
    """State: the sockets, the line that workers share, everybody who is listened to."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._sockets: Sockets | None = None
        self._shared: SharedLine | None = None
        self._followed: dict[WorkerId, _Followed] = {}
        self._watching = False
        self._complained = False
        self._closed = False

    # --- who is listened to -------------------------------------------------------------------------

    def get(self, worker_id: WorkerId) -> WorkerEvents | None:
        """Reads. None: it is not to be listened to."""
        found = self._followed.get(worker_id)
        return None if found is None else found.events

    def asks(self, worker: Worker) -> bool:
        """Reads. Whether the worker is to be asked where it publishes."""
        mode = self._mode(worker.backend)
        return mode == AUTO or (mode != OFF and worker.backend.kv_replay is None)

    async def discover(self, worker: Worker, ask: Ask) -> None:
        """Writes. Asks the worker where it publishes, and follows what it says."""
        told = await _told_by(worker, ask)
        if self._mode(worker.backend) == AUTO:
            told = await _probed(told)
        if self._is_there(worker) and not self._closed:
            now = monotonic()
            self._sync(now)
            followed = self._followed.get(worker.pool.worker_id)
            if followed is None:
                return
            if told.said or followed.told is None or not followed.told.offers:
                followed.told = told
            self._follow(followed, now)

    def tick(self, now: float) -> None:
        """Writes. Once a second."""
        self._sync(now)
        for followed in self._followed.values():
            followed.events.tick(now)

    def close(self) -> None:
        """Writes. For good."""
        self._closed = True
        for followed in self._followed.values():
            followed.events.stop(monotonic())
        self._followed.clear()
        if self._shared is not None:
            self._shared.close()
        if self._sockets is not None:
            self._sockets.close()

    def _mode(self, backend: Backend) -> str:
        return backend.kv_events or self._gateway.settings.kv_events

    def _sync(self, now: float) -> None:
        """Writes. Workers came, left, or are described otherwise."""
        workers = self._gateway.workers
        for worker_id, followed in list(self._followed.items()):
            worker = workers.get(worker_id)
            if worker is not followed.events.worker or self._mode(worker.backend) == OFF:
                followed.events.stop(now)
                del self._followed[worker_id]
        for worker_id, worker in workers.items():
            if self._mode(worker.backend) == OFF:
                continue
            known = self._followed.get(worker_id)
            if known is None:
                known = self._followed[worker_id] = _Followed(
                    WorkerEvents(
                        worker, self._gateway.balancer, self._settings, self._open_sockets, self._is_there
                    ),
                    worker.backend,
                )
                self._follow(known, now)
            elif known.backend is not worker.backend:
                known.backend = worker.backend
                self._follow(known, now)
        self._watch(bool(self._followed))
        self._share(now)

    def _follow(self, followed: _Followed, now: float) -> None:
        """Writes. As the operator says, else as the worker says."""
        events, backend, told = followed.events, followed.backend, followed.told
        mode = self._mode(backend)
        if self._library_is_missing():
            events.follow((), MISSING, now)
        elif mode == AUTO:
            if told is not None:
                rank = events.worker.pool.rank
                offers = tuple(
                    _with_replay(offer, backend) for offer in told.offers if rank in (None, offer.rank)
                )
                events.follow(offers, told.why_not or NO_SUCH_RANK, now)
        elif backend.kv_events is None and events.worker.pool.rank is not None:
            events.follow((), ONE_TOPIC, now)
        else:
            replay, rank = backend.kv_replay, events.worker.pool.rank
            if replay is None and told is not None:
                replay = next((one.replay for one in told.offers if one.rank == (rank or 0)), None)
            offer = Offer(None, parse_endpoint(mode), replay)
            events.follow((offer,), "", now, shared=backend.kv_events is None)

    def _share(self, now: float) -> None:
        """Writes. The line of all workers that have none of their own."""
        mode = self._gateway.settings.kv_events
        if mode in (AUTO, OFF) or self._library_is_missing():
            return
        if self._shared is None:
            self._shared = SharedLine(parse_endpoint(mode), self._open_sockets())
        self._shared.serve([one.events for one in self._followed.values() if one.is_shared], now)

    def _watch(self, wanted: bool) -> None:
        if wanted is not self._watching:
            self._watching = wanted
            (self._gateway.watch if wanted else self._gateway.unwatch)(self)

    def _is_there(self, worker: Worker) -> bool:
        return self._gateway.workers.get(worker.pool.worker_id) is worker

    def _settings(self) -> Settings:
        return self._gateway.settings

    def _open_sockets(self) -> Sockets:
        if self._sockets is None:
            from warmroute.kv_events.sockets import Sockets

            self._sockets = Sockets()
        return self._sockets

    def _library_is_missing(self) -> bool:
        missing = not has_library()
        if missing and not self._complained:
            self._complained = True
            log.error(MISSING)
        return missing

    # --- the observer -------------------------------------------------------------------------------

    def arrived(self, exchange: Exchange, request: RoutingRequest, now: float) -> None:
        """Nothing."""

    def routed(self, exchange: Exchange, decision: Decision, now: float) -> None:
        """Nothing."""

    def first_byte(self, exchange: Exchange, now: float) -> None:
        """Nothing."""

    def finished(self, exchange: Exchange, outcome: Outcome, usage: Usage | None, now: float) -> None:
        """Writes. Its events have come, or something is missing."""
        if outcome is not Outcome.OK or exchange.decision is None:
            return
        followed = self._followed.get(exchange.decision.worker)
        if followed is not None:
            computed = None
            if usage is not None and usage.prompt_tokens is not None and usage.cached_tokens is not None:
                computed = usage.prompt_tokens - usage.cached_tokens
            followed.events.finished(exchange.began_at, now, computed)

    def refused(self, exchange: Exchange, code: str, now: float) -> None:
        """Nothing."""

    # --- for metrics ----------------------------------------------------------------------------------

    def all(self) -> list[WorkerEvents]:
        """Reads."""
        return [followed.events for followed in self._followed.values()]

    @property
    def unmatched(self) -> int:
        """Reads. Messages on the shared line that are of no worker."""
        return 0 if self._shared is None else self._shared.unmatched


def has_library() -> bool:
    """Whether ZeroMQ is installed."""
    try:
        import zmq  # noqa: F401
    except ImportError:
        return False
    return True


def is_asked_for(settings: Settings) -> bool:
    """Whether the configuration wants anybody's events."""
    modes = [settings.kv_events, *(backend.kv_events or OFF for backend in settings.backend)]
    return any(mode != OFF for mode in modes)


async def _told_by(worker: Worker, ask: Ask) -> Told:
    """What the worker says."""
    url, told = worker.pool.url, None
    cache = worker.learned.kv_cache
    readers: dict[str, Callable[[bytes, str], Told | None]] = {}
    if cache is None or cache.engine != "sglang":
        readers["/kv_event_sources"] = read_event_sources
    if cache is None or cache.engine != "vllm":
        readers["/server_info"] = read_server_info
    for path, reader in readers.items():
        body = await ask(path)
        told = None if body is None else reader(body, url)
        if told is not None:
            break
    if told is None:
        return Told(
            why_not="it does not say where it publishes KV events: name that with kv_events= behind its URL",
            said=False,
        )
    return told


async def _probed(told: Told) -> Told:
    """The same, or nothing where it is the engine that connects to an address."""
    for offer in told.offers:
        if offer.probe and not await _listens(offer.endpoint.address):
            return Told(why_not=nobody_listens(offer), said=False)
    return told


async def _listens(address: str) -> bool:
    parts = urlsplit(address)
    try:
        async with asyncio.timeout(_PROBE_S):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except (OSError, TimeoutError, UnicodeError):
        return False
    writer.close()
    return True


def _with_replay(offer: Offer, backend: Backend) -> Offer:
    return offer if backend.kv_replay is None else offer._replace(replay=backend.kv_replay)
