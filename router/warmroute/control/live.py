"""What the page at /ui and `router top` live on: the router's state once, or every second as it changes."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Depends, Response
from starlette.types import Receive, Scope, Send

from warmroute.control.auth import view_guard
from warmroute.control.errors import Refused
from warmroute.gateway import Gateway
from warmroute.live.feed import WATCHERS_MAX, Feed
from warmroute.wire.replies import RouterError

# Another page may have been closed by then.
_RETRY_AFTER_S = 10

_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class _Events(Response):
    """A stream of server-sent events. It ends when its reader leaves, or when the router stops."""

    media_type = "text/event-stream"

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        super().__init__(
            headers=_HEADERS | {"x-accel-buffering": "no"}
        )  # a proxy before us passes it on at once
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watcher = self._feed.join()
        leaving = asyncio.get_running_loop().create_task(_left(receive))
        leaving.add_done_callback(lambda _: watcher.end())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while (events := await watcher.take()) is not None:
                await send({"type": "http.response.body", "body": events, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            leaving.cancel()
            self._feed.leave(watcher)


async def _left(receive: Receive) -> None:
    """Waits until the reader has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def endpoints(gateway: Gateway) -> APIRouter:
    """/live, behind an admin key."""
    router = APIRouter(tags=["live"], dependencies=[Depends(view_guard(gateway))])

    @router.get("/live/snapshot", response_class=Response)
    async def snapshot() -> Response:
        """Workers, rates of the last minute, points of the last five, sessions, prefixes, shadows. Made anew
        at most once a second."""
        return Response(await gateway.live.snapshot(), media_type="application/json", headers=_HEADERS)

    @router.get(
        "/live/events",
        response_class=Response,
        responses={200: {"content": {_Events.media_type: {"schema": {"type": "string"}}}}},
    )
    async def events() -> Response:
        """Server-sent events. `snapshot`, once a second, is `/live/snapshot`. `decisions` is `{"skipped",
        "decisions"}`: requests as they are routed and, with the same `number`, as they end; at most 20 a
        second are followed, `skipped` counts those that were not or that this reader was too slow for."""
        if gateway.stopping:
            raise Refused(RouterError(503, "stopping", "the router is stopping"))
        if gateway.live.is_full:
            text = f"{WATCHERS_MAX} are watching already; close another page"
            raise Refused(RouterError(503, "too_many_watchers", text, retry_after_s=_RETRY_AFTER_S))
        return _Events(gateway.live)

    return router
