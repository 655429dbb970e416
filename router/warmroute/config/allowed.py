"""Which workers may be added while the router runs.

Whoever may add a worker makes the router send requests there, and read what answers. A list of patterns says
where that may be: names with `*`, addresses, and networks. A name is held against names alone: what it
resolves to may be another address tomorrow. Without a list any place will do, but for the link-local
addresses, of which clouds use one to hand out credentials.

Rule kept. An address is an address however it is written (`0xa9fea9fe`, `[::ffff:169.254.169.254]`), since
the system's resolver reads all of that.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

from warmroute.config.kinds import Kind, split_text

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def refusal(url: str, patterns: Sequence[str]) -> str | None:
    """Why a worker at this URL may not be added; None: it may."""
    host = urlsplit(url).hostname or ""
    if patterns:
        if any(_fits(host, pattern) for pattern in patterns):
            return None
        return f"{url}: worker_allow admits {', '.join(patterns)} and nothing else"
    address = address_of(host)
    if address is not None and address.is_link_local:
        return f"{url}: {LINK_LOCAL}"
    return None


LINK_LOCAL = (
    "a link-local address is no place for a worker (clouds hand out credentials there); "
    "name it in worker_allow if it is"
)


def address_of(host: str) -> _Address | None:
    """The address that a URL's host is, in whichever spelling; None: it is a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _fits(host: str, pattern: str) -> bool:
    network = _network(pattern)
    if network is None:
        return address_of(host) is None and fnmatchcase(host.rstrip("."), pattern.rstrip("."))
    address = address_of(host)
    return address is not None and address.version == network.version and address in network


def _network(pattern: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(pattern.strip("[]"), strict=False)
    except ValueError:
        return None


def _checked(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """In lower case, as hosts of URLs are. Raises ValueError for what no host can be."""
    for pattern in patterns:
        if not pattern or "://" in pattern or (("/" in pattern or ":" in pattern) and not _network(pattern)):
            raise ValueError(
                f"expected a host's name with `*`, an address or a network, without scheme and port, "
                f"got {pattern!r}"
            )
    return tuple(pattern.lower() for pattern in patterns)


WorkerPatterns = Annotated[
    tuple[str, ...],
    BeforeValidator(split_text),
    AfterValidator(_checked),
    Kind("hosts, with `*`, or networks such as 10.0.0.0/8", "HOST"),
]
