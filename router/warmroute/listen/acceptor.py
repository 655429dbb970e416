"""Accepts connections that begin with something else than HTTP: a proxy's head, a TLS handshake, or both.

Each is a task until it is over, and only then a `ClientConnection`. The head is read off the bare socket, to
its last byte, so that the handshake behind it finds its own first byte. Plain connections do not come here:
the event loop accepts them itself.

What fails here is closed without a word (there is nobody to talk to), counted, and logged at debug: strangers
must not fill the log. All of it has one deadline, `head_timeout_s`, and as many may be under way as there may
be clients.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, Final

from warmroute.client import ClientConnection
from warmroute.client_pipe import LINGER_S
from warmroute.gateway import Gateway
from warmroute.tls import Certificates, why_not_connected
from warmroute.wire.proxy_head import BadProxyHead, ProxyHead, read_proxy_head

log = logging.getLogger("warmroute")

# What is accepted before the loop looks at something else.
_AT_ONCE: Final = 64

# When the process has no file or memory left for a connection, others have to end first.
_PAUSE_S: Final = 0.5


class Acceptor:
    """State: a listening socket, and the connections that are not clients yet."""

    def __init__(self, gateway: Gateway, listener: socket.socket, certificates: Certificates | None) -> None:
        self._gateway = gateway
        self._listener = listener
        self._certificates = certificates
        self._proxied = gateway.settings.proxy_protocol
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[asyncio.Task[None], Any] = {}
        """With the address that each came from."""
        self._resume: asyncio.TimerHandle | None = None
        self._loop.add_reader(listener, self._accept)

    def has(self, address: tuple[Any, ...]) -> bool:
        """Reads. Whether a connection from this address (host and port) is under way."""
        return any(came_from[:2] == address[:2] for came_from in self._under_way.values())

    def close(self) -> None:
        """Writes. Accepts nothing more; what is under way goes on."""
        self._loop.remove_reader(self._listener)
        if self._resume is not None:
            self._resume.cancel()

    def abort(self) -> None:
        """Writes. Gives up what is under way."""
        for task in list(self._under_way):
            task.cancel()

    @property
    def under_way(self) -> int:
        """Reads. How many connections are not clients yet."""
        return len(self._under_way)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("cannot accept connections", extra={"why": error.strerror})
                self._loop.remove_reader(self._listener)
                self._resume = self._loop.call_later(
                    _PAUSE_S, lambda: self._loop.add_reader(self._listener, self._accept)
                )
                return
            if len(self._under_way) >= self._gateway.settings.max_connections:
                connection.close()
                self._gateway.connection_failed("too_many", address_of(address), "too many are under way")
                continue
            connection.setblocking(False)
            task = self._loop.create_task(self._welcome(connection, address))
            self._under_way[task] = address
            task.add_done_callback(self._under_way.pop)

    async def _welcome(self, connection: socket.socket, address: Any) -> None:
        """From an accepted socket to a client, or to its end."""
        settings, peer = self._gateway.settings, address_of(address)
        stage = "proxy_head"
        try:
            async with asyncio.timeout(settings.head_timeout_s):
                if self._proxied:
                    peer = await self._read_proxy_head(connection) or peer
                stage = "tls_handshake"
                await self._hand_over(connection, peer)
        except (OSError, BadProxyHead, TimeoutError) as error:
            why = "it took too long" if isinstance(error, TimeoutError) else _in_words(error)
            self._gateway.connection_failed(stage, peer, why)
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise

    async def _read_proxy_head(self, connection: socket.socket) -> str | None:
        """The client's address. Raises BadProxyHead and OSError."""
        data = b""
        while isinstance(found := read_proxy_head(data), int):
            piece = await self._loop.sock_recv(connection, found)
            if not piece:
                raise BadProxyHead("the connection ended before its head")
            data += piece
        assert isinstance(found, ProxyHead)
        return found.address

    async def _hand_over(self, connection: socket.socket, peer: str) -> None:
        """The connection is the client's. Raises OSError where the handshake fails."""
        make: Callable[[], ClientConnection] = lambda: ClientConnection(self._gateway, peer)  # noqa: E731
        if self._certificates is None:
            await self._loop.connect_accepted_socket(make, connection)
        else:
            await self._loop.connect_accepted_socket(
                make,
                connection,
                ssl=self._certificates.context,
                ssl_handshake_timeout=self._gateway.settings.head_timeout_s,
                # Who does not answer the end of TLS is not waited for longer than who is refused.
                ssl_shutdown_timeout=LINGER_S,
            )


def address_of(address: Any) -> str:
    """Who is at the other end of an accepted socket; of Unix sockets nobody has a name."""
    return str(address[0]) if isinstance(address, tuple) else "unix"


def _in_words(error: Exception) -> str:
    return why_not_connected(error) if isinstance(error, OSError) else str(error)
