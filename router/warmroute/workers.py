"""The workers of a live router beside the balancer's books: their connections, and who among them is trusted.

Workers come and go here and nowhere else, so that the balancer, the pools of connections, the metrics and
the shadow policies always know the same ones. A worker's health is one verdict of two witnesses: the active
checks (`watch`) and its requests, which fail one after the other (`Ejector`) or too often, or are too slow
(`Outliers`). Nothing here awaits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, ItemsView, Iterator, ValuesView
from time import monotonic
from typing import TYPE_CHECKING, Final

from warmroute.config import Settings
from warmroute.config.backends import Backend
from warmroute.config.core import worker_spec
from warmroute.engines import Learned, learned_spec
from warmroute.pool import WorkerPool
from warmroute.series import Metrics
from warmroute.tls import Certificates
from warmroute_policies.balancer import Balancer
from warmroute_policies.outliers import Outliers
from warmroute_policies.resilience import Checks, Ejector, Trust
from warmroute_policies.types import Outcome, WorkerId

if TYPE_CHECKING:
    from warmroute.exchange import Exchange
    from warmroute.shadow import Shadow

log: Final = logging.getLogger("warmroute")


class Worker:
    """What the live router knows of a worker beside the balancer's books."""

    def __init__(
        self, backend: Backend, pool: WorkerPool, ejector: Ejector, checks: Checks, added_by: str
    ) -> None:
        self.backend = backend
        """As the operator gave it."""
        self.added_by = added_by
        """Who decides whether it stays: "configuration" and "admin" are people, else a kind of discovery."""
        self.drained_by_hand = False
        """Only a person takes it back into service."""
        self.learned = Learned()
        """As it described itself."""
        self.pool = pool
        self.ejector = ejector
        self.checks = checks
        self.checks_passed = True
        """What the active checks say."""
        self.failed = 0
        """Requests that failed by its fault, ever."""
        self.probe = 0
        """Number of the request that was sent last to find out whether the worker is well again."""
        self.contacted = asyncio.Event()
        """Set once the first check has an answer, good or bad."""


