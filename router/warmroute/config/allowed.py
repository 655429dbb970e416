"""Which workers may be added while the router runs.

Whoever may add a worker makes the router send requests there, and read what answers. A list of patterns says
where that may be: names with `*`, addresses, and networks. A name is held against names alone: what it
resolves to may be another address tomorrow. Without a list any place will do, but for the addresses at which
clouds hand out credentials: all link-local ones, and two more.

Rule kept. An address is an address however it is written (`0xa9fea9fe`, `[::ffff:169.254.169.254]`), since
the system's resolver reads all of that.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

from warmroute.config.kinds import Kind, split_text
from warmroute.ranks import split_rank

# Digits with dots, stars for some of them.
_LOOKS_LIKE_ADDRESS: Final = re.compile(r"[0-9.*?]*[0-9][0-9.*?]*")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def refusal(url: str, patterns: Sequence[str]) -> str | None:
    """Why a worker at this URL may not be added; None: it may."""
    host = urlsplit(split_rank(url)[0]).hostname or ""
    if patterns:
        if any(_fits(host, pattern) for pattern in patterns):
            return None
        return f"{url}: worker_allow admits {', '.join(patterns)} and nothing else"
    address = address_of(host)
    if address is not None and hands_out_credentials(address):
        return f"{url}: {CREDENTIALS}"
    return None


CREDENTIALS: Final = (
    "a link-local address, or another at which clouds hand out credentials, is no place for a worker; "
    "name it in worker_allow if it is"
)

# Those that are not link-local: AWS by IPv6, and Alibaba.
_METADATA: Final = frozenset(
    (ipaddress.IPv6Address("fd00:ec2::254"), ipaddress.IPv4Address("100.100.100.200"))
)


def hands_out_credentials(address: _Address) -> bool:
    """Whether whoever reaches it may be given credentials of the machine."""
    return address.is_link_local or address in _METADATA


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
    if pattern == "*":
        return True
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
        if _LOOKS_LIKE_ADDRESS.fullmatch(pattern) and not _network(pattern):
            # As a name it would admit 10.1.2.3.example.org and no address.
            raise ValueError(f"expected a host's name or a network such as 10.1.2.0/24, got {pattern!r}")
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
