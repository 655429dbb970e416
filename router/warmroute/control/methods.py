"""What holds for every path of the control plane: HEAD where there is GET, OPTIONS everywhere, other origins.

HEAD runs the handler of GET and sends its head; of an answer without end, such as a stream of events, the
first piece ends it. OPTIONS tells the methods of a path, those of the data plane too, and answers what a
browser asks before it sends a request of another origin's page (preflight): no key comes with that, so none
is asked for.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from fastapi import FastAPI
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from warmroute.dialects import PARSERS, parser_for
from warmroute.wire.cross_origin import CrossOrigin, Fields

# How the bridge writes the target `*`, which is a question about the server as a whole.
EVERYTHING: Final = "/*"

_ALL: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")

# How long a browser remembers an answer to its question; Chrome takes 2 hours at most.
_MAX_AGE_S: Final = 600

# A list of names; longer than any client's, and echoed.
_NAMES: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, \t-]{1,2048}")


class Methods:
    """An ASGI application around the control plane's. State: none."""

    def __init__(self, app: FastAPI, origins: CrossOrigin | None) -> None:
        self._app: ASGIApp = app
        self._routes = app.router
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            if self._origins is not None:
                send = _with(send, self._origins.fields(headers.get(b"origin")))
            if scope["method"] == "OPTIONS":
                methods = self._methods_of(scope)
                if methods:
                    await self._tell(methods, headers, send)
                    return
            elif scope["method"] == "HEAD":
                only_head = _OnlyHead(receive, send)
                await self._app({**scope, "method": "GET"}, only_head.receive, only_head.send)
                return
        await self._app(scope, receive, send)

    def _methods_of(self, scope: Scope) -> list[str]:
        """Empty for a path that nobody knows."""
        path = scope["path"]
        found: set[str] = set(_ALL) if path == EVERYTHING else set()
        if path not in PARSERS:  # whose other methods are only there to be refused
            found.update(method for method in _ALL if self._has(scope, method))
        if parser_for(path) is not None:
            found.add("POST")
        if "GET" in found:
            found.add("HEAD")
        return [*sorted(found - {"OPTIONS"}), "OPTIONS"] if found else []

    def _has(self, scope: Scope, method: str) -> bool:
        asked = {**scope, "method": method}
        return any(route.matches(asked)[0] is Match.FULL for route in self._routes.routes)

    async def _tell(self, methods: list[str], headers: dict[bytes, bytes], send: Send) -> None:
        fields = [(b"allow", ", ".join(methods).encode())]
        asks = b"access-control-request-method" in headers
        if asks and self._origins is not None and self._origins.allows(headers.get(b"origin")):
            fields.append((b"access-control-allow-methods", fields[0][1]))
            wanted = headers.get(b"access-control-request-headers", b"")
            if _NAMES.fullmatch(wanted):  # each by its name: `*` does not stand for Authorization
                fields.append((b"access-control-allow-headers", wanted))
            fields.append((b"access-control-max-age", b"%d" % _MAX_AGE_S))
            fields.append((b"vary", b"Access-Control-Request-Headers"))
        await send({"type": "http.response.start", "status": 204, "headers": fields})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _with(send: Send, fields: Fields) -> Send:
    async def with_fields(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *fields]
        await send(message)

    return with_fields


class _OnlyHead:
    """What a handler of GET is given for HEAD. State: whether the answer is over."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._asked = False
        self._over = asyncio.Event()

    async def receive(self) -> Message:
        """Once the answer is over, the client counts as gone, so that a stream ends."""
        if self._asked:
            await self._over.wait()
            return {"type": "http.disconnect"}
        self._asked = True
        return await self._receive()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send(message)
        elif not self._over.is_set():
            self._over.set()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
