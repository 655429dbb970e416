"""Starts routers and engines without their imports: forks of a process that has done them.

A router's start is mostly imports, and the suite starts hundreds. What is forked then runs as `python -m`
would run it: a process with its own arguments, folder, log and exit, the interpreter's end included. What has
an environment of its own is started by the system (`live.processes`): libraries read theirs when they load.

Between the process that forks and what it forked stands a keeper, which waits for one process and tells its
exit code through a pipe.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path

_IMPORTED = (
    *("warmroute.cli", "warmroute.app", "warmroute_simulator.commands.serve"),
    *("certifi", "httpcore", "pydantic.v1"),  # by libraries, on first use
)
"""What routers and engines import until they are ready."""


class Forked:
    """What tests ask of a `subprocess.Popen`. State: the pipe on which the exit code comes, until it has."""

    def __init__(self, pipe: int) -> None:
        self._pipe = os.fdopen(pipe, "rb", buffering=0)
        self.returncode: int | None = None
        self.pid = self._number()

    def _number(self) -> int:
        line = self._pipe.readline()
        if not line:
            self._pipe.close()
            raise RuntimeError("the process that forks has ended")
        return int(line)

    def poll(self) -> int | None:
        """Writes. The exit code, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Writes. The exit code, negative for a signal; `subprocess.TimeoutExpired` when it takes longer."""
        if self.returncode is None:
            if not select.select([self._pipe], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            self.returncode = self._number()
            self._pipe.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Prefork:
    """The process that forks. State: the socket to it, for one order at a time."""

    def __init__(self, channel: socket.socket, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self._channel = channel
        self._one_at_a_time = threading.Lock()

    def start(self, words: Sequence[str], folder: Path, output: int) -> Forked:
        """Runs `python -m` with the words in the folder; what it writes goes to the descriptor `output`."""
        order = json.dumps([list(words), str(folder)]).encode() + b"\n"
        reading, writing = os.pipe()
        with self._one_at_a_time:
            try:
                socket.send_fds(self._channel, [order], [output, writing])
            finally:
                os.close(writing)
            return Forked(reading)


@contextlib.contextmanager
def preforking(environment: Mapping[str, str]) -> Iterator[Prefork]:
    """A process that forks, which everything that it started may outlive."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env=dict(environment),
                pass_fds=[theirs.fileno()],
            )
        yield Prefork(ours, environment)
    process.wait()


def _serve(channel: socket.socket) -> list[str]:
    """Forks for every order, and ends with the channel. Returns the order's words in what was forked."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
    while True:
        order, descriptors, _, _ = socket.recv_fds(channel, 1 << 16, 2)
        if not order:
            sys.exit()
        while not order.endswith(b"\n"):
            order += channel.recv(1 << 16)
        if os.fork() == 0:
            channel.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _keep(order, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(order: bytes, output: int, pipe: int) -> list[str]:
    """In a keeper: forks once more, and stays until that has ended."""
    words, folder = json.loads(order)
    pid = os.fork()
    if pid == 0:
        os.dup2(output, sys.stdout.fileno())
        os.dup2(output, sys.stderr.fileno())
        os.close(output)
        os.close(pipe)
        os.chdir(folder)
        sys.path.insert(0, folder)
        return [*words]
    os.close(output)
    os.write(pipe, b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(pipe, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


if __name__ == "__main__":
    del sys.path[0]  # this file's folder
    for module in _IMPORTED:
        import_module(module)
    sys.argv = _serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
