"""What the router makes of a request's head: which endpoint, whose key, what is forwarded.

Made once per kind of head (`wire.heads.HeadCache`), so it may cost more than a request may.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final, final

from warmroute import inject
from warmroute.callers import Caller, Callers
from warmroute.dialects import PARSERS, BadRequest, Parser, parser_for
from warmroute.dialects.media import Media, media_of
from warmroute.dialects.query import model_in
from warmroute.dialects.request import SESSION_CHARS_MAX
from warmroute.load.orca import REQUEST_FIELD, REQUEST_NAME
from warmroute.owners import COLLECTIONS, Kept, kept_of
from warmroute.wire.cross_origin import CrossOrigin
from warmroute.wire.heads import Head
from warmroute.wire.replies import RouterError
from warmroute.wire.targets import is_ambiguous

# Request ids of clients are echoed into headers and logs.
_REQUEST_ID_BYTES_MAX: Final = 128

# Workers keep these answers (`store`, which is on unless the body says otherwise, and `background`).
_STORING: Final = frozenset(("/v1/responses",))

# Browsers cannot set header fields of a WebSocket; OpenAI's clients for them name the key as a subprotocol.
_KEY_SUBPROTOCOL: Final = b"openai-insecure-api-key."

_NO_KEY: Final = RouterError(401, "invalid_api_key", "a valid API key is needed: Authorization: Bearer KEY")


_AMBIGUOUS: Final = RouterError(
    400, "ambiguous_path", "write the path without `//`, `.`, `..`, backslashes, or any of these encoded"
)


@final
class Plan:
    """How a request with a certain head is handled. Not to be written."""

    __slots__ = (
        "anthropic", "caller", "chunked", "cross_origin", "expects_continue", "forwarded", "head",
        "http_10", "injects", "keep_alive", "kept", "media", "parse", "plain", "proves", "reads_load",
        "refusal", "repeatable", "request_id", "session", "tunnel",
    )  # fmt: skip

    def __init__(
        self,
        head: Head,
        parse: Parser | None,
        media: Media | None,
        tunnel: str | None,
        request_id: bytes | None,
        session: str | None,
        refusal: RouterError | None,
        kept: Kept | None,
        caller: Caller,
        cross_origin: bytes | None,
        *,
        injects: bool,
        reads_load: bool,
    ) -> None:
        self.head = head
        self.parse = parse
        """The dialect of an inference endpoint; None: the control plane answers, or it is a tunnel."""
        self.media = media
        """A body that is passed on while it comes; None: it is held until it is whole."""
        self.tunnel = tunnel
        """The model of a WebSocket, or empty; None: it is none."""
        self.forwarded = head.forwarded() + (REQUEST_FIELD if reads_load else b"")
        """The head for the worker, but for host, length and request id."""
        self.reads_load = reads_load
        """The engine is asked to tell its load in the answer's head, by the router and not by the client."""
        self.request_id = request_id
        self.caller = caller
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
        self.repeatable = head.path not in _STORING
        """A worker that computes the answer a second time leaves nothing behind."""
        self.anthropic = head.path.startswith("/v1/messages")
        self.kept = kept
        """None: the request has nothing to do with what a single worker keeps."""
        self.proves = kept is None or not kept.thing
        """An answer shows that a worker can infer: it is no mere look into its memory."""
        self.injects = injects
        """Streams are asked for token counts in the client's stead."""


