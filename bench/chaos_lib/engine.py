"""An engine as a process: answers at once or at a pace, by the nonce of the request.

    python bench/chaos_lib/engine.py PORT

`POST /__slow` with a number of seconds slows what comes after. It ends with its parent.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos_lib.answers import NONCE, events, plain

# Between two pieces of a stream: long enough that kills hit many of them half-way.
_PIECE_S: Final = 0.02

_PARENT_POLL_S: Final = 1.0

_OK: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_STREAM: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Engine:
    """State: how slow it is."""

    def __init__(self) -> None:
        self.slow_s = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(_length(head))
                await self._answer(head, body, writer)
        except (asyncio.IncompleteReadError, OSError, RuntimeError):
            pass  # the router left; uvloop says so with a RuntimeError
        finally:
            writer.close()

    async def _answer(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"POST /__slow"):
            self.slow_s = float(body)
            writer.write(_OK % (2, b"{}"))
            return
        found = NONCE.search(body)
        if found is None:
            writer.write(_OK % (2, b"{}"))  # a health check
            return
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        if b'"stream": true' not in body:
            answer = plain(found[0])
            writer.write(_OK % (len(answer), answer))
            return
        writer.write(_STREAM)
        for event in events(found[0]):
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await asyncio.sleep(_PIECE_S)
        writer.write(b"0\r\n\r\n")


def _length(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    return 0 if at < 0 else int(head[at + 15 : head.find(b"\r", at)])


async def _main(port: int) -> None:
    parent = os.getppid()
    server = await asyncio.start_server(Engine().serve, "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    while os.getppid() == parent:  # noqa: ASYNC110 -- nothing tells of a parent's end
        await asyncio.sleep(_PARENT_POLL_S)


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1])))
