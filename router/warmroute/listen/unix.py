"""A Unix socket: a name in the file system that a router listens on.

The name of a router that died stays behind and is replaced; one that somebody answers on is not, unless the
new router is to take over (`reuse_port`): then its name is put in the old one's place in one step, and who
had connected to the old one is served by that. The name is removed at the end if it is still one's own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

# Nobody may connect before the mode is set.
_CLOSED_UMASK = 0o177


class InUse(OSError):
    """Somebody listens there, or the name is taken by something that is no socket."""


class UnixName:
    """The name of a socket of this process. State: the path, and which file it was when it was made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _identity(path)

    def is_own(self) -> bool:
        """Reads. Whether the name still leads here."""
        with contextlib.suppress(OSError):
            return _identity(self.path) == self._file
        return False

    def remove(self) -> None:
        """Writes. Takes the name away, unless another one has it now."""
        if self.is_own():
            self.path.unlink(missing_ok=True)


def bind_unix(path: Path, mode: int, *, take_over: bool) -> tuple[socket.socket, UnixName]:
    """A socket with this name, for those whom `mode` lets write. Raises OSError; InUse where it is taken."""
    taken = answers(path)
    if taken and not take_over:
        raise InUse(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    own = path.with_name(f".{path.name}.{os.getpid()}") if taken else path
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(_CLOSED_UMASK)
    try:
        own.unlink(missing_ok=True)
        listener.bind(str(own))
        own.chmod(mode)
        if own != path:
            listener.listen()  # whoever finds the new name is not refused
            own.replace(path)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener, UnixName(path)


def answers(path: Path) -> bool:
    """Reads. Whether somebody listens there. Raises InUse for what is no socket, and OSError."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(found.st_mode):
        raise InUse(errno.EEXIST, "the file is there and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            return True  # its queue is full: somebody is there
    return True


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
