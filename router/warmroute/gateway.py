"""What all connections of one router share: the balancer, the workers, who watches, the limits.

Nothing here awaits. The application around it (`app`) owns the sockets, the timers and the tasks.
"""

from __future__ import annotations

import logging
import secrets
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from warmroute.access_log import AccessLog
from warmroute.admission import Admission, is_limited
from warmroute.callers import Callers
from warmroute.config import Settings
from warmroute.dialects.images import ImageModels
from warmroute.hedging import Hedging
from warmroute.hot_prefixes import is_sampled
from warmroute.kv_events.listener import KvEvents
from warmroute.load.reports import Reports
from warmroute.observers import Observer, Observers
from warmroute.owner_search import OwnerSearch
from warmroute.owners import Owners
from warmroute.plan import Plan, Planner
from warmroute.questions import Questioner
from warmroute.series import Metrics
from warmroute.tls import upstream_certificates
from warmroute.wire.cross_origin import CrossOrigin
from warmroute.wire.heads import HeadCache
from warmroute.workers import Workers
from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import salt_of
from warmroute_policies.events import PolicySpec
from warmroute_policies.policy import Policy
from warmroute_policies.resilience import RetryBudget
from warmroute_policies.types import Decision, Outcome, RoutingRequest, Usage

if TYPE_CHECKING:
    from warmroute.client import ClientConnection
    from warmroute.control.bridge import ControlPlane
    from warmroute.discovery.reconcile import Discovery
    from warmroute.exchange import Exchange
    from warmroute.live.feed import Feed
    from warmroute.reload import Reloader
    from warmroute.removal import Removals
    from warmroute.shadow import Shadow
    from warmroute.tokens.service import Tokens
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


