"""A request's body, put together: a prompt must be whole before it can be routed.

Of a body in chunks the router knows no length until its end. llhttp takes the chunks apart, but does not say
where in a piece a body ended. The hopping reader that frames answers does, so that it is asked first; a body
on whose end the two do not agree is refused.
"""

from __future__ import annotations

from typing import Final

import httptools

from warmroute.wire import answers

# Pieces that are joined to one: clients may send a byte at a time, and a piece takes forty more.
_JOINED_PIECES: Final = 1024

# llhttp needs a head before a body; this one says no more than that chunks follow.
_HEAD: Final = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


class BadBody(Exception):
    """The client's chunks are malformed."""


class SizedBody:
    """Takes pieces until there are `length` bytes."""

    def __init__(self, length: int) -> None:
        self.held_bytes = length
        """Room that is kept for it, from the first."""
        self.complete = False
        self._left = length
        self._pieces: list[bytes] = []
        self._joined = 0
        """How many of them, from the first, were joined of many."""

    def feed(self, data: bytes) -> bytes:
        """Writes. Takes bytes; gives back those behind the end of the body."""
        rest = b""
        if len(data) > self._left:
            data, rest = data[: self._left], data[self._left :]
        self._left -= len(data)
        self.complete = not self._left
        pieces = self._pieces
        pieces.append(data)
        if len(pieces) - self._joined >= _JOINED_PIECES:
            pieces[self._joined :] = (b"".join(pieces[self._joined :]),)
            self._joined += 1
        return rest

    def whole(self) -> bytes:
        """Reads. The body, once it is complete."""
        return b"".join(self._pieces)


class ChunkedBody:
    """Takes pieces until the last chunk; `data` is the body so far.

    One buffer and not a list of chunks: a client may send chunks of two bytes, and a list of those takes
    thirty times their room.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.complete = False
        self._frame = answers.ChunkedBody()
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_HEAD)

    @property
    def held_bytes(self) -> int:
        """Reads. Bytes of the body so far."""
        return len(self.data)

    def whole(self) -> bytes:
        """Reads. The body, once it is complete."""
        return bytes(self.data)

    def on_body(self, body: bytes) -> None:
        """Called by llhttp."""
        self.data += body

    def on_message_complete(self) -> None:
        """Called by llhttp."""
        self.complete = True

    def feed(self, data: bytes) -> bytes:
        """Writes. Takes bytes; gives back those behind the end of the body. Raises BadBody."""
        try:
            used = self._frame.feed(data)
            self._parser.feed_data(data[:used])
        except (answers.BadAnswer, httptools.HttpParserError) as error:
            raise BadBody(str(error)) from error
        if self.complete is not self._frame.done:
            raise BadBody("it is not clear where the body ends")
        return data[used:]
