"""What all connections of one router share: the balancer, the workers' pools, who is trusted, the limits.

Nothing here awaits. The application around it (`app`) owns the sockets, the timers and the tasks.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from warmroute.access_log import AccessLog
from warmroute.config import Settings
from warmroute.config.backends import Backend
from warmroute.config.core import worker_spec
from warmroute.dialects.images import ImageModels
from warmroute.engines import Learned, learned_spec
from warmroute.hot_prefixes import is_sampled
from warmroute.observers import Observer, Observers
from warmroute.plan import Plan, Planner
from warmroute.series import Metrics
from warmroute.tls import upstream_certificates
from warmroute.wire.cross_origin import CrossOrigin
from warmroute.wire.heads import HeadCache
from warmroute.worker import WorkerPool
from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import salt_of
from warmroute_policies.resilience import Checks, Ejector, RetryBudget, Trust
from warmroute_policies.types import Decision, Outcome, RoutingRequest, Usage, WorkerId

if TYPE_CHECKING:
    from warmroute.client import ClientConnection
    from warmroute.control.bridge import ControlPlane
    from warmroute.discovery.reconcile import Discovery
    from warmroute.exchange import Exchange
    from warmroute.live.feed import Feed
    from warmroute.removal import Removals
    from warmroute.shadow import Shadow
    from warmroute.tracing.spans import Tracing
    from warmroute.wire.replies import RouterError

log: Final = logging.getLogger("warmroute")

# Smaller bodies that came whole are not counted against `max_buffered_bytes`: counting costs more than they
# do, and those of 16,384 clients are 256 MB.
_SMALL_BODY_BYTES: Final = 16 * 1024

# Salts by model and tenant; clients make tenants up, so the memory of them is bounded.
_SALTS_MAX: Final = 4096

# Longer ones are hashed anew each time: they cost a microsecond per 10 KB, and memory if they were kept.
_SALT_CHARS_MAX: Final = 256


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
        self.probe = 0
        """Number of the request that was sent last to find out whether the worker is well again."""
        self.contacted = asyncio.Event()
        """Set once the first check has an answer, good or bad."""


class Gateway:
    """State: workers, open connections and exchanges, held request bytes; counters in `metrics`. Raises
    UsageError where the certificates for workers are no good."""

    def __init__(
        self,
        settings: Settings,
        balancer: Balancer,
        metrics: Metrics,
    ) -> None:
        self.settings = settings
        self.balancer = balancer
        self.metrics = metrics
        self.control: ControlPlane
        """Answers all that is not inference; set by the application, whose endpoints look at the gateway."""
        self.removals: Removals
        """Workers on their way out; set by the application."""
        self.discovery: Discovery | None = None
        """Finds workers; None: those that people name are all there are."""
        self.live: Feed
        """What is shown to people who watch; set by the application."""
        keys = [key.get_secret_value() for key in settings.api_key]
        self.cross_origin = CrossOrigin(settings.cors_origin) if settings.cors_origin else None
        """Which pages of others may read answers; None: nothing is said of that."""
        self.planner = Planner(keys, settings.session_header, self.cross_origin)
        self.heads: HeadCache[Plan] = HeadCache(self.planner.plan)
        self.retry_budget = RetryBudget(settings.retry_budget_ratio, settings.retry_budget_min_per_s)
        self.observers = Observers()
        """Who is told of every request."""
        self.shadows: tuple[Shadow, ...] = ()
        """Observers that decide what another policy would have done."""
        self.tracing: Tracing | None = None
        """One of the observers, for whom clients take the trace fields out of heads."""
        self.upstream_tls = upstream_certificates(settings)
        """For connections to workers with https://."""
        self.workers: dict[WorkerId, Worker] = {}
        self.pools: dict[int, WorkerPool] = {}
        """By slot, for the request path."""
        self.workers_changed = asyncio.Event()
        """Set whenever a worker comes or goes; whoever waits for it clears it."""
        self.clients: set[ClientConnection] = set()
        self.exchanges: dict[int, Exchange] = {}
        """Those that were routed and are not finished, by number."""
        self.images = ImageModels()
        self.stopping = False
        self._suspects: set[WorkerId] = set()
        """Workers that failed since they last answered."""
        self._access_log = AccessLog() if settings.access_log else None
        if self._access_log is not None:
            self.watch(self._access_log)
        self._held_bytes = 0
        self.small_body_bytes = min(_SMALL_BODY_BYTES, settings.max_body_bytes)
        """A body up to this that came whole is neither counted nor too large."""
        self._salts: dict[tuple[str, str], int] = {}
        self.requests = 0
        """Inference requests so far; the last one's number."""
        self.request_id_prefix = b"req-" + secrets.token_hex(6).encode()
        """Begins the ids of requests whose clients gave none; unique over restarts."""

    # --- requests -------------------------------------------------------------------------------

    def salt(self, model: str, cache_salt: str) -> int:
        """Reads. The seed of a prompt's block ids."""
        salt = self._salts.get((model, cache_salt))
        if salt is None and len(cache_salt) > _SALT_CHARS_MAX:
            return salt_of(model, None, cache_salt)
        if salt is None:
            if len(self._salts) >= _SALTS_MAX:
                self._salts.clear()
            salt = self._salts[model, cache_salt] = salt_of(model, None, cache_salt or None)
        return salt

    def route(self, request: RoutingRequest, now: float) -> Decision:
        """Writes. The balancer's decision; what is counted of sessions and prefixes before the books change.
        Raises RoutingError, and whatever a policy raises."""
        name, before, seen_at = request.session, "", now
        if name is not None:
            session = self.balancer.session(name)
            if session is not None:
                before, seen_at = session.worker, session.last_seen_at
        decision = self.balancer.route(request, now)
        if name is not None:
            self.metrics.session_turn(decision, before, now - seen_at)
        if decision.predicted_hit_tokens and is_sampled(request.request_id):
            self.metrics.hot_prefixes.saw(request, decision, now)
        return decision

    def hold(self, size: int) -> bool:
        """Writes. Whether so many bytes of a body fit; pair it with `release` in any case."""
        self._held_bytes += size
        return self._held_bytes <= self.settings.max_buffered_bytes

    @property
    def held_bytes(self) -> int:
        """Reads. Bytes of request bodies that are held now."""
        return self._held_bytes

    def release(self, size: int) -> None:
        """Writes. A body went on its way, or was given up."""
        self._held_bytes -= size

    def finished(self, exchange: Exchange, outcome: Outcome, usage: Usage | None, now: float) -> None:
        """Writes. An exchange ended: metrics, the worker's good name, who watches."""
        decision = exchange.decision
        assert decision is not None
        if self._suspects:
            self._judge(decision.worker, exchange.number, outcome)
        self.metrics.finished(exchange, decision, outcome, usage, now)
        if self.observers.watching:
            self.observers.finished(exchange, outcome, usage, now)
        if usage is not None and usage.prompt_tokens:
            self.images.look(exchange.parsed.model, exchange.parsed.material, usage.prompt_tokens)

    def turned_away(self, error: RouterError, client: ClientConnection, plan: Plan | None) -> None:
        """Writes. A request was answered before it became an exchange: it has no key, is malformed, too large
        or too slow."""
        self.metrics.refused(error)
        if self._access_log is not None:
            self._access_log.turned_away(error, client, plan)

    def connection_failed(self, why: str, address: str | None, text: str) -> None:
        """Writes. A connection ended before it could carry a request. Strangers do that all day, so the log
        says it at debug only; `why` is one of `series.CONNECTION_FAULTS`."""
        self.metrics.connection_faults[why] += 1
        log.debug("connection not usable", extra={"client": address, "fault": why, "why": text})

    def has_client(self, address: tuple[Any, ...]) -> bool:
        """Reads. Whether there is a connection from this address (host and port)."""
        return any(
            (client.transport.get_extra_info("peername") or ())[:2] == address[:2] for client in self.clients
        )

    def watch(self, observer: Observer, *, first: bool = False) -> None:
        """Writes. The observer is told of every request from now on, after all others or before them; pair it
        with `unwatch`."""
        self.observers.add(observer, first=first)

    def unwatch(self, observer: Observer) -> None:
        """Writes. Twice is once."""
        self.observers.remove(observer)

    def add_shadow(self, shadow: Shadow) -> None:
        """Writes. From now on it decides beside the policy."""
        self.shadows = (*self.shadows, shadow)
        for worker_id in self.workers:
            shadow.follow(worker_id, monotonic())
        self.watch(shadow)

    # --- workers --------------------------------------------------------------------------------

    def add_worker(
        self, backend: Backend, *, trusted: bool = True, added_by: str = "configuration"
    ) -> Worker:
        """Writes. A worker joins. Where it is not trusted it gets requests once a check has passed; before
        that nothing says which models it serves. Raises ValueError when it is present."""
        settings = self.settings
        spec = worker_spec(backend, settings)
        self.balancer.add_worker(spec, monotonic())
        slot = self.balancer.fleet.slot_of[spec.worker_id]
        worker = self.workers[spec.worker_id] = Worker(
            backend,
            WorkerPool(
                spec.worker_id, settings.idle_connections_per_worker, self.upstream_tls, backend.tls_name
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
        self.workers_changed.set()
        return worker

    def describe_worker(self, worker_id: WorkerId, backend: Backend, learned: Learned) -> None:
        """Writes. What the operator says of a worker, or what it says of itself, is new. Raises KeyError."""
        worker = self.workers[worker_id]
        worker.backend, worker.learned = backend, learned
        worker.pool.tls_name = backend.tls_name
        spec = learned_spec(backend, learned, self.settings)
        if spec != self.balancer.fleet.spec(self.balancer.fleet.slot_of[worker_id]):
            self.balancer.update_worker(spec, monotonic())
            self._fleet_changed(worker_id)

    def worker_restarted(self, worker_id: WorkerId) -> None:
        """Writes. Its process is another than before: nothing is cached there. Raises KeyError."""
        self.balancer.forget_cache(worker_id, monotonic())
        for shadow in self.shadows:
            shadow.cache_lost(worker_id, monotonic())
        self.metrics.worker_restarted(worker_id)
        log.warning("worker restarted", extra={"worker": worker_id})

    def drain_worker(self, worker_id: WorkerId, draining: bool) -> None:
        """Writes. A draining worker keeps its requests and gets no new ones. Raises KeyError."""
        self.balancer.drain_worker(worker_id, draining, monotonic())
        self._fleet_changed(worker_id)

    def remove_worker(self, worker_id: WorkerId) -> None:
        """Writes. A worker leaves; answers that are on their way still arrive. Raises KeyError."""
        del self.pools[self.balancer.fleet.slot_of[worker_id]]
        self.balancer.remove_worker(worker_id, monotonic())
        self.workers.pop(worker_id).pool.retire()
        self._suspects.discard(worker_id)
        self.metrics.forget_worker(worker_id)
        self._fleet_changed(worker_id)
        self.workers_changed.set()

    def worker_failed(self, worker_id: WorkerId, kind: str) -> None:
        """Writes. A request failed by the worker's fault."""
        worker = self.workers.get(worker_id)
        if worker is not None:
            self.metrics.worker_failed(worker_id, kind)
            worker.pool.probe = False
            self._suspects.add(worker_id)
            before = worker.ejector.trust
            worker.ejector.failed(monotonic())
            if worker.ejector.trust is Trust.EJECTED and before is not Trust.EJECTED:
                log.warning("worker ejected", extra={"worker": worker_id, "kind": kind})
            self._update_health(worker_id, worker)

    def probe_sent(self, worker_id: WorkerId, number: int) -> None:
        """Writes. The one request that finds out whether an ejected worker is well again is on its way."""
        worker = self.workers[worker_id]
        worker.pool.probe = False
        worker.probe = number
        worker.ejector.trust = Trust.PROBING
        self._update_health(worker_id, worker)

    def _judge(self, worker_id: WorkerId, number: int, outcome: Outcome) -> None:
        """A request ended while some worker is under suspicion; if it is this one, it may be cleared.
        A refusal of the client's request is an answer too."""
        worker = self.workers.get(worker_id)
        if worker is None or worker_id not in self._suspects:
            return
        if outcome is Outcome.OK or outcome is Outcome.CLIENT_ERROR:
            self._clear(worker_id, worker)
        elif worker.ejector.trust is Trust.PROBING and worker.probe == number:
            self._probe_next(worker)  # the client left before the worker could show itself
            self._update_health(worker_id, worker)

    def _clear(self, worker_id: WorkerId, worker: Worker) -> None:
        if not worker.ejector.accepts:
            log.info("worker trusted again", extra={"worker": worker_id})
        worker.ejector.succeeded()
        worker.pool.probe = False
        self._suspects.discard(worker_id)
        self._update_health(worker_id, worker)

    def _probe_next(self, worker: Worker) -> None:
        worker.ejector.trust = Trust.DUE
        worker.pool.probe = True

    def worker_checked(self, worker_id: WorkerId, passes: bool, why: str | None = None) -> None:
        """Writes. What the active checks say by now, and what the last failed one found."""
        worker = self.workers.get(worker_id)
        if worker is not None and worker.checks_passed is not passes:
            worker.checks_passed = passes
            log.log(
                logging.INFO if passes else logging.WARNING,
                "worker healthy" if passes else "worker unhealthy",
                extra={"worker": worker_id} if passes else {"worker": worker_id, "why": why},
            )
            self._update_health(worker_id, worker)

    def _update_health(self, worker_id: WorkerId, worker: Worker) -> None:
        healthy = worker.checks_passed and worker.ejector.accepts
        self.balancer.set_health(worker_id, healthy, monotonic())
        self._fleet_changed(worker_id)

    def _fleet_changed(self, worker_id: WorkerId) -> None:
        for shadow in self.shadows:
            shadow.follow(worker_id, monotonic())

    # --- time -------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Writes. Once a second: time-outs, idle connections, probes, what is counted lately."""
        self.metrics.hot_prefixes.age(now)
        for shadow in self.shadows:
            shadow.tick(now)
        for exchange in list(self.exchanges.values()):
            exchange.check_time(now)
        for client in list(self.clients):
            client.check_time(now)
        for worker_id, worker in self.workers.items():
            worker.pool.close_older_than(now - self.settings.upstream_keepalive_s)
            if worker.ejector.probe_due(now):
                self._probe_next(worker)
                self._update_health(worker_id, worker)
            elif worker.ejector.trust is Trust.PROBING:
                probe = self.exchanges.get(worker.probe)
                if probe is not None and probe.streams_since(now) > self.settings.eject_for_s:
                    self._clear(worker_id, worker)  # a long answer is not waited for to its end
