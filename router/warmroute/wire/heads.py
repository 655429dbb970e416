"""The head of a client's request.

llhttp reads it and refuses what is ambiguous (two lengths, a length beside chunks, bare line feeds,
folded lines). Clients of an API send the same head again and again but for the length, so a head that
was read once is remembered by its bytes with the length cut out: 0.6 µs instead of 7 µs. llhttp's
verdict does not depend on the digits of a length, so a remembered verdict is as strict as a new one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import httptools

from warmroute.wire.targets import fault_of, is_host

# nginx allows four buffers of 8 KB, uvicorn and Node 64 KB: agents send long tokens and baggage.
HEAD_BYTES_MAX: Final = 64 * 1024

# One per kind of client is enough. When full, all are forgotten.
_REMEMBERED_MAX: Final = 1024

# Longer heads are read anew each time: what strangers can make the router remember has a bound.
_REMEMBERED_BYTES_MAX: Final = 8192

_LENGTH: Final = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *([0-9]{1,15})\r\n")

# The fields of W3C Trace Context. A value is of what llhttp lets pass: a line with anything else stays in the
# head and is refused with it.
_TRACE: Final = re.compile(rb"\r\n(?i:trace(?:parent|state)):[\t\x20-\x7e\x80-\xff]*(?=\r\n)")

# Describe one connection, not the message (RFC 9110 section 7.6.1), or are written anew for the worker.
_NOT_FORWARDED: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization",
     b"te", b"trailer", b"transfer-encoding", b"upgrade", b"host", b"content-length", b"expect",
     b"x-request-id")
)  # fmt: skip


class BadHead(Exception):
    """The client's bytes are not an HTTP/1 request head; the message says what llhttp said."""


class Head:
    """What one request head says. `length` is None for a chunked body."""

    __slots__ = (
        "chunked", "expects_continue", "fields", "http_10", "keep_alive", "method", "path", "target",
        "upgrade",
    )  # fmt: skip

    def __init__(self, method: str, target: bytes, fields: list[tuple[bytes, bytes]]) -> None:
        self.method = method
        self.target = target = _origin_form(target)
        self.path = target.partition(b"?")[0].decode("latin-1")
        self.fields = fields
        self.http_10 = False
        self.keep_alive = True
        self.upgrade = False
        self.chunked = any(name == b"transfer-encoding" for name, _ in fields)
        self.expects_continue = any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in fields
        )

    def get(self, name: bytes) -> bytes | None:
        """The first value of a field; names are lower-case."""
        for known, value in self.fields:
            if known == name:
                return value
        return None

    def forwarded(self) -> bytes:
        """Request line and end-to-end fields, for a worker; the caller adds host, length and request id."""
        dropped = set(_NOT_FORWARDED)
        for name, value in self.fields:
            if name == b"connection":
                dropped.update(token.strip().lower() for token in value.split(b","))
        lines = [self.method.encode() + b" " + self.target + b" HTTP/1.1\r\n"]
        lines += [name + b": " + value + b"\r\n" for name, value in self.fields if name not in dropped]
        return b"".join(lines)


def _origin_form(target: bytes) -> bytes:
    """The target without scheme and host, which clients with a proxy setting send (RFC 9112, 3.2.2)."""
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return target
    return b"/" + rest.partition(b"/")[2]


def take_trace_fields(data: bytes) -> tuple[bytes, bytes]:
    """A head without its trace fields, and these as lines with their ends. They differ in every request: with
    them in it no head would be one that was read before."""
    found = _TRACE.findall(data)
    if not found:
        return data, b""
    return _TRACE.sub(b"", data), b"".join(found)[2:] + b"\r\n"


class _Collector:
    """llhttp's callbacks for one head."""

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


def read_head(data: bytes) -> Head:
    """The head that `data` is, up to and including its empty line. Raises BadHead."""
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise BadHead(str(error)) from error
    if not collector.complete:
        raise BadHead("the head is not complete")
    head = Head(parser.get_method().decode(), collector.target, collector.fields)
    version = parser.get_http_version()
    head.http_10 = version == "1.0"
    if version not in ("1.0", "1.1"):
        raise BadHead(f"HTTP/{version}")
    hosts = [value for name, value in head.fields if name == b"host"]
    if len(hosts) > 1 or (not hosts and not head.http_10) or not all(map(is_host, hosts)):
        raise BadHead("an HTTP/1.1 request needs one Host field, with a name or an address")
    fault = fault_of(head.target)
    if fault is not None:
        raise BadHead(fault)
    if head.chunked and (
        head.http_10 or (head.get(b"transfer-encoding") or b"").strip().lower() != b"chunked"
    ):
        # Only chunks are taken apart; the worker would get a body whose coding nobody told it.
        raise BadHead("a transfer coding other than chunked")
    head.keep_alive = parser.should_keep_alive()
    head.upgrade = parser.should_upgrade()
    return head


Plan = TypeVar("Plan")


class HeadCache(Generic[Plan]):
    """Remembers what the router makes of a head: `plan(head)` is called once per kind of head."""

    def __init__(self, plan: Callable[[Head], Plan]) -> None:
        self._plan = plan
        self._known: dict[bytes, Plan] = {}

    def read(self, data: bytes) -> tuple[Plan, int]:
        """The plan for the head that `data` is, and its Content-Length (0 when it has none).

        Raises BadHead.
        """
        found = _LENGTH.search(data)
        if found is None:
            return self._plan(read_head(data)), _odd_length(data)
        start, end = found.span(1)
        key = data[:start] + data[end:]
        plan = self._known.get(key)
        if plan is None:
            plan = self._plan(read_head(data))
            if len(self._known) >= _REMEMBERED_MAX:
                self._known.clear()
            if len(key) <= _REMEMBERED_BYTES_MAX:
                self._known[key] = plan
        return plan, int(data[start:end])

    def forget(self) -> None:
        """Keys or settings that plans depend on have changed."""
        self._known.clear()


def _odd_length(data: bytes) -> int:
    """A length that is written in a way the pattern does not know; llhttp has accepted it."""
    for line in data.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value.strip())
    return 0
