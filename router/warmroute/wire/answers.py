"""A worker's answer: what its head says, and where its body ends.

Bytes are forwarded as they came, chunk framing included; all that is needed is the place where the
answer ends. A worker is trusted to speak HTTP/1.1, but not blindly: what is malformed raises
`BadAnswer` and the connection is given up.
"""

from __future__ import annotations

# A worker's head is a few hundred bytes.
HEAD_BYTES_MAX = 64 * 1024

_HEX = b"0123456789abcdefABCDEF"

# A chunk's size line: 16 hex digits and room for an extension.
_SIZE_LINE_MAX = 1024


class BadAnswer(Exception):
    """The worker's bytes are not an HTTP/1.1 answer."""


class AnswerHead:
    """What the head of an answer says. `length` is None unless it has a Content-Length."""

    __slots__ = ("chunked", "end", "keep_alive", "length", "status")

    def __init__(self, status: int, end: int) -> None:
        self.status = status
        self.end = end
        """Where the body starts in the bytes that were read."""
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = True


def read_head(data: bytes) -> AnswerHead | None:
    """The final head at the start of `data`, interim answers (1xx) passed over; None: not complete.

    Raises BadAnswer.
    """
    start = 0
    while True:
        end = data.find(b"\r\n\r\n", start)
        if end < 0:
            if len(data) - start > HEAD_BYTES_MAX:
                raise BadAnswer("the head is too long")
            return None
        line = data[start : start + 13]
        if not line.startswith(b"HTTP/1.") or not line[9:12].isdigit():
            raise BadAnswer(f"not a status line: {line!r}")
        status = int(line[9:12])
        if status >= 200 or status == 101:
            break
        start = end + 4
    head = AnswerHead(status, end + 4)
    fields = data[start : end + 2].lower()
    at = fields.find(b"\r\ncontent-length:")
    if at >= 0:
        value = fields[at + 17 : fields.find(b"\r\n", at + 17)].strip()
        if not value.isdigit() or fields.find(b"\r\ncontent-length:", at + 17) >= 0:
            raise BadAnswer("the length is not one number")
        head.length = int(value)
    at = fields.find(b"\r\ntransfer-encoding:")
    if at >= 0:
        value = fields[at + 20 : fields.find(b"\r\n", at + 20)].strip()
        if value != b"chunked" or head.length is not None:
            raise BadAnswer("the body's framing is ambiguous")
        head.chunked = True
    at = fields.find(b"\r\nconnection:")
    if at >= 0:
        head.keep_alive = b"close" not in fields[at + 13 : fields.find(b"\r\n", at + 13)]
    elif line[7:8] == b"0":
        head.keep_alive = False
    if status in (204, 304):
        head.length, head.chunked = 0, False
    return head


def drop_connection_fields(head: bytes, *, chunks_too: bool) -> bytes:
    """The head without the fields that describe the worker's connection, and the framing if asked."""
    dropped: tuple[bytes, ...] = (b"connection:", b"keep-alive:", b"proxy-connection:")
    if chunks_too:
        dropped += (b"transfer-encoding:",)
    return b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(dropped))


class LengthBody:
    """A body of a known length."""

    __slots__ = ("done", "left")

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0

    def feed(self, data: bytes) -> int:
        """How many of these bytes belong to the body."""
        size = len(data)
        if size < self.left:
            self.left -= size
            return size
        size, self.left, self.done = self.left, 0, True
        return size


class UntilCloseBody:
    """A body that ends when the worker closes its connection."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    def feed(self, data: bytes) -> int:
        return len(data)


class ChunkedBody:
    """A chunked body. Hops from size line to size line; what is between is not looked at."""

    __slots__ = ("_line", "_payload", "_skip", "_trailers", "done")

    def __init__(self, *, payload: bool = False) -> None:
        self.done = False
        self._skip = 0
        """Bytes of the current chunk, its line end included, that are still to come."""
        self._line = b""
        """The beginning of a size line, or of a trailer line, that was cut."""
        self._trailers = False
        self._payload: list[bytes] | None = [] if payload else None
        """What the chunks carry, for a client that does not know chunks."""

    def feed(self, data: bytes) -> int:
        """How many of these bytes belong to the body. Raises BadAnswer."""
        held = len(self._line)
        if held:
            data = self._line + data
            self._line = b""
        size, at = len(data), self._skip
        if self._payload is not None and at > 2:
            self._payload.append(data[: at - 2])
        while at < size:
            eol = data.find(b"\r\n", at)
            if eol < 0:
                self._line = data[at:]
                if size - at > _SIZE_LINE_MAX:
                    raise BadAnswer("a chunk's size line has no end")
                self._skip = 0
                return size - held
            if self._trailers:
                if eol == at:
                    self.done = True
                    self._skip = 0
                    return eol + 2 - held
                at = eol + 2
                continue
            digits = data[at:eol]
            if digits.strip(_HEX) or not digits:
                digits = digits.partition(b";")[0].strip(b" \t")
                if digits.strip(_HEX) or not digits:
                    raise BadAnswer(f"not a chunk size: {data[at:eol][:32]!r}")
            length = int(digits, 16)
            if length == 0:
                self._trailers = True
                at = eol + 2
                continue
            if self._payload is not None:
                self._payload.append(data[eol + 2 : eol + 2 + length])
            at = eol + 4 + length
        self._skip = at - size
        return size - held

    def take_payload(self) -> bytes:
        """Writes. What the chunks carried since the last call; only where it was asked for."""
        assert self._payload is not None
        payload = b"".join(self._payload)
        self._payload.clear()
        return payload
