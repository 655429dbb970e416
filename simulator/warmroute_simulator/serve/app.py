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


class Fleet:
    """The workers of this process."""

    def __init__(self, options: ServeOptions, loop: asyncio.AbstractEventLoop) -> None:
        self.workers = [Worker(index, options.worker, self, loop) for index in range(options.workers)]
        for fault in options.faults:
            target = self.worker(fault.worker or 0)
            if target is not None:
                target.set_fault(fault)

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
    servers = [
        await loop.create_server(_factory(worker, loop), sock=sock, backlog=BACKLOG)
        for worker, sock in zip(fleet.workers, sockets, strict=True)
    ]
    gc.freeze()
    for sock in sockets:
        host, port = sock.getsockname()[:2]
        print(f"ready http://{host}:{port}", flush=True)
    await stop.wait()
    for server in servers:
        server.close()
    for worker in fleet.workers:
        worker.driver.close()
        for connection in list(worker.connections):
            connection.break_off(after_flush=False)
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
