"""Which key opens what.

    change (workers, policy, caches, reload)   an admin key
    state (the same read, dry run, debug)      an admin key; where none is set, a client's key
    models                                     a client's key, or an admin key
    health, metrics, docs                      open: probes and scrapers carry no keys, and see no secret

Where no key at all is set everything is open, but a change is not taken from a page of another site: a
browser says where a request comes from, and whoever surfs beside a router has not asked for it (by
`Sec-Fetch-Site`, which it sends to https:// and to its own machine only, else by `Origin`). Where clients
need keys and no admin key is set, nothing opens what changes the router: a client is no operator.

Keys are those of the settings in effect. Comparing takes the same time wherever the first difference is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from hmac import compare_digest
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from warmroute.audit import fingerprint
from warmroute.control.errors import Refused
from warmroute.plan import presented
from warmroute.wire.replies import RouterError

if TYPE_CHECKING:
    from warmroute.config import Settings
    from warmroute.gateway import Gateway

log = logging.getLogger("warmroute")

ANYONE = "anyone"

# Only for the documentation's "Authorize" button: the guards read the header themselves.
_BEARER = HTTPBearer(auto_error=False, description="`Authorization: Bearer KEY`, or `x-api-key: KEY`")

_Documented = Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]

Guard = Callable[..., object]
"""A dependency of endpoints. Raises Refused."""


def client_guard(gateway: Gateway) -> Guard:
    """Of what clients ask."""

    async def guard(request: Request, _documented: _Documented = None) -> None:
        settings = gateway.settings
        if settings.api_key:
            _let_in(request, (*settings.api_key, *settings.admin_api_key), "API key")

    return guard


def view_guard(gateway: Gateway) -> Guard:
    """Of what shows the router's state."""

    async def guard(request: Request, _documented: _Documented = None) -> None:
        settings = gateway.settings
        if settings.admin_api_key:
            _let_in(request, settings.admin_api_key, "admin API key")
        elif settings.api_key:
            _let_in(request, settings.api_key, "API key")

    return guard


def change_guard(gateway: Gateway) -> Guard:
    """Of what changes it. Notes whose key it was."""

    async def guard(request: Request, _documented: _Documented = None) -> None:
        settings = gateway.settings
        if settings.admin_api_key or settings.api_key:
            _let_in(request, settings.admin_api_key, "admin API key", clients=settings.api_key)
        elif _is_of_another_site(request):
            text = "a page of another site may not change this router; set admin_api_key"
            raise Refused(RouterError(403, "cross_site", text))

    return guard


def _is_of_another_site(request: Request) -> bool:
    """Whether a browser sent it for a page that did not come from here."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None or origin is None:
        return site not in (None, "same-origin", "none")
    return origin.partition("://")[2].lower() != request.headers.get("host", "").lower()


def warn_if_open(settings: Settings) -> None:
    """Says so where anybody in the network may change the router."""
    if not settings.api_key and not settings.admin_api_key and not _is_loopback(settings.host):
        log.warning(
            "anybody who reaches the port may change workers and policy: set admin_api_key",
            extra={"host": settings.host},
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _let_in(
    request: Request, keys: Sequence[SecretStr], kind: str, clients: Sequence[SecretStr] = ()
) -> None:
    """Notes who it is. 401 for a request without any key that is known, 403 for a client's where an
    operator's is needed."""
    given = dict(request.headers.raw)
    tokens = presented(given.get(b"authorization"), given.get(b"x-api-key"))
    key = _known(keys, tokens)
    if key is not None:
        request.state.by = fingerprint(key)
        return
    key = _known(clients, tokens)
    if key is None:
        raise Refused(
            RouterError(401, "invalid_api_key", f"a valid {kind} is needed: Authorization: Bearer KEY")
        )
    request.state.by = fingerprint(key)
    more = "" if keys else "; none is set, so nothing opens this: set admin_api_key"
    raise Refused(RouterError(403, "admin_key_needed", f"a client's key is no {kind}{more}"))


def _known(keys: Sequence[SecretStr], tokens: Sequence[bytes]) -> bytes | None:
    """The key that was presented."""
    found = None
    for key in keys:
        encoded = key.get_secret_value().encode()
        for token in tokens:
            if compare_digest(encoded, token):
                found = encoded
    return found
