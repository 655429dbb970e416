"""Certificates made for the test, and routers that listen in every way."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from live.fake_worker import FakeWorker, fake_workers
from live.front import Front
from live.processes import Process, Router, spawn_router
from live.wire import Connection

QUICK = (
    *("--health-interval-s", "0.2", "--health-timeout-s", "5", "--health-rise", "1", "--health-fall", "1"),
    "--no-model-discovery",
)


@dataclass
class Authority:
    """An authority for one test module. State: its key, and the folder of what it has issued."""

    ca: trustme.CA
    folder: Path

    @property
    def file(self) -> Path:
        """Its certificate."""
        path = self.folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(path))
        return path

    def issue(self, stem: str, *names: str) -> tuple[Path, Path]:
        """A certificate for these names, with its key; what was issued under this stem is overwritten."""
        made = self.ca.issue_cert(*(names or ("localhost", "127.0.0.1", "::1")))
        cert, key = self.folder / f"{stem}.pem", self.folder / f"{stem}.key"
        made.private_key_pem.write_to_path(str(key))
        cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        return cert, key

    def client_context(self, own: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """What a client trusts; it tells an end that was announced from one that was not."""
        context = ssl.create_default_context(cafile=str(self.file))
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        if own is not None:
            context.load_cert_chain(*own)
        return context

    def server_context(self, stem: str, *names: str) -> ssl.SSLContext:
        """What a worker shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(stem, *names))
        return context


def faults_counted(connection: Connection, fault: str) -> float:
    """What the router has counted of connections that could not carry a request."""
    name = f'router_connection_faults_total{{fault="{fault}"}}'
    lines = connection.ask("GET", "/metrics").body.decode().splitlines()
    return float(next(line for line in lines if line.startswith(name)).rpartition(" ")[2])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "pki"
    folder.mkdir()
    return Authority(trustme.CA(), folder)


@pytest.fixture
def start_worker() -> Iterator[Callable[..., FakeWorker]]:
    """Starts scripted workers; they end with the test."""
    with contextlib.ExitStack() as stack:

        def start(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> FakeWorker:
            worker = FakeWorker(host, tls=tls)
            stack.callback(worker.stop)
            return worker

        yield start


@pytest.fixture
def start_router(tmp_path: Path) -> Iterator[Callable[..., Router]]:
    """Starts routers; what still runs at the test's end is killed, and no log may hold a traceback."""
    started: list[Router] = []

    def start(*flags: str) -> Router:
        router = spawn_router(tmp_path / f"router-{len(started)}.log", *QUICK, "--log-level", "debug", *flags)
        started.append(router)
        return router

    yield start
    for router in started:
        Process.kill(router)
    for router in started:
        assert not router.faults(), router.text()


@pytest.fixture
def start_front(start_router: Callable[..., Router]) -> Iterator[Callable[..., Front]]:
    """A router in front of one scripted worker."""
    with contextlib.ExitStack() as stack:

        def start(*flags: str) -> Front:
            workers = stack.enter_context(fake_workers(1))
            return Front(start_router("--backend", workers[0].url, *flags), workers)

        yield start
