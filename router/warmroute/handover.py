"""A new router takes over from an old one on the same port, and no connection is lost between them.

Both listen with SO_REUSEPORT, and the kernel spreads new connections over them. The one that is to stop
tells the kernel to pick another (`give_way`), goes on accepting until handshakes that had begun with it are
over, and only then closes: a listener that closes resets what its queue still holds. What it told the kernel
outlives it, so those that stay say that connections are to be spread again (`share`).

Linux only: elsewhere, and where the kernel refuses, new connections are spread until the old listener closes.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

# Handshakes that have begun here end within a round trip; lost packets are sent again after a second.
HANDSHAKES_S: Final = 1.5

# How often one that stays undoes what one that left has told the kernel. Should it come between another's
# word and its end, the port is shared for the rest of `HANDSHAKES_S`: harmless but for the last moment.
SHARE_EVERY_S: Final = 60.0

# <asm-generic/socket.h>; the socket module does not name them.
_SO_ATTACH_REUSEPORT_CBPF: Final = 51
_SO_DETACH_REUSEPORT_BPF: Final = 68

# Where a connection of ours to our own port landed is known as soon as the loop has accepted it.
_PROBE_S: Final = 0.05

# To this machine: at once, or nobody takes it.
_CONNECT_S: Final = 1.0

_BPF_RETURN: Final = 0x06


class Listener(Protocol):
    """What a server's sockets are; uvloop's are not the standard library's."""

    def fileno(self) -> int:
        """The file."""
        ...

    def getsockname(self) -> Any:
        """The address."""
        ...


async def give_way(listeners: Sequence[Listener], has_client: Callable[[Any], bool]) -> bool:
    """Writes. New connections go to another router on this port. Whether one is there and gets them.

    Listeners of a port are numbered, and nobody tells which number is whose. So it is tried out: the second
    is chosen, and the first where a connection of our own lands here all the same. `has_client` says whether
    a connection from this address has been accepted here.
    """
    given = False
    for listener in listeners:
        for number in (1, 0):
            if not _choose(listener, number):
                break
            if not await _lands_here(listener, has_client):
                given = True
                break
        else:  # nobody else is there, and whoever comes is not to find the port given to one that leaves
            share([listener])
    return given


async def is_served(host: str, port: int) -> bool:
    """Reads. Whether somebody listens there."""
    if not port:
        return False
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def share(listeners: Sequence[Listener]) -> None:
    """Writes. New connections are spread over all that listen on this port."""
    for listener in listeners:
        _set(listener, _SO_DETACH_REUSEPORT_BPF, struct.pack("@i", 0))


def _choose(listener: Listener, number: int) -> bool:
    """Writes. The listener of this number gets all new connections. Where none has it, they are spread."""
    # One instruction of classic BPF (struct sock_filter), and where it is (struct sock_fprog).
    instruction = struct.pack("=HBBI", _BPF_RETURN, 0, 0, number)
    program = ctypes.create_string_buffer(instruction, len(instruction))
    return _set(listener, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("@HP", 1, ctypes.addressof(program)))


def _set(listener: Listener, option: int, value: bytes) -> bool:
    with socket.socket(fileno=os.dup(listener.fileno())) as own:
        try:
            own.setsockopt(socket.SOL_SOCKET, option, value)
        except OSError:
            return False
    return True


async def _lands_here(listener: Listener, has_client: Callable[[Any], bool]) -> bool:
    """Reads. Whether a new connection to the listener's address is accepted by this process."""
    address = listener.getsockname()
    with socket.socket(socket.AF_INET6 if len(address) > 2 else socket.AF_INET) as probe:
        probe.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(probe, address)
        except OSError:
            return False
        await asyncio.sleep(_PROBE_S)
        return has_client(probe.getsockname())
