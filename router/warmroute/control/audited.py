"""Endpoints that change the router, and the trail that they leave.

A route of `changing_route` knows who asks (`actor_of`), answers with the request's id, and writes a line for
every refusal; what was done is told by the endpoint, which knows it. Whoever has no key can cause refusals
without end, so their lines are bounded.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from warmroute import audit
from warmroute.audit import Actor
from warmroute.control.auth import ANYONE
from warmroute.control.errors import Refused, invalid

# A person makes a few mistakes a minute. What a flood hides is how many there were, not that there was one.
_REFUSALS_PER_S: Final = 10

# As on the data plane: ids of clients are echoed.
_REQUEST_ID_CHARS_MAX: Final = 128

_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def actor_of(request: Request) -> Actor:
    """Reads. Who asks: whose key it is, from where, by which id."""
    client = None if request.client is None else request.client.host
    return Actor(getattr(request.state, "by", ANYONE), client, getattr(request.state, "request_id", None))


def changing_route() -> type[APIRoute]:
    """The class of routes of one router; `APIRouter(route_class=...)`."""
    lines = _Lines()

    class Changing(APIRoute):
        """A route that leaves a trail."""

        def get_route_handler(self) -> _Handler:
            """The endpoint, with what comes before and after."""
            handle = super().get_route_handler()
            action = self.name

            async def audited(request: Request) -> Response:
                request_id = request.state.request_id = _request_id(request)
                try:
                    answer = await handle(request)
                except Refused as error:
                    lines.refused(action, request, error.error.status, error.error.code)
                    raise
                except RequestValidationError as error:
                    refusal = invalid(error)
                    lines.refused(action, request, refusal.status, refusal.code)
                    raise
                except HTTPException as error:  # FastAPI's own: a body that is no text, or too deep
                    lines.refused(action, request, error.status_code, "bad_request")
                    raise
                except Exception:
                    lines.refused(action, request, 500, "internal_error")
                    raise
                answer.headers["x-request-id"] = request_id
                return answer

            return audited

    return Changing


class _Lines:
    """State: how many refusals were told in this second, and how many were not."""

    def __init__(self) -> None:
        self._second = 0
        self._told = 0

    def refused(self, action: str, request: Request, status: int, code: str) -> None:
        """Writes a line, unless there were enough of them."""
        second = int(monotonic())
        if second != self._second:
            self._second, self._told = second, 0
        self._told += 1
        if self._told <= _REFUSALS_PER_S:
            audit.tell(action, request.url.path, actor_of(request), outcome=code, status=status)


def _request_id(request: Request) -> str:
    given = request.headers.get("x-request-id", "")
    if given and len(given) <= _REQUEST_ID_CHARS_MAX:
        return given
    return f"adm-{secrets.token_hex(8)}"
