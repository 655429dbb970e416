"""The way back: a worker's answer goes to its client as it comes.

Piece by piece, as it came, unless a tap is on it (`taps`). Only the head is changed: the router's own fields
go into it, and what the two connections make different. Rules kept:

- The head waits for the first byte behind it. Until then another worker may be asked, and a stream's head
  comes long before its first token; from then on there is no way back.
- A worker is read only as fast as the client reads.
- The ends of the last pieces are kept for as long as the answer runs: the usage is in there.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

from warmroute.receiver import Receiver
from warmroute.usage import TAIL_BYTES
from warmroute.wire.answers import AnswerHead, drop_connection_fields, without_load
from warmroute.wire.cross_origin import without_cross_origin_fields

if TYPE_CHECKING:
    from warmroute.client import ClientConnection
    from warmroute.gateway import Gateway
    from warmroute.plan import Plan
    from warmroute.taps import Tap
    from warmroute.worker import WorkerConnection
    from warmroute_policies.types import Decision, WorkerId

# Pieces of an answer whose ends are kept for the usage: an engine sends the counts, the end marker and
# the last chunk in up to three writes.
_TAIL_PIECES: Final = 4


class _Words(dict[str, bytes]):
    """Reasons as bytes; policies have a handful of them."""

    def __missing__(self, reason: str) -> bytes:
        word = self[reason] = reason.encode()
        return word


_WORDS: Final = _Words()


class Splice(Receiver):
    """State: whose answer it is, which connection brings it, and how far it is."""

    __slots__ = (
        "client", "connection", "decision", "first_byte_at", "gateway", "pieces", "reply_head", "request_id",
        "status", "tail", "tap",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, client: ClientConnection, plan: Plan, request_id: bytes) -> None:
        self.gateway = gateway
        self.client = client
        self.plan = plan
        self.request_id = request_id
        self.decision: Decision | None = None
        self.connection: WorkerConnection | None = None
        self.status = 0
        self.reply_head = b""
        """The answer's head, which waits for the first byte behind it."""
        self.pieces = 0
        self.first_byte_at = 0.0
        """0.0: there is none yet, or the answer came whole."""
        self.tap: Tap | None = None
        """Looks at the answer's body on its way."""
        self.tail: deque[bytes] | None = None
        """The ends of the last pieces; the usage is in there."""

    @abstractmethod
    def _wins(self) -> None:
        """Writes. The first byte is here: this worker's answer it will be."""

    @abstractmethod
    def _first_byte(self, piece: bytes, now: float) -> None:
        """Writes. It is of an answer that is no error, and that comes in pieces."""

    @abstractmethod
    def _ended(self, tail: bytes) -> None:
        """Writes. All of the answer is written to the client; `tail`: the ends of its last pieces."""

    def take_head(self, head: AnswerHead, data: bytes) -> None:
        """The answer's head. It waits for the first byte behind it: until then another worker may be
        asked, and a stream's head comes long before its first token."""
        self.status = head.status
        if head.load is not None:
            data = self._take_load(head.load, data)
        if self.tap is not None:
            self.tap.begin(head, data, self._worker, http_10=self.plan.http_10)
        self.reply_head = self._reply_of(head, data)

    def _take_load(self, value: bytes, data: bytes) -> bytes:
        """Writes. The engine's load from the answer's head; the head, without it where the client did not ask
        for it."""
        if not self.plan.reads_load:
            return data
        self.gateway.loads.in_head(self._worker, value)
        return without_load(data)

    def _reply_of(self, head: AnswerHead, data: bytes) -> bytes:
        """The worker's head, or its head and body, with the router's own fields in it."""
        if self._stays(head):
            return self._with_fields(head.line, data, b"")
        close, data = self._closing(head, data)
        return self._with_fields(head.line, data, close)

    def _with_fields(self, line: bytes, data: bytes, close: bytes) -> bytes:
        decision, connection = self.decision, self.connection
        assert decision is not None
        assert connection is not None
        if self.plan.cross_origin is not None:
            close, data = close + self.plan.cross_origin, without_cross_origin_fields(data)
        return b"%b\r\nx-request-id: %b%b\r\nx-router-reason: %b\r\nx-router-predicted-hit-tokens: %d%b%b" % (
            line, self.request_id, connection.pool.name_field, _WORDS[decision.reason],
            decision.predicted_hit_tokens, close, data[len(line) :],
        )  # fmt: skip

    def _stays(self, head: AnswerHead) -> bool:
        """Whether both connections stay as they are behind this answer: there is nothing to change in it."""
        plan = self.plan
        return head.plain and plan.plain and not head.until_close and not self.gateway.stopping

    def _closing(self, head: AnswerHead, data: bytes) -> tuple[bytes, bytes]:
        """What the client's side of the connection makes different: its end, and old clients."""
        plan = self.plan
        data = drop_connection_fields(data, chunks_too=plan.http_10)
        stays = plan.keep_alive and not self.gateway.stopping
        if stays and not plan.http_10 and not head.until_close:
            return b"", data
        self.client.close_after_reply = True
        return b"\r\nconnection: close", data

    def take_piece(self, data: bytes) -> None:
        """A piece of the answer's body: handed on as it came."""
        if self.pieces:
            self.client.transport.write(data if self.tap is None else self.tap.take(data))
        else:
            self._take_first_piece(data)
        self.pieces += 1
        tail = self.tail
        if tail is None:
            tail = self.tail = deque(maxlen=_TAIL_PIECES)
        tail.append(data if len(data) <= TAIL_BYTES else data[-TAIL_BYTES:])

    def _take_first_piece(self, data: bytes) -> None:
        """From here on there is no way back: the client sees this answer."""
        now = self.first_byte_at = monotonic()
        self._wins()
        if self.status < 400:
            self._first_byte(data, now)
        if self.tap is not None:
            data = self.tap.take(data)
        self.client.transport.write(self.reply_head + data)
        self.reply_head = b""

    def take_whole(self, head: AnswerHead, data: bytes, end: int) -> None:
        """Head and body at once, as a plain answer comes; the body begins at `end`."""
        self.pieces = 1
        self.status = head.status
        self._wins()
        if head.load is not None:
            told = self._take_load(head.load, data[:end])
            data, end = told + data[end:], len(told)
        if self.tap is not None:
            self.tap.whole(head, data[end:], self._worker)
        if self._stays(head):
            data = self._with_fields(head.line, data, b"")
        else:  # fields are taken out, and none of the body's lines is one
            data = self._reply_of(head, data[:end]) + data[end:]
        self.client.transport.write(data)
        self._ended(data[-TAIL_BYTES:])

    def answer_ended(self) -> None:
        """The answer is complete."""
        if not self.pieces:
            self.take_piece(b"")  # a head without a body
        if self.tap is not None:
            self.client.transport.write(self.tap.end())
        self._ended(b"".join(self.tail or ()))

    def pause(self) -> None:
        """The client reads more slowly than the worker writes."""
        if self.connection is not None:
            self.connection.transport.pause_reading()

    def resume(self) -> None:
        """The client has caught up."""
        if self.connection is not None:
            self.connection.transport.resume_reading()

    def streams_since(self, now: float) -> float:
        """Reads. Seconds since the first byte of an answer that is no error; 0.0 before."""
        return now - self.first_byte_at if self.first_byte_at and self.status < 400 else 0.0

    @property
    def _worker(self) -> WorkerId:
        assert self.decision is not None
        return self.decision.worker