class Planner:
    """State: none but the keys, header names and wishes that it was made with."""

    def __init__(
        self,
        api_keys: Sequence[str],
        session_headers: Sequence[str],
        request_id_headers: Sequence[str],
        callers: Callers,
        cross_origin: CrossOrigin | None,
        *,
        inject_usage: bool = False,
        load_orca: bool = False,
    ) -> None:
        self._cross_origin = cross_origin
        self._callers = callers
        self._keys = [key.encode() for key in api_keys]
        self._request_id_headers = [name.lower().encode() for name in request_id_headers]
        self._session_headers = [name.lower().encode() for name in session_headers]
        self._inject_usage = inject_usage
        self._load_orca = load_orca

    def plan(self, head: Head) -> Plan:
        """Reads."""
        kept = None
        if head.path not in PARSERS or head.path in COLLECTIONS:  # no stored response is called "render"
            kept = kept_of(head.method, head.path)
        parse = parser_for(head.path) if head.method == "POST" or kept is not None else None
        media, tunnel, refusal = None, None, None
        try:
            if parse is not None and head.method == "POST":
                media = media_of(head.path, head.get(b"content-type") or b"", head.target)
                parse = parse if media is None else media.parse
            elif parse is None and _is_tunnel(head):
                tunnel = model_in(head.target)
        except BadRequest as error:
            refusal = RouterError(400, "bad_request", str(error))
        routed = parse is not None or tunnel is not None or refusal is not None
        if routed and self._keys and not self.authorized(head):
            refusal = _NO_KEY
        elif routed and is_ambiguous(head.path):
            refusal = _AMBIGUOUS
        injects = self._inject_usage and parse is not None and head.path in inject.PATHS
        reads_load = self._load_orca and parse is not None and head.get(REQUEST_NAME) is None
        return Plan(
            head,
            parse,
            media,
            tunnel,
            self._request_id(head),
            self._session(head),
            refusal,
            kept,
            self._callers.of(head),
            None if self._cross_origin is None else self._cross_origin.lines(head.get(b"origin")),
            injects=injects,
            reads_load=reads_load,
        )

    def authorized(self, head: Head) -> bool:
        """Reads. Whether the head carries one of the keys; the time does not tell which part was right."""
        offered = head.get(b"sec-websocket-protocol")
        return has_key(self._keys, head.get(b"authorization"), head.get(b"x-api-key")) or (
            offered is not None and has_key(self._keys, None, _key_in(offered))
        )

    def _request_id(self, head: Head) -> bytes | None:
        for name in self._request_id_headers:
            value = head.get(name)
            if value and len(value) <= _REQUEST_ID_BYTES_MAX:
                return value
        return None

    def _session(self, head: Head) -> str | None:
        for name in self._session_headers:
            value = head.get(name)
            if value and len(value) <= SESSION_CHARS_MAX:
                return value.decode("latin-1")
        return None


def _is_tunnel(head: Head) -> bool:
    """A WebSocket's handshake under /v1/; it has no body."""
    return (
        head.upgrade
        and not head.http_10
        and head.method == "GET"
        and head.path.startswith("/v1/")
        and (head.get(b"upgrade") or b"").strip().lower() == b"websocket"
        and not head.chunked
        and (head.get(b"content-length") or b"0") == b"0"
    )


def _key_in(offered: bytes) -> bytes | None:
    """The key among the subprotocols that a WebSocket's client offers."""
    for name in offered.split(b","):
        if name.strip().startswith(_KEY_SUBPROTOCOL):
            return name.strip()[len(_KEY_SUBPROTOCOL) :]
    return None


def has_key(keys: Sequence[bytes], authorization: bytes | None, x_api_key: bytes | None) -> bool:
    """Whether one of the keys was presented, as a bearer token or as Anthropic's clients send it.

    Every key is compared, and each comparison takes the same time, wherever the first difference is.
    """
    tokens = presented(authorization, x_api_key)
    matches = [hmac.compare_digest(key, token) for key in keys for token in tokens]
    return any(matches)


def presented(authorization: bytes | None, x_api_key: bytes | None) -> list[bytes]:
    """The keys that a request shows."""
    tokens = []
    if authorization is not None and authorization[:7].lower() == b"bearer ":
        tokens.append(authorization[7:].strip())
    if x_api_key is not None:
        tokens.append(x_api_key)
    return tokens
