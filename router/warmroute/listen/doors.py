"""The router's open port: sockets with whoever accepts on them, and what a hand-over does with them."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any, Final

from warmroute.client import ClientConnection
from warmroute.gateway import Gateway
from warmroute.handover import HANDSHAKES_S, SHARE_EVERY_S, give_way, share
from warmroute.listen.acceptor import Acceptor
from warmroute.listen.sockets import Listener, open_listeners
from warmroute.tls import Certificates

log = logging.getLogger("warmroute")

# Connections that the kernel completes before the router accepts them; the kernel cuts it to its own limit.
_BACKLOG: Final = 4096


class Doors:
    """State: the listening sockets; servers of the event loop on the plain ones, acceptors on the others."""

    def __init__(self, gateway: Gateway, certificates: Certificates | None) -> None:
        self._gateway = gateway
        self._certificates = certificates
        self._listeners: list[Listener] = []
        self._servers: list[asyncio.Server] = []
        self._acceptors: list[Acceptor] = []

    async def open(self) -> None:
        """Writes. Clients may come. Raises CannotListen, and UsageError where the settings contradict."""
        self._listeners = await open_listeners(self._gateway.settings)
        for listener in self._listeners:
            await self._serve(listener.socket)

    async def _serve(self, listener: socket.socket) -> None:
        gateway, loop = self._gateway, asyncio.get_running_loop()
        if self._certificates is not None or gateway.settings.proxy_protocol:
            listener.listen(_BACKLOG)
            self._acceptors.append(Acceptor(gateway, listener, self._certificates))
        elif listener.family == socket.AF_UNIX:
            self._servers.append(
                await loop.create_unix_server(
                    lambda: ClientConnection(gateway, "unix"), sock=listener, backlog=_BACKLOG
                )
            )
        else:
            self._servers.append(
                await loop.create_server(lambda: ClientConnection(gateway), sock=listener, backlog=_BACKLOG)
            )

    @property
    def urls(self) -> list[str]:
        """Reads. Where clients find the router; with port 0 the kernel chose."""
        scheme = "http" if self._certificates is None else "https"
        return [listener.url(scheme) for listener in self._listeners]

    @property
    def under_way(self) -> int:
        """Reads. Connections that are not clients yet."""
        return sum(acceptor.under_way for acceptor in self._acceptors)

    async def share(self) -> None:
        """Writes. Undoes, from time to time, what a router that left this port had told the kernel."""
        while True:
            if not self._gateway.stopping:
                share(self._on_a_port())
            await asyncio.sleep(SHARE_EVERY_S)

    async def give_way(self) -> None:
        """Writes. New connections go to another router, if one listens beside this one, and handshakes that
        had begun here are over."""
        replaced = any(listener.name and not listener.name.is_own() for listener in self._listeners)
        if await give_way(self._on_a_port(), self._has_client) or replaced:
            await asyncio.sleep(HANDSHAKES_S)

    def close(self) -> None:
        """Writes. Nobody comes any more; who is here stays. Twice is once."""
        listeners, self._listeners = self._listeners, []
        if listeners:
            for server in self._servers:
                server.close()
            for acceptor in self._acceptors:
                acceptor.close()
            for listener in listeners:
                listener.close()

    def abort(self) -> None:
        """Writes. Gives up connections that are not clients yet."""
        for acceptor in self._acceptors:
            acceptor.abort()

    def _on_a_port(self) -> list[socket.socket]:
        return [one.socket for one in self._listeners if one.socket.family != socket.AF_UNIX]

    def _has_client(self, address: tuple[Any, ...]) -> bool:
        return self._gateway.has_client(address) or any(one.has(address) for one in self._acceptors)
