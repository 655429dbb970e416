"""From a client's connection to FastAPI: uvicorn's HTTP protocol, fed one framed request at a time.

The client's connection keeps the transport and the framing, so that one keep-alive connection may ask
for /v1/models and then for a completion. uvicorn's protocol writes its answer straight to the transport
and says when it is done. This leans on uvicorn's internals (`cycle`, `on_response_complete`), so its
version is pinned and the mixture is tested.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from warmroute.control.methods import EVERYTHING

if TYPE_CHECKING:
    from warmroute.dialects import Buffer
    from warmroute.plan import Plan


class ControlProtocol(HttpToolsProtocol):
    """uvicorn's protocol, without a socket of its own."""

    def __init__(self, config: Config, state: ServerState, done: Callable[[], None]) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self._done = done
        self.busy = False
        """A request is being answered."""

    def serve(self, plan: Plan, body: Buffer) -> None:
        """Writes. Hands over one whole request."""
        self.busy = True
        head = plan.head
        fields = b"".join(
            b"%b: %b\r\n" % (name, value)
            for name, value in head.fields
            if name not in (b"content-length", b"transfer-encoding", b"expect", b"upgrade")
        )
        version = b"1.0" if head.http_10 else b"1.1"
        target = EVERYTHING.encode() if head.target == b"*" else head.target  # uvicorn wants a path
        line = b"%b %b HTTP/%b\r\n" % (head.method.encode(), target, version)
        self.data_received(b"%b%bcontent-length: %d\r\n\r\n%b" % (line, fields, len(body), bytes(body)))

    def on_response_complete(self) -> None:
        """Called by uvicorn when its answer is written."""
        super().on_response_complete()
        self._unset_keepalive_if_required()  # the client's connection has its own
        self.busy = False
        if not self.transport.is_closing():
            self._done()

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.flow.resume_writing()


class ControlPlane:
    """State: uvicorn's configuration around the application, and its set of connections."""

    def __init__(self, app: Any) -> None:
        self._config = Config(
            app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False
        )
        self._config.load()
        self._state = ServerState()

    def protocol(self, transport: asyncio.Transport, done: Callable[[], None]) -> ControlProtocol:
        """A protocol for one client connection; `done` is called after every answer."""
        protocol = ControlProtocol(self._config, self._state, done)
        protocol.connection_made(transport)
        return protocol
