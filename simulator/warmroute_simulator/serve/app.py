"""All workers of one process: listen, announce, wait for a signal, stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from pathlib import Path

import msgspec
import uvloop

from warmroute_simulator.serve import reports
from warmroute_simulator.serve.faults import FaultSpec
from warmroute_simulator.serve.http import HttpConnection
from warmroute_simulator.serve.worker import Worker, WorkerSettings

BACKLOG = 1024
"""Connections that the kernel holds until they are accepted: a burst of a large load test."""


class PortTakenError(Exception):
    """A worker cannot listen where it was told to."""


class ServeOptions(msgspec.Struct, frozen=True):
    """What `simulator serve` was asked for."""

    worker: WorkerSettings
    workers: int = 4
    host: str = "127.0.0.1"
    port: int = 9001
    """Of the first worker; the others follow. 0: each gets a free port."""
    faults: tuple[FaultSpec, ...] = ()
    json_path: Path | None = None
    kv_events_port: int | None = None
    """Where the first worker publishes its cache's changes, its old batches at the next port, the others at
    those that follow. 0: free ports; None: nobody publishes."""


class Fleet:
    """The workers of this process, and what publishes what their caches hold."""

    def __init__(self, options: ServeOptions, loop: asyncio.AbstractEventLoop) -> None:
        self.workers = [Worker(index, options.worker, self, loop) for index in range(options.workers)]
        for fault in options.faults:
            target = self.worker(fault.worker or 0)
            if target is not None:
                target.set_fault(fault)

    def publish(self, hosts: list[str], port: int, loop: asyncio.AbstractEventLoop) -> None:
        """Writes. Each worker publishes at its host from now on. Raises PortTakenError; the fleet is closed
        then."""
        import zmq

        from warmroute_simulator.serve.kv_events import Publisher

        context = zmq.Context()
        for worker, host in zip(self.workers, hosts, strict=True):
            at = port + 2 * worker.index
            ports = (at, at + 1) if port else (0, 0)
            try:
                publisher = Publisher(context, worker.cache, worker.settings.kind, host, ports, loop)
            except OSError as error:
                self.close()
                raise PortTakenError(f"cannot listen on {error.strerror}") from None
            worker.publish(publisher)

    def close(self) -> None:
        """Writes. Nothing goes on, nobody is connected any more."""
        for worker in self.workers:
            worker.driver.close()
            for connection in list(worker.connections):
                connection.break_off(after_flush=False)
            if worker.kv_events is not None:
                worker.kv_events.close()

    def worker(self, index: int) -> Worker | None:
        return self.workers[index] if 0 <= index < len(self.workers) else None

    def report(self) -> dict[str, object]:
        return {
            "workers": [reports.state(worker) for worker in self.workers],
            "totals": reports.fleet_totals(self.workers),
        }


def serve(options: ServeOptions) -> None:
    """Serve until SIGTERM or SIGINT. Raises PortTakenError."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(options))


async def _serve(options: ServeOptions) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    sockets = _bind(options)
    fleet = Fleet(options, loop)
    if options.kv_events_port is not None:
        fleet.publish([sock.getsockname()[0] for sock in sockets], options.kv_events_port, loop)
    servers = [
        await loop.create_server(_factory(worker, loop), sock=sock, backlog=BACKLOG)
        for worker, sock in zip(fleet.workers, sockets, strict=True)
    ]
    gc.freeze()
    for worker in fleet.workers:
        if (told := worker.kv_events) is not None:
            print(f"kv-events {told.endpoint} replay {told.replay_endpoint}", flush=True)
    for sock in sockets:
        host, port = sock.getsockname()[:2]
        print(f"ready http://{host}:{port}", flush=True)
    await stop.wait()
    for server in servers:
        server.close()
    fleet.close()
    if options.json_path is not None:
        options.json_path.write_bytes(msgspec.json.format(msgspec.json.encode(fleet.report())) + b"\n")


def _factory(worker: Worker, loop: asyncio.AbstractEventLoop) -> type[HttpConnection]:
    return lambda: HttpConnection(worker, loop)  # type: ignore[return-value]


def _bind(options: ServeOptions) -> list[socket.socket]:
    """All sockets before the first worker is announced: a fleet listens whole or not at all."""
    sockets: list[socket.socket] = []
    for index in range(options.workers):
        port = options.port + index if options.port else 0
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((options.host, port))
            # Listening now finds a port that somebody else listens on; binding alone does not always.
            sock.listen(BACKLOG)
        except OSError as error:
            for opened in (*sockets, sock):
                opened.close()
            raise PortTakenError(f"cannot listen on {options.host}:{port}: {error.strerror}") from None
        sock.setblocking(False)
        sockets.append(sock)
    return sockets
