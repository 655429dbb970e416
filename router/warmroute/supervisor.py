"""Tells systemd when the router listens and when it stops (`Type=notify`).

One datagram to the socket that NOTIFY_SOCKET names, as sd_notify(3) has it; without the variable, nothing.
Whoever hands over from one process to the next (deploy/systemd) waits for it instead of guessing.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Final

log = logging.getLogger("warmroute")

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"


def tell(state: str) -> None:
    """Sends one state. A supervisor that cannot be reached is logged and is no reason to end."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # in the abstract namespace, not in the file system
        address = "\0" + address[1:]
    try:
        with socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        ) as sender:
            sender.sendto(state.encode(), address)
    except OSError as error:
        log.warning("the supervisor was not told %s: %s", state, error.strerror)
