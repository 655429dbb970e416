"""The router as a process: builds everything, opens the port, runs the timers, and stops gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import sys
from time import monotonic

import uvloop

from warmroute.client import ClientConnection
from warmroute.compiled import is_compiled
from warmroute.config import Settings
from warmroute.config.core import balancer_config
from warmroute.control.api import control_app
from warmroute.control.bridge import ControlPlane
from warmroute.gateway import Gateway
from warmroute.journal import JournalFile
from warmroute.logs import set_up_logging
from warmroute.malloc import keep_large_buffers
from warmroute.prices import read_prices, write_prices
from warmroute.series import Metrics
from warmroute.watch import first_round, watch_workers
from warmroute_policies.balancer import Balancer
from warmroute_policies.errors import ConfigError
from warmroute_policies.events import PolicySpec
from warmroute_policies.journal import RecordedBalancer
from warmroute_policies.plugins import load_policy
from warmroute_policies.registry import INNER

log = logging.getLogger("warmroute")

# Connections that the kernel completes before the router accepts them; the kernel cuts it to its own limit.
_BACKLOG = 4096

# Time-outs are in seconds; this is how late one may be noticed.
_TICK_S = 1.0

# A crash loses what was learned since; a price moves within minutes, and a file of a kilobyte costs 0.1 ms.
_KEEP_PRICES_S = 60.0

# Between two rounds of upkeep while some is left: 200 steps each 20 ms are a twentieth of the loop's time.
_UPKEEP_S = 0.02

# A thread that writes a page of metrics or a log line keeps the interpreter for this long when an event
# comes; with Python's 5 ms, streams would stutter at every scrape.
_SWITCH_INTERVAL_S = 0.0005

# How soon a stop notices that the last stream has ended.
_STOP_POLL_S = 0.05


def run(settings: Settings) -> int:
    """Serves until a signal. 0: stopped gracefully; 1: the policy or the port could not be had, or a fault
    of the router's own ended it."""
    stop_logging = set_up_logging(settings)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    keep_large_buffers()
    _raise_file_limit()
    try:
        return uvloop.run(_serve(settings))
    finally:
        stop_logging()


def build(settings: Settings, journal: JournalFile | None = None) -> Gateway:
    """Everything but the sockets. Raises ConfigError when the policy cannot be made or the file of learned
    prices cannot be read."""
    name = "session_sticky" if settings.session_sticky else settings.policy
    params = dict(settings.policy_param)
    if settings.session_sticky:  # what the operator wrote is meant for the policy that they named
        params = {"inner": settings.policy, **{f"{INNER}{key}": value for key, value in params.items()}}
    path = settings.learned_prices_file
    config = balancer_config(settings, None if path is None else read_prices(path))
    policy = load_policy(name, params, settings.seed)
    balancer = (
        Balancer(policy, config)
        if journal is None
        else RecordedBalancer(
            policy, config, write=journal.write, made_by=PolicySpec(name, params, settings.seed)
        )
    )
    gateway = Gateway(settings, balancer, Metrics(policy.name))
    gateway.control = ControlPlane(control_app(gateway))
    for backend in settings.backend:
        gateway.add_worker(backend)
    return gateway


async def _serve(settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        try:
            journal = None
            if settings.journal is not None:
                journal = stack.enter_context(JournalFile(settings.journal, settings.journal_max_bytes))
            gateway = build(settings, journal)
        except (ConfigError, OSError) as error:
            log.error("cannot start: %s", error)  # noqa: TRY400 -- the message says it all
            return 1
        await first_round(gateway)
        try:
            server = await loop.create_server(
                lambda: ClientConnection(gateway), settings.host, settings.port, backlog=_BACKLOG
            )
        except OSError as error:
            log.error("cannot listen on %s:%d: %s", settings.host, settings.port, error.strerror)  # noqa: TRY400
            return 1
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        tasks = [loop.create_task(watch_workers(gateway)), loop.create_task(_tick(gateway, journal))]
        for task in tasks:
            task.add_done_callback(lambda _: stopping.set())
        gc.collect()
        gc.freeze()
        gc.disable()
        log.info(
            "router ready",
            extra={
                "url": _url(server),
                "policy": gateway.metrics.policy,
                "workers": len(gateway.workers),
                "compiled": is_compiled(),
            },
        )
        await stopping.wait()
        broken = [task for task in tasks if task.done()]
        for task in broken:  # without time-outs or health checks the router must not go on
            log.critical("a task of the router ended, so the router stops", exc_info=task.exception())
        await _stop(gateway, server)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        _keep_prices(gateway)
    return 1 if broken else 0


def _url(server: asyncio.Server) -> str:
    """Where it listens: with port 0 the kernel chose."""
    host, port = server.sockets[0].getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _stop(gateway: Gateway, server: asyncio.Server) -> None:
    """No new connections; requests that have begun are answered, for at most `shutdown_grace_s`."""
    deadline = monotonic() + gateway.settings.shutdown_grace_s
    log.info("stopping", extra={"in_flight": len(gateway.exchanges)})
    gateway.stopping = True
    server.close()
    for client in list(gateway.clients):
        client.close_if_idle()
    # Clients that are left are being answered, or have not taken all of their last answer.
    while gateway.clients and monotonic() < deadline:  # noqa: ASYNC110 -- once in a lifetime
        await asyncio.sleep(_STOP_POLL_S)
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
