"""A process on a core of its own, with a log, which ends with all that it started, and with this process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP_WITHIN_S = 10.0

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class Process:
    """Use as a context manager. State: the process."""

    def __init__(
        self, command: Sequence[str], core: int, log: Path, more: Mapping[str, str], port: int = 0
    ) -> None:
        """`more` is added to the environment; what would configure a router of ours is not in it. Raises
        OSError."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("ROUTER_")}
        self.port, self._log = port, log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=ours | dict(more),
                cwd=log.parent,
                start_new_session=True,
                preexec_fn=lambda: _prepare(core),
            )
        self.pid = self._process.pid

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_WITHIN_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # children may outlive it
        self._process.wait()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def output(self) -> str:
        """Reads. Its log so far."""
        return self._log.read_text(errors="replace")

    def last_words(self) -> str:
        """Reads. The end of its log."""
        return self.output()[-600:]


def _prepare(core: int) -> None:
    """In the new process. It ends when this one is killed."""
    os.sched_setaffinity(0, {core})
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
