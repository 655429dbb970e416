"""What the router listens on: sockets that it was passed, else a Unix socket, addresses and a port.

`uds` alone means the Unix socket alone; with `host` or `port` named beside it, both. A name may stand for
several addresses (`localhost`), all with one port. `::` is every address, IPv4's too.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from warmroute.config import Settings, UsageError
from warmroute.handover import is_served as is_port_served
from warmroute.listen.inherited import inherited_sockets
from warmroute.listen.unix import UnixName, answers, bind_unix

log = logging.getLogger("warmroute")

# With port 0 the kernel chooses for the first address; the others may find that number taken.
_CHOICES: Final = 10

# An address of a name that this machine does not have, such as ::1 where IPv6 is off.
_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class CannotListen(Exception):
    """The port or the path cannot be had; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One socket, and its name in the file system if it has one of the router's own."""

    socket: socket.socket
    name: UnixName | None = None
    inherited: bool = False
    """The supervisor keeps it open as well."""

    def url(self, scheme: str) -> str:
        """Reads. Where clients find it."""
        address = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            return f"unix:{address}"
        host, port = address[:2]
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def close(self) -> None:
        """Writes. Twice is once."""
        self.socket.close()
        if self.name is not None:
            self.name.remove()


async def open_listeners(settings: Settings) -> list[Listener]:
    """Sockets, bound or passed on. Raises CannotListen, and UsageError where the settings contradict."""
    passed = inherited_sockets()
    if passed:
        if settings.reuse_port:
            raise UsageError(
                "reuse_port: the sockets come from the supervisor, which may share them by itself"
            )
        return [Listener(one, inherited=True) for one in passed]
    listeners: list[Listener] = []
    try:
        if settings.uds is not None:
            listeners.append(_at_path(settings))
        if on_a_port(settings):
            listeners += await _at_address(settings.host, settings.port, reuse_port=settings.reuse_port)
    except CannotListen:
        for one in listeners:
            one.close()
        raise
    return listeners


async def is_served(settings: Settings) -> bool:
    """Reads. Whether somebody else listens where this router is to."""
    if settings.uds is not None and await asyncio.to_thread(answers, settings.uds):
        return True
    return on_a_port(settings) and await is_port_served(settings.host, settings.port)


def on_a_port(settings: Settings) -> bool:
    """Reads. Whether `host` and `port` count: a path alone is meant to be all."""
    return settings.uds is None or bool({"host", "port"} & settings.model_fields_set)


def _at_path(settings: Settings) -> Listener:
    path = settings.uds
    assert path is not None
    try:
        return Listener(*bind_unix(path, int(settings.uds_mode, 8), take_over=settings.reuse_port))
    except OSError as error:
        raise CannotListen(f"{path}: {error.strerror or error}") from None


async def _at_address(host: str, port: int, *, reuse_port: bool) -> list[Listener]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise CannotListen(f"{host}:{port}: {error.strerror}") from None
    places = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    for left in reversed(range(_CHOICES)):
        try:
            return [Listener(one) for one in _bind(places, reuse_port=reuse_port)]
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE or not left:
                where = f"[{host}]" if ":" in host else host
                raise CannotListen(f"{where}:{port}: {error.strerror}") from None
    raise AssertionError("unreachable")


def _bind(
    places: Sequence[tuple[int, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]],
    *,
    reuse_port: bool,
) -> list[socket.socket]:
    """A socket for each address, all with the first one's port. Raises OSError."""
    bound: list[socket.socket] = []
    refusal: OSError | None = None
    for family, address in places:
        port = bound[0].getsockname()[1] if bound else address[1]
        try:
            bound.append(_socket(family, (address[0], port, *address[2:]), reuse_port=reuse_port))
        except OSError as error:
            if error.errno not in _NOT_HERE:
                for one in bound:
                    one.close()
                raise
            refusal = error
    if not bound:
        assert refusal is not None
        raise refusal
    return bound


def _socket(family: int, address: tuple[object, ...], *, reuse_port: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            everything = address[0] == "::" and socket.has_dualstack_ipv6()
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not everything)
        listener.setblocking(False)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
