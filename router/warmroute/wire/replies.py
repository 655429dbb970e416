"""What the router itself answers: an error, in the shape that the client's API knows.

OpenAI:     {"error": {"message", "type", "code", "param"}}
Anthropic:  {"type": "error", "error": {"type", "message"}}
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec


class RouterError(msgspec.Struct, frozen=True):
    """An answer that no worker gave. `code` is one word for programs, `message` a sentence for people."""

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after_s: int | None = None
    fields: tuple[tuple[str, str], ...] = ()
    """More lines of the head."""


def too_large(limit: int) -> RouterError:
    """The body is longer than `max_body_bytes`."""
    return RouterError(413, "body_too_large", f"the request's body is larger than {limit} bytes")


_OPENAI_TYPES = {429: "rate_limit_error"}

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def error_body(error: RouterError, *, anthropic: bool = False) -> bytes:
    """The JSON of an error."""
    if anthropic:
        kind = _ANTHROPIC_TYPES.get(
            error.status, "invalid_request_error" if error.status < 500 else "api_error"
        )
        return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": error.message}})
    kind = _OPENAI_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return msgspec.json.encode(
        {"error": {"message": error.message, "type": kind, "code": error.code, "param": error.param}}
    )


def error_reply(
    error: RouterError, request_id: bytes | None, *, keep_alive: bool, anthropic: bool = False
) -> bytes:
    """A whole HTTP answer."""
    body = error_body(error, anthropic=anthropic)
    lines = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n".encode(),
        b"content-type: application/json\r\n",
        b"content-length: %d\r\n" % len(body),
        b"x-router-error: %s\r\n" % error.code.encode(),
    ]
    if request_id is not None:
        lines.append(b"x-request-id: %s\r\n" % request_id)
    if error.status == 401:
        lines.append(b"www-authenticate: Bearer\r\n")
    if error.retry_after_s is not None:
        lines.append(b"retry-after: %d\r\n" % error.retry_after_s)
    lines += [f"{name}: {value}\r\n".encode() for name, value in error.fields]
    if not keep_alive:
        lines.append(b"connection: close\r\n")
    lines += [b"\r\n", body]
    return b"".join(lines)
