"""`--kv-events`: each worker publishes over ZeroMQ what its cache holds, as engines do for routers that want
to know it exactly.

    live      PUB      [topic, number, batch]          topic: empty; number: 8 bytes, big-endian, from 0
    replayed  ROUTER   ["", topic, number, batch]      to whoever sends ["", number]: all from there on,
              the end  ["", "", ff ff ff ff ff ff ff ff, ""]

Rules kept here. What changed before an answer's bytes were written was published before them. Nobody who
listens slowly, or asks in an odd way, holds up an engine: what does not fit for a listener is lost to it, and
can be asked for again. What is kept for that is bounded, in batches and in bytes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import Final

import zmq

from warmroute_simulator.engine import EngineKind, PagedCache
from warmroute_simulator.serve.kv_wire import (
    CLEARED,
    END,
    HELD_BATCHES,
    KEPT_BATCHES,
    SEQ_BYTES,
    Event,
    events_of,
    payload_of,
)

KEPT_BYTES: Final = 64 << 20
"""Engines know no such bound. A process here may be 256 of them; these are 13 million tokens."""

_TOPIC: Final = b""


class Publisher:
    """One worker's. State: its two sockets, the number of the next batch, batches that are kept."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        cache: PagedCache,
        kind: EngineKind,
        host: str,
        ports: tuple[int, int],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Listens at `ports`, for listeners and for questions; 0: a free one. Raises OSError."""
        self._cache, self._kind = cache, kind
        cache.changes = []
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._next = 0
        self._loop = loop
        self._live = _listening(context, zmq.PUB, host, ports[0], HELD_BATCHES)
        try:
            # An answer to a question is all that is kept, at once.
            self._replay = _listening(context, zmq.ROUTER, host, ports[1], 2 * KEPT_BATCHES)
        except OSError:
            self._live.close(linger=0)
            raise
        self.endpoint = str(self._live.getsockopt_string(zmq.LAST_ENDPOINT))
        """Where it is to be listened to."""
        self.replay_endpoint = str(self._replay.getsockopt_string(zmq.LAST_ENDPOINT))
        """Where old batches can be asked for."""
        self._fd = int(self._replay.getsockopt(zmq.FD))
        loop.add_reader(self._fd, self._asked)

    @property
    def ports(self) -> tuple[int, int]:
        """Reads. For listeners, for questions."""
        live, replay = (int(where.rpartition(":")[2]) for where in (self.endpoint, self.replay_endpoint))
        return live, replay

    def tell(self) -> None:
        """Writes. What changed since the last time is a batch, if there is anything."""
        changes = self._cache.changes
        if changes:
            self._cache.changes = []
            self._publish(events_of(self._kind, changes))

    def cleared(self) -> None:
        """Writes. The cache has just been cleared: that is told, or, where running requests go on using
        blocks of it, which others are gone."""
        if self._cache.referenced:
            self.tell()
        else:
            self._cache.changes = []
            self._publish([CLEARED])

    def report(self) -> dict[str, object]:
        """Reads. For `/__state`."""
        return {
            "endpoint": self.endpoint,
            "replay_endpoint": self.replay_endpoint,
            "batches": self._next,
            "kept": len(self._kept),
        }

    def close(self) -> None:
        """Writes. For good."""
        self._loop.remove_reader(self._fd)
        self._live.close(linger=0)
        self._replay.close(linger=0)

    def _publish(self, events: list[Event]) -> None:
        payload = payload_of(events)
        self._live.send_multipart((_TOPIC, _number(self._next), payload), zmq.NOBLOCK)
        self._next += 1
        self._kept.append(payload)
        self._kept_bytes += len(payload)
        while len(self._kept) > KEPT_BATCHES or self._kept_bytes > KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popleft())

    def _asked(self) -> None:
        """Answers all questions that have come: the descriptor tells of the first only."""
        while True:
            try:
                client, *question = self._replay.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(question) == 2 and not question[0] and len(question[1]) == SEQ_BYTES:
                self._answer(client, int.from_bytes(question[1], "big"))

    def _answer(self, client: bytes, start: int) -> None:
        oldest = self._next - len(self._kept)
        first = min(max(start, oldest), self._next)
        for number, payload in enumerate(islice(self._kept, first - oldest, None), first):
            self._replay.send_multipart((client, b"", _TOPIC, _number(number), payload), zmq.NOBLOCK)
        self._replay.send_multipart((client, b"", b"", END, b""), zmq.NOBLOCK)


def _number(seq: int) -> bytes:
    return seq.to_bytes(SEQ_BYTES, "big")


def _listening(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, host: str, port: int, held: int
) -> zmq.Socket[bytes]:
    """Raises OSError."""
    where = f"tcp://{f'[{host}]' if ':' in host else host}:{port or '*'}"
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, held)
    socket.setsockopt(zmq.IPV6, int(":" in host))
    try:
        socket.bind(where)
    except zmq.ZMQError as error:
        socket.close(linger=0)
        raise OSError(error.errno, f"{where}: {zmq.strerror(error.errno or 0)}") from None
    return socket
