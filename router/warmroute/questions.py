"""The router's own questions to workers, by httpx: health, what they are, who keeps a thing, what an operator
wants of all of them.

Rules kept. Workers are asked directly, whatever proxy the environment names, and no redirect is followed: a
worker does not send the router elsewhere. Certificates are checked as for requests. Whoever asks sets a
deadline. Questions are rare, so no connection is kept open behind them.
"""

from __future__ import annotations

import ssl
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final

import httpx

if TYPE_CHECKING:
    from collections.abc import Sequence

    from warmroute.pool import WorkerPool
    from warmroute.tls import Certificates

_HEADERS: Final = {"user-agent": "warmroute"}

UNASKED: Final = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, UnicodeError, OSError)
"""What comes of a worker that cannot be asked, or whose answer cannot be read: whoever asks catches all of
it. A UnicodeError is what a name raises that looks like an international one and is none."""


class Questioner:
    """State: a client, and one for workers with https://, made anew when the certificates are. A client that
    was replaced holds no connection."""

    def __init__(self, tls: Certificates) -> None:
        self._tls = tls
        self._plain: httpx.AsyncClient | None = None
        self._secure: tuple[ssl.SSLContext, httpx.AsyncClient] | None = None

    def stream(
        self,
        pool: WorkerPool,
        method: str,
        path: str,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        body: bytes | None = None,
    ) -> AbstractAsyncContextManager[httpx.Response]:
        """Writes. One question to the worker whose pool this is. Raises `UNASKED`."""
        extensions = {} if pool.tls is None or pool.tls_name is None else {"sni_hostname": pool.tls_name}
        return self._client(pool).stream(
            method, pool.url + path, headers=list(headers), content=body, extensions=extensions
        )

    def _client(self, pool: WorkerPool) -> httpx.AsyncClient:
        if pool.tls is None:
            if self._plain is None:
                self._plain = _client(verify=False)  # plain text only: there is nothing to verify
            return self._plain
        context = self._tls.context
        if self._secure is None or self._secure[0] is not context:
            self._secure = context, _client(verify=context)
        return self._secure[1]


def _client(*, verify: bool | ssl.SSLContext) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        headers=_HEADERS,
        timeout=None,  # noqa: S113 -- each question has a deadline
        trust_env=False,
        verify=verify,
        follow_redirects=False,
        limits=httpx.Limits(max_keepalive_connections=0),
    )
