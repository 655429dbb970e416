"""ZeroMQ sockets in the event loop: no thread, task or future of ours, whatever arrives.

A ZeroMQ socket has a file descriptor that becomes readable when the socket's state *may* have changed, and is
not readable again before somebody has looked. So whoever is woken reads until nothing is left; and whoever
sends looks too, because sending may swallow the news.

Rules kept. All that was woken is done in turns of the loop, together at most half a millisecond each, one
message at a time and one source after the other: requests go on in between, however many engines are
replaying. A socket is closed once, without waiting for what it has not sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, Protocol, final

import zmq

from warmroute.kv_events.wire import PAYLOAD_BYTES_MAX

# What a turn of the loop may be held up for; a request takes a tenth of it.
_TURN_S: Final = 0.0005

# Entries of a thrown away table that a step lets go of: some 50 µs.
_BURIED_AT_ONCE: Final = 512

# Messages held for us in a publisher's connection: as many as an engine keeps for replay.
_HELD_MAX: Final = 10_000

_RECONNECT_MS: Final = 100
_RECONNECT_MAX_MS: Final = 5_000

# A host that went away without a word is noticed, and connected to again when it is back.
_HEARTBEAT_MS: Final = 10_000
_HEARTBEAT_TIMEOUT_MS: Final = 30_000

# A socket or two for every rank of a thousand workers. ZeroMQ's own limit is 1,023.
_SOCKETS_MAX: Final = 16_384


class Steps(Protocol):
    """Something with work to do, in steps."""

    def step(self, now: float) -> bool:
        """Writes. Does one step; whether there may be another one."""
        ...


@final
class Pump:
    """State: who has work to do, in turn."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready: deque[Steps] = deque()
        self._among: set[int] = set()
        self._scheduled = False

    def ready(self, steps: Steps) -> None:
        """Writes. Its steps are made soon. Twice is once."""
        if id(steps) not in self._among:
            self._among.add(id(steps))
            self._ready.append(steps)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        ready, now = self._ready, monotonic()
        deadline = now + _TURN_S
        try:
            while ready and now < deadline:
                steps = ready.popleft()
                self._among.discard(id(steps))
                if steps.step(now):
                    self.ready(steps)
                now = monotonic()
        finally:  # a fault of one of them is not the others' end
            self._scheduled = bool(ready)
            if ready:
                self._loop.call_soon(self._turn)


@final
class Grave:
    """State: a table that nobody needs any more."""

    def __init__(self, table: dict[int, int]) -> None:
        self._table = table

    def step(self, now: float) -> bool:
        """Writes. Lets go of a piece of it; whether there is more."""
        table = self._table
        for _ in range(min(_BURIED_AT_ONCE, len(table))):
            table.popitem()
        return bool(table)


@final
class Line:
    """State: one socket, open until it is closed, and who is told of its messages."""

    def __init__(
        self, pump: Pump, socket: zmq.Socket[bytes], heard: Callable[[list[bytes], float], None]
    ) -> None:
        self._pump, self._socket, self._heard = pump, socket, heard
        self._monitor: Line | None = None
        self._loop = asyncio.get_running_loop()
        self._fd = int(socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._fd, self._woken)
        self._woken()  # what came before is no news to the descriptor

    @property
    def address(self) -> str:
        """Reads. As the socket knows it."""
        return str(self._socket.getsockopt_string(zmq.LAST_ENDPOINT))

    def send(self, frames: Sequence[bytes]) -> None:
        """Writes. Sends, or lets it wait in the socket until there is a connection."""
        self._socket.send_multipart(frames, zmq.NOBLOCK)
        self._woken()

    def step(self, now: float) -> bool:
        """Writes. One message; whether there may be another one."""
        if self._socket.closed:
            return False
        try:
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._heard(frames, now)
        return True

    def tell_of_connections(self, connected: Callable[[float], None]) -> None:
        """Writes. From now on somebody is told whenever there is a new connection, before its messages."""
        monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._monitor = Line(self._pump, monitor, lambda _, now: connected(now))

    def close(self) -> None:
        """Writes. Twice is once."""
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close()
            self._monitor = None
        if not self._socket.closed:
            self._loop.remove_reader(self._fd)
            self._socket.close(linger=0)

    def _woken(self) -> None:
        self._pump.ready(self)


@final
class Sockets:
    """State: ZeroMQ's context, with its one thread, and the pump of all sockets. Closed once."""

    def __init__(self) -> None:
        self._context = zmq.Context(1)
        self._context.set(zmq.MAX_SOCKETS, _SOCKETS_MAX)
        self.pump = Pump()

    def subscribe(
        self, endpoint: str, topic: str, heard: Callable[[list[bytes], float], None], *, bind: bool
    ) -> Line:
        """Writes. A line on which publishers are heard: one that they connect to, or that connects to one. A
        topic is a prefix; empty: everything. Raises OSError when it cannot be had."""
        return self._line(zmq.SUB, endpoint, heard, bind=bind, topic=topic)

    def ask(
        self, endpoint: str, request: Sequence[bytes], heard: Callable[[list[bytes], float], None]
    ) -> Line:
        """Writes. A line on which one question was asked. Raises OSError when it cannot be had."""
        line = self._line(zmq.DEALER, endpoint, heard, bind=False, topic=None)
        line.send(request)
        return line

    def bury(self, table: dict[int, int]) -> None:
        """Writes. Lets go of it bit by bit."""
        if table:
            self.pump.ready(Grave(table))

    def close(self) -> None:
        """Writes. For good, after all lines."""
        self._context.destroy(linger=0)

    def _line(
        self,
        kind: int,
        endpoint: str,
        heard: Callable[[list[bytes], float], None],
        *,
        bind: bool,
        topic: str | None,
    ) -> Line:
        try:
            socket = self._context.socket(kind)
        except zmq.ZMQError as error:
            raise _os_error(error, endpoint) from None
        try:
            for option, value in (
                (zmq.LINGER, 0),
                (zmq.RCVHWM, _HELD_MAX),
                (zmq.SNDHWM, 1),  # one question is asked
                (zmq.MAXMSGSIZE, PAYLOAD_BYTES_MAX),
                (zmq.RECONNECT_IVL, _RECONNECT_MS),
                (zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS),
                (zmq.HEARTBEAT_IVL, _HEARTBEAT_MS),
                (zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS),
                # With it on, a name that has an address of each kind is tried by that of IPv6 alone.
                (zmq.IPV6, int("[" in endpoint)),
            ):
                socket.setsockopt(option, value)
            if topic is not None:
                socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
            (socket.bind if bind else socket.connect)(endpoint)
        except zmq.ZMQError as error:
            socket.close(linger=0)
            raise _os_error(error, endpoint) from None
        return Line(self.pump, socket, heard)


def _os_error(error: zmq.ZMQError, endpoint: str) -> OSError:
    return OSError(error.errno, f"{endpoint}: {zmq.strerror(error.errno or 0)}")
