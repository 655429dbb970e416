"""The fake engines: `python -m dataplane_lib.worker COUNT` listens on free ports and prints them.

An answer costs next to nothing, so that what is measured is the router. A request's `metadata.bench` asks
for what comes back: CHUNKS/GAP_MS is a stream of so many chunks with that pause, nothing a small JSON answer
that tells the body's length and checksum. Streams are written in ten groups, so that chunks do not all
come in the same moment.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import zlib
from typing import cast

import uvloop

_ASKED = re.compile(rb'"bench":"(?:(\d+)/(\d+))?"')
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TICK_S = 0.001
_GROUPS = 10

_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

# What routers ask engines for before they trust them.
_GETS = {
    "/v1/models": {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "bench"}]},
    "/get_model_info": {"model_path": "m", "is_generation": True, "served_model_name": "m"},
    "/model_info": {"model_path": "m", "is_generation": True, "served_model_name": "m"},
    "/get_server_info": {"model_path": "m", "served_model_name": "m", "dp_size": 1, "version": "0"},
    "/server_info": {"model_path": "m", "served_model_name": "m", "dp_size": 1, "version": "0"},
}


def event(number: int) -> bytes:
    """One chunk of a stream as it is framed: about the size of an engine's."""
    data = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": f" w{number:05d}"}, "finish_reason": None}],
    }
    text = b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(text), text)


_EVENTS = [event(number) for number in range(1000)]
_USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":9}}\n\ndata: [DONE]\n\n'
_END = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_USAGE), _USAGE)


class Streams:
    """State: the streams that are being written, in groups, and the tick."""

    def __init__(self) -> None:
        self._groups: list[set[Connection]] = [set() for _ in range(_GROUPS)]
        self._next = self._tick = 0

    def add(self, connection: Connection) -> None:
        self._groups[self._next % _GROUPS].add(connection)
        self._next += 1

    def discard(self, connection: Connection) -> None:
        for group in self._groups:
            group.discard(connection)

    async def run(self) -> None:
        """Every tick one group is due; a stream skips the ticks that its gap is longer."""
        while True:
            await asyncio.sleep(_TICK_S)
            self._tick += 1
            round_number = self._tick // _GROUPS
            for connection in list(self._groups[self._tick % _GROUPS]):
                if round_number % connection.every == 0 and not connection.write_chunk():
                    self.discard(connection)


class Connection(asyncio.Protocol):
    """State: one request being read, or one stream being written."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._received = bytearray()
        self._need = 0
        self._left = self._sent = 0
        self.every = 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._streams.discard(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._received and len(self._received) >= self._need and not self._transport.is_closing():
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end])
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < whole:
                self._need = whole
                return
            body = self._received[end + 4 : whole]
            del self._received[:whole]
            self._need = 0
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytearray) -> None:
        method, path, version = (*head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2), "", "")[:3]
        if version != "HTTP/1.1":  # some routers knock with HTTP/2 first
            self._transport.abort()
        elif method != "POST":
            found = _GETS.get(path)
            status = b"200 OK" if found or path in ("/health", "/health_generate") else b"404 Not Found"
            self._respond(json.dumps(found or {}).encode(), status)
        else:
            self._answer_chat(body)

    def _answer_chat(self, body: bytearray) -> None:
        asked = _ASKED.search(body, 0, 4096) or _ASKED.search(body)
        if asked is None or asked[1] is None:
            answer = {
                "id": "chatcmpl-bench",
                "object": "chat.completion",
                "model": "m",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
                "received": [len(body), zlib.crc32(body)],
            }
            self._respond(json.dumps(answer).encode(), b"200 OK")
            return
        self._left, self._sent = int(asked[1]), 0
        self.every = max(1, int(asked[2]) // _GROUPS)
        self._transport.write(_STREAM_HEAD)
        self._streams.add(self)

    def _respond(self, body: bytes, status: bytes) -> None:
        self._transport.write((_JSON_HEAD % len(body)).replace(b"200 OK", status) + body)

    def write_chunk(self) -> bool:
        """Writes. False after the last one."""
        if self._left:
            self._left -= 1
            self._transport.write(_EVENTS[self._sent % len(_EVENTS)])
            self._sent += 1
            return True
        self._transport.write(_END)
        return False


async def _main(count: int) -> None:
    loop = asyncio.get_running_loop()
    streams = Streams()
    servers = [
        await loop.create_server(lambda: Connection(streams), "127.0.0.1", 0, backlog=4096)
        for _ in range(count)
    ]
    print("ports", *(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await streams.run()


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1])))
