"""The body of a client's chunked request. llhttp takes the chunks apart; the router forwards the body
with a length, because a prompt must be whole before it can be routed."""

from __future__ import annotations

import httptools

# llhttp needs a head before a body; this one says no more than that chunks follow.
_HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


class BadBody(Exception):
    """The client's chunks are malformed."""


class ChunkedBody:
    """Takes pieces until the last chunk; `pieces` and `size` are the body so far."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.size = 0
        self.complete = False
        self._last = b""
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_HEAD)

    def on_body(self, body: bytes) -> None:
        self.pieces.append(body)
        self.size += len(body)

    def on_message_complete(self) -> None:
        self.complete = True

    def feed(self, data: bytes) -> bytes:
        """Takes bytes; gives back those behind the end of the body. Raises BadBody.

        llhttp does not say where in a piece a message ended, but a chunked body ends with an empty line:
        pieces are cut behind each one, so the end is always at a cut.
        """
        while data and not self.complete:
            seen = self._last + data
            end = seen.find(b"\r\n\r\n")
            cut = len(data) if end < 0 else end + 4 - len(self._last)
            try:
                self._parser.feed_data(data[:cut])
            except httptools.HttpParserError as error:
                raise BadBody(str(error)) from error
            self._last = seen[: len(self._last) + cut][-3:]
            data = data[cut:]
        return data
