"""The body of a client's chunked request. llhttp takes the chunks apart; the router forwards the body
with a length, because a prompt must be whole before it can be routed.

llhttp does not say where in a piece a body ended. The hopping reader that frames answers does, so that
it is asked first; a body on whose end the two do not agree is refused.
"""

from __future__ import annotations

import httptools

from warmroute.wire import answers

# llhttp needs a head before a body; this one says no more than that chunks follow.
_HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


class BadBody(Exception):
    """The client's chunks are malformed."""


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
    def size(self) -> int:
        """Reads. Bytes of the body so far."""
        return len(self.data)

    def on_body(self, body: bytes) -> None:
        """Called by llhttp."""
        self.data += body

    def on_message_complete(self) -> None:
        """Called by llhttp."""
        self.complete = True

    def feed(self, data: bytes) -> bytes:
        """Takes bytes; gives back those behind the end of the body. Raises BadBody."""
        try:
            used = self._frame.feed(data)
            self._parser.feed_data(data[:used])
        except (answers.BadAnswer, httptools.HttpParserError) as error:
            raise BadBody(str(error)) from error
        if self.complete is not self._frame.done:
            raise BadBody("it is not clear where the body ends")
        return data[used:]