class Workers:
    """State: every worker by its id, their pools by slot, and who failed since it last answered.

    Read as a mapping from ids to workers, in the order in which they came.
    """

    def __init__(
        self,
        settings: Settings,
        balancer: Balancer,
        metrics: Metrics,
        exchanges: dict[int, Exchange],
        shadows: list[Shadow],
        upstream_tls: Certificates,
        limited: Callable[[], None],
        room: Callable[[], None],
    ) -> None:
        """`exchanges` and `shadows` are the gateway's own, which go on changing."""
        self._settings = settings
        self._balancer = balancer
        self._metrics = metrics
        self._exchanges = exchanges
        self._shadows = shadows
        self._upstream_tls = upstream_tls
        self._limited = limited
        """To be told when some worker has a limit."""
        self._room = room
        """To be told when there may be room for those who wait."""
        self._workers: dict[WorkerId, Worker] = {}
        self.pools: dict[int, WorkerPool] = {}
        """By slot, for the request path."""
        self.changed = asyncio.Event()
        """Set whenever a worker comes or goes; whoever waits for it clears it."""
        self._panicking: tuple[str, ...] = ()
        self.outliers = _outliers(settings)
        """Who is worse than the others; None: nobody looks."""
        self.suspects: set[WorkerId] = set()
        """Workers that failed since they last answered."""

    # --- a mapping ----------------------------------------------------------------------------------

    def __getitem__(self, worker_id: WorkerId) -> Worker:
        return self._workers[worker_id]

    def __contains__(self, worker_id: object) -> bool:
        return worker_id in self._workers

    def __iter__(self) -> Iterator[WorkerId]:
        return iter(self._workers)

    def __len__(self) -> int:
        return len(self._workers)

    def get(self, worker_id: WorkerId) -> Worker | None:
        """Reads."""
        return self._workers.get(worker_id)

    def values(self) -> ValuesView[Worker]:
        """Reads."""
        return self._workers.values()

    def items(self) -> ItemsView[WorkerId, Worker]:
        """Reads."""
        return self._workers.items()

    # --- they come and go ---------------------------------------------------------------------------

    def add(self, backend: Backend, *, trusted: bool = True, added_by: str = "configuration") -> Worker:
        """Writes. A worker joins. Where it is not trusted it gets requests once a check has passed; before
        that nothing says which models it serves. Raises ValueError when it is present."""
        settings = self._settings
        spec = worker_spec(backend, settings)
        self._balancer.add_worker(spec, monotonic())
        if spec.max_inflight is not None:
            self._limited()
        slot = self._balancer.fleet.slot_of[spec.worker_id]
        worker = self._workers[spec.worker_id] = Worker(
            backend,
            WorkerPool(
                spec.worker_id, settings.idle_connections_per_worker, self._upstream_tls, backend.tls_name
            ),
            Ejector(settings.eject_after_failures, settings.eject_for_s),
            Checks(settings.health_rise, settings.health_fall),
            added_by,
        )
        self.pools[slot] = worker.pool
        if not trusted:
            worker.checks_passed = False
            self._update_health(spec.worker_id, worker)
        self._fleet_changed(spec.worker_id)
        self.changed.set()
        return worker

    def reconfigure(self, settings: Settings) -> None:
        """Writes. Other settings from now on, for those that are there too."""
        self._settings = settings
        for worker_id, worker in self._workers.items():
            worker.pool.idle_max = settings.idle_connections_per_worker
            worker.ejector.reconfigure(settings.eject_after_failures, settings.eject_for_s)
            worker.checks.reconfigure(settings.health_rise, settings.health_fall)
            self.describe(worker_id, worker.backend, worker.learned)

    def describe(self, worker_id: WorkerId, backend: Backend, learned: Learned) -> None:
        """Writes. What the operator says of a worker, or what it says of itself, is new. Raises KeyError."""
        worker = self._workers[worker_id]
        worker.backend, worker.learned = backend, learned
        worker.pool.tls_name = backend.tls_name
        spec = learned_spec(backend, learned, self._settings)
        if spec != self._balancer.fleet.spec(self._balancer.fleet.slot_of[worker_id]):
            self._balancer.update_worker(spec, monotonic())
            if spec.max_inflight is not None:
                self._limited()
            self._fleet_changed(worker_id)

    def cache_flushed(self, worker_id: WorkerId) -> None:
        """Writes. Nothing is cached there: it was told to empty its cache, and did. Raises KeyError."""
        self._balancer.forget_cache(worker_id, monotonic())
        for shadow in self._shadows:
            shadow.cache_lost(worker_id, monotonic())

    def restarted(self, worker_id: WorkerId) -> None:
        """Writes. Its process is another than before: nothing is cached there. Raises KeyError."""
        self.cache_flushed(worker_id)
        self._metrics.worker_restarted(worker_id)
        log.warning("worker restarted", extra={"worker": worker_id})

    def drain(self, worker_id: WorkerId, draining: bool) -> None:
        """Writes. A draining worker keeps its requests and gets no new ones. Raises KeyError."""
        self._balancer.drain_worker(worker_id, draining, monotonic())
        self._fleet_changed(worker_id)

    def remove(self, worker_id: WorkerId) -> None:
        """Writes. A worker leaves; answers that are on their way still arrive, tunnels are closed. Raises
        KeyError."""
        for exchange in list(self._exchanges.values()):
            if exchange.decision is not None and exchange.decision.worker == worker_id:
                exchange.worker_removed()
        del self.pools[self._balancer.fleet.slot_of[worker_id]]
        self._balancer.remove_worker(worker_id, monotonic())
        self._workers.pop(worker_id).pool.retire()
        self.suspects.discard(worker_id)
        if self.outliers is not None:
            self.outliers.forget(worker_id)
        self._metrics.forget_worker(worker_id)
        self._fleet_changed(worker_id)
        self.changed.set()

    # --- who is trusted -----------------------------------------------------------------------------

    def failed(self, worker_id: WorkerId, kind: str) -> None:
        """Writes. A request failed by the worker's fault."""
        worker = self._workers.get(worker_id)
        if worker is not None:
            self._metrics.worker_failed(worker_id, kind)
            worker.failed += 1
            worker.pool.probe = False
            self.suspects.add(worker_id)
            before = worker.ejector.trust
            worker.ejector.failed(monotonic())
            if worker.ejector.trust is Trust.EJECTED and before is not Trust.EJECTED:
                self._metrics.worker_ejected(worker_id, "in_a_row")
                log.warning("worker ejected", extra={"worker": worker_id, "kind": kind})
            self._update_health(worker_id, worker)

    def probe_sent(self, worker_id: WorkerId, number: int) -> None:
        """Writes. The one request that finds out whether an ejected worker is well again is on its way."""
        worker = self._workers[worker_id]
        worker.pool.probe = False
        worker.probe = number
        worker.ejector.trust = Trust.PROBING
        self._update_health(worker_id, worker)

    def judge(self, worker_id: WorkerId, number: int, outcome: Outcome) -> None:
        """Writes. A request ended while some worker is under suspicion; if it is this one, it may be cleared.
        A refusal of the client's request is an answer too."""
        worker = self._workers.get(worker_id)
        if worker is None or worker_id not in self.suspects:
            return
        if outcome is Outcome.OK or outcome is Outcome.CLIENT_ERROR:
            if worker.ejector.trust is Trust.EJECTED and worker.ejector.judged:
                return  # such workers answer, too late or not often enough
            self._clear(worker_id, worker)
        elif worker.ejector.trust is Trust.PROBING and worker.probe == number:
            self._probe_next(worker)  # the client left before the worker could show itself
            self._update_health(worker_id, worker)

    def took(self, worker_id: WorkerId, seconds: float, predicted_s: float, now: float) -> None:
        """Writes. A stream's first byte took so long, or at least so long; only where workers are judged by
        that."""
        if self.outliers is not None and worker_id in self._workers:
            self.outliers.first_byte(worker_id, seconds, predicted_s, now)

    def checked(self, worker_id: WorkerId, passes: bool, why: str | None = None) -> None:
        """Writes. What the active checks say by now, and what the last failed one found."""
        worker = self._workers.get(worker_id)
        if worker is not None and worker.checks_passed is not passes:
            worker.checks_passed = passes
            log.log(
                logging.INFO if passes else logging.WARNING,
                "worker healthy" if passes else "worker unhealthy",
                extra={"worker": worker_id} if passes else {"worker": worker_id, "why": why},
            )
            self._update_health(worker_id, worker)

    def tick(self, now: float) -> None:
        """Writes. Once a second: idle connections are closed, probes become due or are over, outliers are
        looked for."""
        settings = self._settings
        if self.outliers is not None:
            self._eject_outliers(self.outliers, now)
        for worker_id, worker in self._workers.items():
            worker.pool.close_older_than(now - settings.upstream_keepalive_s)
            if worker.ejector.probe_due(now):
                self._probe_next(worker)
                self._update_health(worker_id, worker)
            elif worker.ejector.trust is Trust.PROBING:
                probe = self._exchanges.get(worker.probe)
                if probe is None or _is_elsewhere(probe, worker_id):
                    self._probe_next(worker)  # it went to another worker: nobody will tell of this one
                    self._update_health(worker_id, worker)
                elif probe.streams_since(now) > settings.eject_for_s:
                    self._clear(worker_id, worker)  # a long answer is not waited for to its end

    def _eject_outliers(self, outliers: Outliers, now: float) -> None:
        fleet, candidates = self._balancer.fleet, []
        for worker_id, worker in self._workers.items():
            outliers.counted(worker_id, worker.pool.answered, worker.failed, now)
            if fleet.healthy[fleet.slot_of[worker_id]] and worker.ejector.trust is Trust.TRUSTED:
                candidates.append(worker_id)
        without = len(self._workers) - len(candidates)
        room = max(0, int(self._settings.max_ejected_share * len(self._workers)) - without)
        for worker_id, why in outliers.find(candidates, now)[:room]:
            worker = self._workers[worker_id]
            worker.ejector.judge(now)
            self.suspects.add(worker_id)
            outliers.forget(worker_id)
            self._metrics.worker_ejected(worker_id, why)
            log.warning("worker ejected", extra={"worker": worker_id, "kind": why})
            self._update_health(worker_id, worker)

    def _clear(self, worker_id: WorkerId, worker: Worker) -> None:
        if not worker.ejector.accepts:
            log.info("worker trusted again", extra={"worker": worker_id})
        worker.ejector.succeeded()
        worker.pool.probe = False
        self.suspects.discard(worker_id)
        self._update_health(worker_id, worker)

    def _probe_next(self, worker: Worker) -> None:
        worker.ejector.trust = Trust.DUE
        worker.pool.probe = True

    def _update_health(self, worker_id: WorkerId, worker: Worker) -> None:
        healthy = worker.checks_passed and worker.ejector.accepts
        self._balancer.set_health(worker_id, healthy, monotonic())
        self._fleet_changed(worker_id)

    def _fleet_changed(self, worker_id: WorkerId) -> None:
        for shadow in self._shadows:
            shadow.follow(worker_id, monotonic())
        self._room()
        panicking = self._balancer.panicking()
        if panicking != self._panicking:
            self._panicking = panicking
            if panicking:
                named = [model or "any" for model in panicking]
                log.warning(
                    "too few workers are healthy, so their health is ignored", extra={"models": named}
                )
            else:
                log.info("enough workers are healthy again")


def _is_elsewhere(probe: Exchange, worker_id: WorkerId) -> bool:
    """Whether the request is with another worker by now; of two legs one may still be here."""
    return probe.hedge is None and probe.decision is not None and probe.decision.worker != worker_id


def _outliers(settings: Settings) -> Outliers | None:
    if not settings.eject_error_rate and not settings.eject_slow_factor:
        return None
    return Outliers(
        settings.eject_error_rate,
        settings.eject_slow_factor,
        settings.eject_window_s,
        settings.eject_min_requests,
    )
