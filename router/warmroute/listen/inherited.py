"""Sockets that a supervisor has opened and passed on (systemd's socket activation, sd_listen_fds(3)).

They begin at file 3, LISTEN_FDS says how many, and LISTEN_PID whom they are meant for. The supervisor keeps
them open, so whoever connects between the end of one router and the start of the next waits in the queue.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Final

from warmroute.config import UsageError

_FIRST: Final = 3

_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


def inherited_sockets(environment: MutableMapping[str, str] | None = None) -> list[socket.socket]:
    """Writes: removes the variables, for the sockets are this process' and not its children's. Empty where
    nothing was passed on. Raises UsageError for what cannot be listened on."""
    environment = os.environ if environment is None else environment
    values = {name: environment.get(name, "") for name in _VARIABLES}
    if values["LISTEN_PID"] != str(os.getpid()):
        return []
    for name in _VARIABLES:
        environment.pop(name, None)
    text = values["LISTEN_FDS"]
    if not text.isdecimal():
        raise UsageError(f"LISTEN_FDS: expected a number, got {text!r}")
    return [_listener(number) for number in range(_FIRST, _FIRST + int(text))]


def _listener(number: int) -> socket.socket:
    try:
        found = socket.socket(fileno=number)
    except OSError as error:
        raise UsageError(f"LISTEN_FDS: file {number} is no socket: {error.strerror}") from None
    accepts = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if not accepts or found.type != socket.SOCK_STREAM or found.family not in families:
        raise UsageError(
            f"LISTEN_FDS: file {number} is no listening stream socket (Accept=no, ListenStream=…)"
        )
    found.set_inheritable(False)
    found.setblocking(False)
    return found
