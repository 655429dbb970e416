"""The router's connections to one worker: those that are idle, and making new ones."""

from __future__ import annotations

import asyncio
import errno
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

from warmroute.ranks import rank_field, split_rank
from warmroute.tls import Certificates
from warmroute.wire import answers
from warmroute.worker import WorkerConnection
from warmroute_policies.types import WorkerId

# What the router's own machine lacks when it cannot connect: no worker is to blame, another would not help.
OWN_LACK: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM))


class WorkerPool:
    """All connections to one worker. State: those that are idle, the one used last at the end."""

    def __init__(
        self, worker_id: WorkerId, idle_max: int, upstream_tls: Certificates, tls_name: str | None = None
    ) -> None:
        self.url, self.rank = split_rank(worker_id)
        url = urlsplit(self.url)
        self.worker_id = worker_id
        self.tls = upstream_tls if url.scheme == "https" else None
        """None: the worker is spoken to in plain text."""
        self.tls_name = tls_name
        """The name that its certificate must show; None: the URL's host."""
        self.host = url.hostname or ""
        self.port = url.port or 80
        self.host_field = b"host: " + url.netloc.encode() + b"\r\n" + rank_field(self.rank)
        self.name_field = b"\r\nx-router-worker: " + worker_id.encode()
        self.probe = False
        """The next request is a probe: no other may follow before it has ended."""
        self.idle_max = idle_max
        """Idle connections that are kept."""
        self.answered = 0
        """Answers that were no fault of the worker's, ever."""
        self._idle: dict[WorkerConnection, None] = {}
        self.heads = answers.AnswerHeads()

    def take(self) -> WorkerConnection | None:
        """Writes. The connection that was used last, or None: connect."""
        if self._idle:
            return self._idle.popitem()[0]
        return None

    def give_back(self, connection: WorkerConnection) -> None:
        """Writes. An idle connection; closed when there are enough."""
        transport = connection.transport
        if len(self._idle) >= self.idle_max or transport.is_closing() or transport.get_write_buffer_size():
            connection.close()  # the worker may have answered before it had read the request
            return
        connection.idle_since = monotonic()
        self._idle[connection] = None

    def forget(self, connection: WorkerConnection) -> None:
        """Writes. The connection is closed or about to be. Twice is once."""
        self._idle.pop(connection, None)

    async def connect(self) -> WorkerConnection:
        """Writes. A new connection. Raises OSError."""
        connection = WorkerConnection(self)
        loop = asyncio.get_running_loop()
        try:
            if self.tls is None:
                await loop.create_connection(lambda: connection, self.host, self.port)
            else:
                await loop.create_connection(
                    lambda: connection, self.host, self.port,
                    ssl=self.tls.context, server_hostname=self.tls_name or self.host,
                )  # fmt: skip
        except asyncio.CancelledError:
            if connection.transport is not None:  # it was made in the moment when nobody wanted it any more
                connection.transport.abort()
            raise
        except OSError:
            raise  # a certificate that is not accepted is a ValueError too
        except ValueError as error:  # a name that no resolver, or no certificate, knows how to spell
            raise OSError(f"no host is called so: {error}") from error
        return connection

    def idle(self) -> int:
        """Reads."""
        return len(self._idle)

    def close_older_than(self, moment: float) -> None:
        """Writes. Connections idle since before `moment`; the worker would close them soon, maybe just
        when a request is on its way."""
        for connection in [c for c in self._idle if c.idle_since < moment]:
            connection.close()

    def retire(self) -> None:
        """Writes. The worker is gone: what still carries an answer is closed after it."""
        self.idle_max = 0
        self.probe = False
        self.close_idle()

    def close_idle(self) -> None:
        """Writes. The worker is gone or the router stops."""
        for connection in list(self._idle):
            connection.close()
