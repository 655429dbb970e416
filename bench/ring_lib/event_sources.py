"""Where engines publish what their caches hold, for a contestant that has to be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from dataplane_lib.routers import CannotRun


@dataclass(frozen=True, slots=True)
class Source:
    """One engine's addresses: of its events, and of those that it keeps."""

    endpoint: str
    replay: str


def event_sources(engines: Sequence[str]) -> list[Source]:
    """Reads. As each engine says itself; a wildcard is its own host. Raises CannotRun."""
    with httpx.Client(trust_env=False, timeout=10) as http:
        return [_source(http, url) for url in engines]


def _source(http: httpx.Client, url: str) -> Source:
    host = urlsplit(url).hostname or ""
    try:
        told = http.get(f"{url}/kv_event_sources").raise_for_status().json()["0"]
        return Source(*(told[name].replace("*", host) for name in ("endpoint", "replay_endpoint")))
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CannotRun(f"{url} does not say where it publishes: {error!r}") from None
