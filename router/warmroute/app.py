"""The router as a process: builds everything, opens the port, runs the timers, and stops gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from time import monotonic

import uvloop

from warmroute.compiled import is_compiled
from warmroute.config import Settings
from warmroute.config.core import balancer_config
from warmroute.config.policies import policy_spec
from warmroute.control.api import control_app
from warmroute.control.auth import warn_if_open
from warmroute.control.bridge import ControlPlane
from warmroute.control.health import able_workers
from warmroute.control.methods import Methods
from warmroute.discovery.start import discovery_of
from warmroute.gateway import Gateway
from warmroute.journal import JournalFile
from warmroute.kv_events.listener import MISSING, has_library, is_asked_for
from warmroute.listen.doors import Doors
from warmroute.listen.sockets import CannotListen, is_served
from warmroute.live.feed import Feed
from warmroute.load.polling import poll_loads
from warmroute.logs import set_up_logging
from warmroute.malloc import keep_large_buffers
from warmroute.metrics_port import open_metrics_port
from warmroute.prices import read_prices, write_prices
from warmroute.reload import ReadSettings, Reloader
from warmroute.removal import Removals
from warmroute.series import Metrics
from warmroute.shadow import Shadow
from warmroute.state import Saved, StateFile, read_state
from warmroute.supervisor import READY, STOPPING, tell
from warmroute.tls import server_certificates, watch_files
from warmroute.tokens.start import start_tokens
from warmroute.watch import first_round, watch_workers
from warmroute_policies.balancer import Balancer
from warmroute_policies.errors import ConfigError
from warmroute_policies.journal import RecordedBalancer
from warmroute_policies.plugins import load_policy
from warmroute_policies.spelling import parse_policy

log = logging.getLogger("warmroute")

# Time-outs are in seconds; this is how late one may be noticed.
_TICK_S = 1.0

# A crash loses what was learned since; a price moves within minutes, and a file of a kilobyte costs 0.1 ms.
_KEEP_PRICES_S = 60.0

# Between two rounds of upkeep while some is left: 200 steps each 20 ms are a twentieth of the loop's time.
_UPKEEP_S = 0.02

# A thread that writes a page of metrics or a log line keeps the interpreter for this long when an event
# comes; with Python's 5 ms, streams would stutter at every scrape.
SWITCH_INTERVAL_S = 0.0005

# How soon a stop notices that the last stream has ended.
_STOP_POLL_S = 0.05


def run(settings: Settings, read_again: ReadSettings | None = None) -> int:
    """Serves until a signal. `read_again` reads the settings anew, for a reload; None: they cannot be.

    0: stopped gracefully; 1: the port could not be had, or a fault of the router's own ended it; 2: what the
    settings ask for cannot be made.
    """
    stop_logging = set_up_logging(settings)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    keep_large_buffers()
    _raise_file_limit()
    try:
        return uvloop.run(_serve(settings, read_again))
    finally:
        stop_logging()


def build(
    settings: Settings,
    journal: JournalFile | None = None,
    read_again: ReadSettings | None = None,
    saved: Saved | None = None,
) -> Gateway:
    """Everything but the sockets. Raises ConfigError when the policy cannot be made or the file of learned
    prices cannot be read, UsageError when workers cannot be looked for as the settings say."""
    path = settings.learned_prices_file
    prices = None if path is None else read_prices(path)
    if not prices and saved is not None and saved.facts is not None:
        prices = saved.facts.prices
    config = balancer_config(settings, prices)
    spec = policy_spec(settings)
    policy = load_policy(spec.name, spec.params, spec.seed)
    balancer = (
        Balancer(policy, config)
        if journal is None
        else RecordedBalancer(policy, config, write=journal.write, made_by=spec)
    )
    gateway = Gateway(settings, balancer, Metrics(policy.name))
    gateway.removals = Removals(gateway)
    gateway.live = Feed(gateway)
    gateway.reloader = Reloader(gateway, read_again)
    gateway.control = ControlPlane(Methods(control_app(gateway), gateway.cross_origin))
    gateway.discovery = discovery_of(gateway)
    for backend in settings.backend:
        gateway.workers.add(backend)
    for text in settings.shadow_policy:
        shadow = parse_policy(text)
        gateway.add_shadow(Shadow(text, load_policy(shadow.name, shadow.params, settings.seed), balancer))
    return gateway


def start_tracing(gateway: Gateway, stack: contextlib.ExitStack) -> None:
    """Writes. Traces from now on if the settings say so; the stack's end sends what waits. Raises ConfigError
    without the libraries."""
    url = gateway.settings.otel_endpoint
    if url is None:
        return
    try:
        from warmroute.tracing.export import Export
        from warmroute.tracing.spans import Tracing
    except ImportError as error:
        raise ConfigError(
            f"otel_endpoint needs OpenTelemetry ({error.name} is missing): pip install 'warmroute[otel]'"
        ) from None
    gateway.tracing = tracing = Tracing(gateway.settings, Export(url))
    stack.callback(tracing.close)
    gateway.watch(tracing, first=True)  # the access log names the trace


async def _serve(settings: Settings, read_again: ReadSettings | None) -> int:
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        try:
            saved = _saved(settings)
            journal = (
                None
                if settings.journal is None
                else stack.enter_context(_journal(settings.journal, settings))
            )
            certificates = server_certificates(settings)
            gateway = build(settings, journal, read_again, saved)
            start_tracing(gateway, stack)
            if is_asked_for(settings) and not has_library():
                raise ConfigError(MISSING)
            stack.callback(gateway.kv_events.close)
            start_tokens(gateway, stack)
            load_feed = _load_feed(settings)
        except ConfigError as error:
            log.error("cannot start: %s", error)  # noqa: TRY400 -- the message says it all
            return 2
        # From here on it is no reason to end: workers may take a while to answer, and a port to be free.
        loop.add_signal_handler(signal.SIGHUP, gateway.reloader.at_signal)
        await first_round(gateway)
        gateway.kv_events.tick(monotonic())
        state = None
        if settings.state_file is not None:
            state = StateFile(gateway, settings.state_file, saved)
            state.begin()
        tasks = [loop.create_task(watch_workers(gateway)), loop.create_task(_tick(gateway, journal))]
        if state is not None:
            tasks.append(loop.create_task(state.run()))
        if settings.load_poll == "auto":
            tasks.append(loop.create_task(poll_loads(gateway)))
        if load_feed is not None:
            tasks.append(loop.create_task(load_feed(gateway)))
        if gateway.discovery is not None:
            tasks.append(loop.create_task(gateway.discovery.run()))
        if (certificates is not None) or gateway.upstream_tls.has_files:
            tasks.append(loop.create_task(watch_files(certificates, gateway.upstream_tls)))
            gateway.reloader.hooks += [one.look for one in (certificates, gateway.upstream_tls) if one]
        stack.callback(_cancel, tasks)
        if settings.reuse_port and not await _may_take_over(gateway):
            log.error("cannot take over: no worker can take a request, and another router serves this port")
            return 1
        doors = Doors(gateway, certificates)
        try:
            await doors.open()
        except CannotListen as error:
            log.error("cannot listen on %s", error)  # noqa: TRY400
            return 1
        stack.callback(doors.close)
        try:
            metrics_url = await open_metrics_port(gateway, stack)
        except OSError as error:
            log.error(  # noqa: TRY400
                "cannot listen on %s:%s: %s", settings.metrics_host, settings.metrics_port, error.strerror
            )
            return 1
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        if settings.reuse_port:
            tasks.append(loop.create_task(doors.share()))
        for task in tasks:
            task.add_done_callback(lambda _: stopping.set())
        gc.collect()
        gc.freeze()
        gc.disable()
        log.info(
            "router ready",
            extra={
                "url": doors.urls[0],
                **({"also": doors.urls[1:]} if len(doors.urls) > 1 else {}),
                "policy": gateway.metrics.policy,
                "workers": len(gateway.workers),
                "compiled": is_compiled(),
                **({} if metrics_url is None else {"metrics_url": metrics_url}),
            },
        )
        warn_if_open(gateway.settings)
        if not gateway.workers and gateway.discovery is None:
            log.warning("there are no workers: name them with --backend, --discover-… or POST /workers")
        tell(READY)
        await stopping.wait()
        broken = [task for task in tasks if task.done()]
        for task in broken:  # without time-outs or health checks the router must not go on
            log.critical("a task of the router ended, so the router stops", exc_info=task.exception())
        await _stop(gateway, doors, state)
        _cancel(tasks)
        await asyncio.gather(*tasks, return_exceptions=True)
        _keep_prices(gateway)
        if state is not None:
            state.write()
    return 1 if broken else 0


def _load_feed(settings: Settings) -> Callable[[Gateway], Coroutine[None, None, None]] | None:
    """Who listens to what engines say of their load; None: nobody is to. Raises ConfigError without the
    library."""
    if not settings.load_feed:
        return None
    try:
        from warmroute.load.feed import follow_feeds
    except ImportError as error:
        raise ConfigError(
            f"load_feed needs ZeroMQ ({error.name} is missing): pip install 'warmroute[exact]'"
        ) from None
    return follow_feeds


def _saved(settings: Settings) -> Saved | None:
    """What an earlier router left. Raises ConfigError beside a journal, which begins with an empty router:
    what it does not hold could not be replayed."""
    if settings.journal is not None and settings.state_file is not None:
        raise ConfigError(
            "state_file and journal do not go together, for a journal is replayed from an empty router: "
            "leave out one of them"
        )
    return read_state(settings)


def _journal(path: Path, settings: Settings) -> JournalFile:
    """Raises ConfigError."""
    try:
        return JournalFile(path, settings.journal_max_bytes)
    except OSError as error:
        raise ConfigError(f"journal: {path} cannot be written: {error.strerror}") from None


def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()


async def _may_take_over(gateway: Gateway) -> bool:
    """Waits for a worker that can take a request, as long as another router serves the port; whether it came,
    or nobody else is there. A router that only answers 503 is not to share a port with one that works."""
    settings = gateway.settings
    deadline = monotonic() + settings.handover_wait_s
    while not able_workers(gateway):
        if not await is_served(settings):
            return True
        if monotonic() > deadline:
            return False
        await asyncio.sleep(_STOP_POLL_S)
    return True


async def _stop(gateway: Gateway, doors: Doors, state: StateFile | None) -> None:
    """No new connections; requests that have begun are answered, for at most `shutdown_grace_s`. Where
    another router has taken the place of this one, the state's file is its own from that moment on.

    Answers say `connection: close` from now on. A connection that is idle may have a request on its way, so
    it is left open for `shutdown_idle_s`.
    """
    settings, began = gateway.settings, monotonic()
    log.info("stopping", extra={"in_flight": len(gateway.exchanges)})
    tell(STOPPING)
    gateway.stopping = True
    gateway.live.stop()
    if settings.reuse_port and await doors.give_way() and state is not None:
        state.leave()
    doors.close()
    while (gateway.clients or doors.under_way) and monotonic() < began + settings.shutdown_grace_s:
        idle_since = monotonic() - settings.shutdown_idle_s
        for client in list(gateway.clients) if idle_since >= began else ():
            client.close_if_idle(idle_since)
        await asyncio.sleep(_STOP_POLL_S)
    doors.abort()
    for exchange in list(gateway.exchanges.values()):
        exchange.cancel()
    for client in list(gateway.clients):
        client.transport.abort()
    for worker in gateway.workers.values():
        worker.pool.close_idle()


async def _tick(gateway: Gateway, journal: JournalFile | None) -> None:
    """Time-outs and upkeep, once a second; what the timer is late by is the loop's lag.

    The collector of cycles is off: it would cost tens of milliseconds once the index has a million blocks,
    and the request path makes no cycles. The control plane does: what was made in the last second is looked
    through here, 0.1 ms for two thousand new prompts.
    """
    keep_prices_at = monotonic() + _KEEP_PRICES_S
    while True:
        due = monotonic() + _TICK_S
        while gateway.balancer.tick(monotonic()) and monotonic() + _UPKEEP_S < due:  # noqa: ASYNC110
            await asyncio.sleep(_UPKEEP_S)
        await asyncio.sleep(due - monotonic())
        now = monotonic()
        gateway.metrics.loop_lag_s.observe(max(0.0, now - due))
        gateway.tick(now)
        gateway.live.tick()
        if journal is not None:
            journal.flush()
        if now >= keep_prices_at:
            keep_prices_at = now + _KEEP_PRICES_S
            _keep_prices(gateway)
        gc.collect(1)


def _keep_prices(gateway: Gateway) -> None:
    """Writes what was learned of prices to the operator's file, if there is one."""
    path = gateway.settings.learned_prices_file
    if path is not None and gateway.settings.learn_prices:
        write_prices(path, gateway.balancer.beliefs.learned_prices.prices())


def _raise_file_limit() -> None:
    """Two sockets per stream: the usual soft limit of 1,024 files is 500 streams."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