class Gateway:
    """State: workers (in `workers`), open connections and exchanges, held request bytes; counters in
    `metrics`. Raises UsageError where the certificates for workers are no good."""

    def __init__(
        self,
        settings: Settings,
        balancer: Balancer,
        metrics: Metrics,
    ) -> None:
        self.settings = settings
        self.balancer = balancer
        self.metrics = metrics
        self.admission: Admission | None = None
        """Who waits; None: nothing is limited, every request goes at once."""
        self.control: ControlPlane
        """Answers all that is not inference; set by the application, whose endpoints look at the gateway."""
        self.removals: Removals
        """Workers on their way out; set by the application."""
        self.discovery: Discovery | None = None
        """Finds workers; None: those that people name are all there are."""
        self.reloader: Reloader
        """Changes settings and policy while the router runs; set by the application."""
        self.tokens: Tokens | None = None
        """Tells prompts' tokens; None: no worker tells what it holds, so that nobody needs them."""
        self.tokenizing: Tokens | None = None
        """The same while there is need and while there is none; set by the application."""
        self.live: Feed
        """What is shown to people who watch; set by the application."""
        self.callers = Callers(settings)
        self.cross_origin = CrossOrigin(settings.cors_origin) if settings.cors_origin else None
        """Which pages of others may read answers; None: nothing is said of that."""
        self.planner = self._planner(settings)
        self.heads: HeadCache[Plan] = HeadCache(self.planner.plan)
        self.retry_budget = RetryBudget(settings.retry_budget_ratio, settings.retry_budget_min_per_s)
        self.hedging: Hedging | None = None
        """Sends late requests to a second worker; None: off."""
        if settings.hedge_after_p is not None:
            ratio = settings.hedge_budget_ratio
            self.hedging = Hedging(self, settings.hedge_after_p, settings.hedge_min_s, ratio)
        self.observers = Observers()
        """Who is told of every request."""
        self.shadows: list[Shadow] = []
        """Observers that decide what another policy would have done."""
        self.tracing: Tracing | None = None
        """One of the observers, for whom clients take the trace fields out of heads."""
        self.clients: set[ClientConnection] = set()
        self.exchanges: dict[int, Exchange] = {}
        """Those that were routed and are not finished, by number."""
        self.upstream_tls = upstream_certificates(settings)
        """For connections to workers with https://."""
        self.questioner = Questioner(self.upstream_tls)
        """Asks workers what is no client's request."""
        self.loads = Reports(balancer)
        """What engines say of their load."""
        self.workers = Workers(
            settings,
            balancer,
            metrics,
            self.exchanges,
            self.shadows,
            self.upstream_tls,
            self.limit,
            self._room,
        )
        self.pools = self.workers.pools
        """By slot, for the request path."""
        self._suspects = self.workers.suspects
        self.times_matter = settings.eject_slow_factor > 0
        """Workers are judged by their times to first byte."""
        self.kv_events = KvEvents(self)
        """What workers tell of their caches, where they are asked to."""
        self.images = ImageModels()
        self.owners = Owners(settings.owners_max)
        self.owner_search = OwnerSearch(self)
        self.stopping = False
        if is_limited(settings):
            self.limit()
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

    def reconfigure(self, settings: Settings) -> None:
        """Writes. Other settings from now on. Most are read where they are used; what was made of the former
        ones is made anew here, for requests under way too."""
        before, self.settings = self.settings, settings
        self.callers = Callers(settings)
        self.planner = self._planner(settings)
        self.heads = HeadCache(self.planner.plan)
        ratio, min_per_s = settings.retry_budget_ratio, settings.retry_budget_min_per_s
        if (ratio, min_per_s) != (before.retry_budget_ratio, before.retry_budget_min_per_s):
            self.retry_budget = RetryBudget(ratio, min_per_s)
        self.small_body_bytes = min(_SMALL_BODY_BYTES, settings.max_body_bytes)
        if settings.access_log and self._access_log is None:
            self._access_log = AccessLog()
            self.watch(self._access_log)
        elif not settings.access_log and self._access_log is not None:
            self.unwatch(self._access_log)
            self._access_log = None
        self.workers.reconfigure(settings)

    def _planner(self, settings: Settings) -> Planner:
        return Planner(
            [key.get_secret_value() for key in settings.api_key],
            settings.session_header,
            settings.request_id_header,
            self.callers,
            self.cross_origin,
            inject_usage=settings.inject_usage,
            load_orca=settings.load_orca,
        )

    def limit(self) -> None:
        """Writes. Something is limited: from now on requests may have to wait."""
        if self.admission is None:
            self.admission = Admission(self)

    def _room(self) -> None:
        if self.admission is not None:
            self.admission.room()

    def set_policy(self, policy: Policy, made_by: PolicySpec) -> None:
        """Writes. Another policy decides from now on; what is known of caches, sessions and requests on their
        way stays. Raises whatever the policy raises; then the former one goes on."""
        self.balancer.set_policy(policy, made_by, monotonic())
        self.metrics.policy_set(policy.name)

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

    def request_id(self, plan: Plan, number: int) -> bytes:
        """Reads. The client's own, or one made for it."""
        return plan.request_id or b"%b%08x" % (self.request_id_prefix, number)

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
        if self._suspects and exchange.plan.proves:
            self.workers.judge(decision.worker, exchange.number, outcome)
        if self.times_matter and not decision.attempt and exchange.ttft_s is not None:
            self.workers.took(decision.worker, exchange.ttft_s, exchange.expected_s, now)
        self.metrics.finished(exchange, decision, outcome, usage, now)
        if self.observers.watching:
            self.observers.finished(exchange, outcome, usage, now)
        if usage is not None and usage.prompt_tokens:
            self.images.look(exchange.parsed.model, exchange.parsed.material, usage.prompt_tokens)
            if exchange.told_tokens and self.tokens is not None:
                self.tokens.judge(exchange, usage)
        if self.admission is not None:
            self.admission.finished(exchange, usage, now)

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
        self.shadows.append(shadow)
        for worker_id in self.workers:
            shadow.follow(worker_id, monotonic())
        self.watch(shadow)

    # --- time -------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Writes. Once a second: time-outs, workers, what is counted lately."""
        self.metrics.hot_prefixes.age(now)
        self.tokens = self.tokenizing if self.balancer.known.lanes else None
        for shadow in self.shadows:
            shadow.tick(now)
        for exchange in list(self.exchanges.values()):
            exchange.check_time(now)
        for client in list(self.clients):
            client.check_time(now)
        self.workers.tick(now)
        self.kv_events.tick(now)
