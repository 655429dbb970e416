"""Every refusal of the control plane in the shape that OpenAI's clients know, FastAPI's own included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from warmroute.dialects import PARSERS
from warmroute.wire.replies import RouterError, error_body


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    """A sentence for people."""
    type: str
    code: str
    """One word for programs."""
    param: str | None
    """The part of the request that is wrong."""


class ErrorBody(BaseModel):
    """Every refusal."""

    error: ErrorDetail


_MEANINGS = {
    400: "The request cannot be read",
    401: "No valid key",
    403: "A valid key, or a place, that may not do this",
    404: "There is no such thing",
    409: "It is there already, or changed meanwhile",
    413: "Larger than it may be",
    422: "A value that is not acceptable",
    502: "No worker did what it was asked",
    503: "No worker can be asked now",
}


# An error is JSON, also where an endpoint answers text.
_JSON: Final = "application/json"

# What any endpoint may answer beside what it is there for; for the description of the API.
REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": ErrorBody, "description": "Refused: the error says why", "content": {_JSON: {}}},
    503: {"description": "Not now: no worker can take a request, too many watch, or the router stops"},
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the description of endpoints: the statuses with which they refuse."""
    return {
        status: {"model": ErrorBody, "description": _MEANINGS[status], "content": {_JSON: {}}}
        for status in statuses
    }


def refusals_in_json(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The same for endpoints whose own answer is not JSON."""
    schema = {"$ref": "#/components/schemas/ErrorBody"}
    return {
        status: {"content": {"application/json": {"schema": schema}}, "description": _MEANINGS[status]}
        for status in statuses
    }


class Refused(Exception):
    """The request is answered with an error."""

    def __init__(self, error: RouterError, headers: Mapping[str, str] | None = None) -> None:
        self.error = error
        self.headers = dict(headers or {})
        super().__init__(error.message)


def install(app: FastAPI) -> None:
    """Writes. Makes the application answer errors in one shape."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _broken)


def reply(error: RouterError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a refused request."""
    more = dict(headers or {})
    more["x-router-error"] = error.code
    if error.retry_after_s is not None:
        more["retry-after"] = str(error.retry_after_s)
    if error.status == 401:
        more["www-authenticate"] = "Bearer"
    return Response(error_body(error), error.status, more, "application/json")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return reply(error.error, {**error.headers, **_request_id(request)})


async def _http(request: Request, error: Exception) -> Response:
    """What the router of FastAPI refuses: an unknown path, a known one with the wrong method."""
    assert isinstance(error, HTTPException)
    method, path = request.method, request.url.path
    if error.status_code == 404:
        near = f"/v1{path}"
        hint = f"; did you mean {near}?" if near in PARSERS else ""
        return reply(RouterError(404, "unknown_url", f"unknown URL: {method} {path}{hint}"))
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")  # of the first route at this path; there may be more
        known = _methods_at(request)
        if set(allowed.split(", ")) <= set(known):  # else whoever refused knows better
            allowed = ", ".join(known)
        text = f"{path} does not know {method}" + (f", it knows {allowed}" if allowed else "")
        return reply(RouterError(405, "method_not_allowed", text), {"Allow": allowed} if allowed else None)
    more = {**(error.headers or {}), **_request_id(request)}
    return reply(RouterError(error.status_code, "bad_request", str(error.detail)), more)


def _methods_at(request: Request) -> list[str]:
    """Which some route of this path knows."""
    return [
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


def _request_id(request: Request) -> dict[str, str]:
    """Of those that are kept in the audit log."""
    known = getattr(request.state, "request_id", None)
    return {} if known is None else {"x-request-id": known}


def invalid(error: RequestValidationError) -> RouterError:
    """A body or a parameter that is not what the endpoint takes: the first thing that is wrong, by name."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        text = f"the request body is not valid JSON: {first['ctx']['error']}"
        return RouterError(400, "invalid_json", text)
    where = _told(".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0]))
    text = _told(str(first["msg"]).removeprefix("Value error, "))
    return RouterError(422, "invalid_value", f"`{where}`: {text[:1].lower()}{text[1:]}", param=where)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return reply(invalid(error), _request_id(request))


def _told(text: str) -> str:
    """As UTF-8 can say it: JSON may name half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode()


async def _broken(request: Request, _error: Exception) -> Response:
    """A fault of the router's own. The traceback is logged by the server."""
    return reply(
        RouterError(500, "internal_error", f"{request.method} {request.url.path} failed inside the router")
    )
