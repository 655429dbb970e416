"""Which key opens what.

    state (workers, dry run, debug)   an admin key; where none is set, a client's key
    models                            a client's key, or an admin key
    health, metrics, docs             open: probes and scrapers carry no keys, and no secret is in them

Where no key of a kind is set, what it guards is open. Comparing takes the same time wherever the first
difference is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from warmroute.config import Settings
from warmroute.control.errors import Refused
from warmroute.plan import has_key
from warmroute.wire.replies import RouterError

# Only for the documentation's "Authorize" button: the guard reads the header itself.
_BEARER = HTTPBearer(auto_error=False, description="`Authorization: Bearer KEY`, or `x-api-key: KEY`")


class Guard:
    """State: the keys, and the word for them in the refusal."""

    def __init__(self, keys: Sequence[SecretStr], kind: str) -> None:
        self._keys = [key.get_secret_value().encode() for key in keys]
        self._kind = kind

    async def __call__(
        self,
        request: Request,
        _documented: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)] = None,
    ) -> None:
        """Reads. Raises Refused for a request without a fitting key."""
        given = dict(request.headers.raw)
        if self._keys and not has_key(self._keys, given.get(b"authorization"), given.get(b"x-api-key")):
            text = f"a valid {self._kind} is needed: Authorization: Bearer KEY"
            raise Refused(RouterError(401, "invalid_api_key", text))


def admin_guard(settings: Settings) -> Guard:
    """Of what changes or shows the router's state."""
    if settings.admin_api_key:
        return Guard(settings.admin_api_key, "admin API key")
    return Guard(settings.api_key, "API key")


def client_guard(settings: Settings) -> Guard:
    """Of what clients ask."""
    keys = (*settings.api_key, *settings.admin_api_key) if settings.api_key else ()
    return Guard(keys, "API key")
