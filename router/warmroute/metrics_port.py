"""A port of its own for /metrics, for scrapers that are not let near the port of the clients.

The page is the control plane's; everything else is answered 404 here, so that nothing that changes or shows
more of the router can be reached by this port. Plain HTTP, no key: no secret is on the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from warmroute.control.api import control_app

if TYPE_CHECKING:
    from warmroute.gateway import Gateway

# A handful of scrapers, and room for their retries; further connections are closed at once.
_CONNECTIONS_MAX: Final = 64

_BODY: Final = json.dumps(
    {
        "error": {
            "message": "this port serves /metrics alone; ask for the rest on the router's port",
            "type": "invalid_request_error",
            "param": None,
            "code": "not_found",
        }
    }
).encode()


async def open_metrics_port(gateway: Gateway, stack: contextlib.ExitStack) -> str | None:
    """Writes. Listens as `metrics_port` says until the stack ends; the page's URL, None where there is no
    such port. Raises OSError where it cannot be had."""
    settings = gateway.settings
    if settings.metrics_port is None:
        return None
    config = Config(
        _only_metrics(control_app(gateway)),
        http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
    )  # fmt: skip
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Scraper(config, state, gateway.settings.head_timeout_s),
        settings.metrics_host,
        settings.metrics_port,
        reuse_port=settings.reuse_port,
    )
    stack.callback(_close, server, state)
    host, port = server.sockets[0].getsockname()[:2]
    return f"http://[{host}]:{port}/metrics" if ":" in host else f"http://{host}:{port}/metrics"


def _close(server: asyncio.Server, state: ServerState) -> None:
    server.close()
    for connection in list(state.connections):
        connection.transport.abort()


class _Scraper(HttpToolsProtocol):
    """One connection. State: uvicorn's, and by when the head that is being read has to be whole."""

    def __init__(self, config: Config, state: ServerState, head_timeout_s: float) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self._head_timeout_s = head_timeout_s
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A scraper has connected."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > _CONNECTIONS_MAX:
            self.transport.abort()
        else:
            self._expect_head()

    def data_received(self, data: bytes) -> None:
        """A part of a request, or the first one of the next."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None until the first request
        if self._deadline is None and (cycle is None or cycle.response_complete):
            self._expect_head()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Called by llhttp."""
        self._rest()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has left."""
        self._rest()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(self._head_timeout_s, self.transport.abort)

    def _rest(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _only_metrics(app: Any) -> Any:
    """The ASGI application, for one path."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/metrics":
            await app(scope, receive, send)
            return
        fields = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(_BODY)).encode()),
        ]
        await send({"type": "http.response.start", "status": 404, "headers": fields})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else _BODY})

    return serve
