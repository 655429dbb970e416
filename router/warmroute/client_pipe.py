"""A client's connection as a pair of pipes: who is held up, what the router itself says, and how it ends.

Rules kept. A client that sends faster than somebody takes it is not read. An answer that cannot be completed
ends with a reset: closing alone would be the regular end of an answer without length. A client that is
refused while it still sends is listened to for a while, as closing at once would reset the connection and
lose the refusal on its way.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from time import monotonic
from typing import Final

from warmroute.wire.proxy_head import plain_address
from warmroute.wire.replies import RouterError, error_reply

# SO_LINGER for no time at all: closing the socket resets the connection.
_RESET: Final = struct.pack("ii", 1, 0)

# How long a refused client is listened to, so that the refusal reaches it.
LINGER_S: Final = 5.0


class ClientPipe(asyncio.Protocol):
    """State: the transport, which of its two directions is held up, and whether it is to be closed."""

    __slots__ = (
        "_peer", "_reading_paused", "close_after_reply", "paused", "refused", "silent", "transport",
        "waiting_since",
    )  # fmt: skip

    def __init__(self, peer: str | None) -> None:
        self._peer = peer
        """Who the client is, where the socket does not know; None: it does."""
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self._reading_paused = False
        self.paused = False
        """The client does not read: its answer waits here, and its next request is not begun."""
        self.close_after_reply = False
        self.refused = False
        """Nothing more is said, and what else comes is dropped."""
        self.silent = False
        """Nothing has come since the last look at the clock; only while it is refused."""
        self.waiting_since = monotonic()
        """When the state last changed: idle, head, body, answering, or refused."""

    @property
    def address(self) -> str | None:
        """Reads. The client's IP address (that which a proxy told, with `proxy_protocol`), or `unix`."""
        if self._peer is None:
            peername = self.transport.get_extra_info("peername")
            self._peer = plain_address(peername[0]) if peername else None
        return self._peer

    def reply(
        self,
        error: RouterError,
        request_id: bytes | None,
        *,
        anthropic: bool = False,
        fields: bytes | None = None,
    ) -> None:
        """Writes. The router's own answer; `fields` are further lines of its head, as `error_reply` takes
        them."""
        keep_alive = not self.close_after_reply
        self.transport.write(
            error_reply(error, request_id, keep_alive=keep_alive, anthropic=anthropic, fields=fields or b"")
        )

    def hold_reading(self) -> None:
        """Writes. The client sends faster than somebody takes it. Twice is once."""
        if not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    def go_on_reading(self) -> None:
        """Writes. There is room again. Twice is once."""
        if self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()

    def cut(self) -> None:
        """Writes. The answer cannot be completed: the client must see that."""
        with contextlib.suppress(OSError):  # it has just left by itself
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def linger(self) -> None:
        """Writes. The refusal is written, and its reader has `LINGER_S` to take it. The end is announced at
        once; over TLS, whose announcement ends both directions, when nothing more comes."""
        self.refused = True
        self.waiting_since = monotonic()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def check_linger(self, now: float) -> None:
        """Writes. To be called about once a second while it is refused."""
        if now - self.waiting_since > LINGER_S:
            self.transport.abort()
        elif self.silent and not self.transport.can_write_eof():
            self.transport.close()
        self.silent = True
