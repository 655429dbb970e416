"""What the router makes of a request's head: which endpoint, whose key, what is forwarded.

Made once per kind of head (`wire.heads.HeadCache`), so it may cost more than a request may.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final, final

from warmroute.dialects import Parser, parser_for
from warmroute.dialects.request import SESSION_CHARS_MAX
from warmroute.wire.cross_origin import CrossOrigin
from warmroute.wire.heads import Head
from warmroute.wire.paths import is_ambiguous
from warmroute.wire.replies import RouterError

# Request ids of clients are echoed into headers and logs.
_REQUEST_ID_BYTES_MAX: Final = 128


_AMBIGUOUS: Final = RouterError(
    400, "ambiguous_path", "write the path without `//`, `.`, `..`, backslashes, or any of these encoded"
)

_NO_TUNNEL: Final = RouterError(501, "not_a_proxy", "the router opens no tunnels: ask for a path")


@final
class Plan:
    """How a request with a certain head is handled. Not to be written."""

    __slots__ = (
        "anthropic", "chunked", "cross_origin", "expects_continue", "forwarded", "head", "http_10",
        "keep_alive", "parse", "plain", "refusal", "request_id", "session",
    )  # fmt: skip

    def __init__(
        self,
        head: Head,
        parse: Parser | None,
        request_id: bytes | None,
        session: str | None,
        refusal: RouterError | None,
        cross_origin: bytes | None = None,
    ) -> None:
        self.head = head
        self.parse = parse
        """The dialect of an inference endpoint; None: the control plane answers."""
        self.forwarded = head.forwarded()
        """The head for the worker, but for host, length and request id."""
        self.request_id = request_id
        self.session = session
        self.refusal = refusal
        self.cross_origin = cross_origin
        """Lines of every answer that say which pages may read it; None: nothing is said of that."""
        self.http_10 = head.http_10
        self.keep_alive = head.keep_alive
        self.plain = head.keep_alive and not head.http_10
        """HTTP/1.1, and the connection stays: nothing to change in an answer."""
        self.chunked = head.chunked
        self.expects_continue = head.expects_continue
        self.anthropic = head.path == "/v1/messages"


class Planner:
    """State: none but the keys and header names that it was made with."""

    def __init__(
        self,
        api_keys: Sequence[str],
        session_headers: Sequence[str],
        cross_origin: CrossOrigin | None = None,
    ) -> None:
        self._keys = [key.encode() for key in api_keys]
        self._cross_origin = cross_origin
        self._session_headers = [name.lower().encode() for name in session_headers]

    def plan(self, head: Head) -> Plan:
        """Reads."""
        parse = parser_for(head.path) if head.method == "POST" else None
        refusal = None
        if parse is not None and self._keys and not self.authorized(head):
            refusal = RouterError(
                401, "invalid_api_key", "a valid API key is needed: Authorization: Bearer KEY"
            )
        elif parse is not None and is_ambiguous(head.path):
            refusal = _AMBIGUOUS
        elif head.method == "CONNECT":
            refusal = _NO_TUNNEL
        request_id = head.get(b"x-request-id")
        if request_id and len(request_id) > _REQUEST_ID_BYTES_MAX:
            request_id = None
        asked = self._cross_origin
        lines = None if asked is None else asked.lines(head.get(b"origin"))
        return Plan(head, parse, request_id or None, self._session(head), refusal, lines)

    def authorized(self, head: Head) -> bool:
        """Reads. Whether the head carries one of the keys; the time does not tell which part was right."""
        return has_key(self._keys, head.get(b"authorization"), head.get(b"x-api-key"))

    def _session(self, head: Head) -> str | None:
        for name in self._session_headers:
            value = head.get(name)
            if value and len(value) <= SESSION_CHARS_MAX:
                return value.decode("latin-1")
        return None


def has_key(keys: Sequence[bytes], authorization: bytes | None, x_api_key: bytes | None) -> bool:
    """Whether one of the keys was presented, as a bearer token or as Anthropic's clients send it.

    Every key is compared, and each comparison takes the same time, wherever the first difference is.
    """
    presented = []
    if authorization is not None and authorization[:7].lower() == b"bearer ":
        presented.append(authorization[7:].strip())
    if x_api_key is not None:
        presented.append(x_api_key)
    matches = [hmac.compare_digest(key, token) for key in keys for token in presented]
    return any(matches)
