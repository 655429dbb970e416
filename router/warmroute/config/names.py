"""A DNS name as an operator writes it, with what is known of the workers behind it.

`vllm.llm.svc:8000` is resolved to addresses (A, else AAAA); `_http._tcp.vllm.llm.svc`, without a port, to
SRV records, which bring their own. Options follow as with a backend: `vllm.llm.svc:8000,weight=2`. With
`https://` before it the workers are spoken to by TLS, and their certificates must be for the name.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, ValidationError

from warmroute.config.backends import Backend, late_backend
from warmroute.config.kinds import Kind, split_text

# As of RFC 1035, 3.1.
_NAME_CHARS_MAX: Final = 253

_EXPECTED: Final = "expected name:port, or an SRV name such as _http._tcp.vllm.llm.svc"


@dataclass(frozen=True, slots=True)
class DnsName:
    """What is asked, and what holds for every worker that is found so."""

    name: str
    port: int | None
    """None: SRV records tell."""
    facts: Backend
    """Its URL stands for nothing."""

    def backend(self, address: str, port: int) -> Backend:
        """The worker at an address. Raises ValueError where the port is 0."""
        return late_backend(f"[{address}]:{port}" if ":" in address else f"{address}:{port}", self.facts)


def parse_dns_name(text: str) -> DnsName:
    """Raises ValueError with what was expected."""
    where, comma, options = text.partition(",")
    scheme, separator, rest = where.partition("://")
    if not separator:
        scheme, rest = "http", where
    elif scheme not in ("http", "https"):
        raise ValueError(f"{_EXPECTED}, got {where!r}")
    where = rest
    try:
        facts = late_backend("0.0.0.0:1", Backend.parse(f"{scheme}://0.0.0.0:1" + comma + options))
    except ValidationError as error:
        raise ValueError(f"{text!r}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    name, colon, digits = where.rpartition(":")
    if not colon:
        name, port = where, None
        if not where.startswith("_") or "._" not in where:
            raise ValueError(f"{_EXPECTED}, got {where!r}")
    else:
        if not (digits.isdecimal() and 0 < int(digits) <= 65535):
            raise ValueError(f"{where!r}: expected a port from 1 to 65535 behind the name")
        port = int(digits)
    if not name or "/" in name or len(name) > _NAME_CHARS_MAX:
        raise ValueError(f"{_EXPECTED}, got {where!r}")
    if is_address(name.strip("[]")):
        raise ValueError(f"{where!r} is an address, not a name: use --backend http://{where}")
    if scheme == "https" and port is not None and facts.tls_name is None:
        facts = facts.model_copy(update={"tls_name": name})  # certificates are for names, not for addresses
    return DnsName(name, port, facts)


def is_address(text: str) -> bool:
    """Whether it is an IP address; an IPv6 one without brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _checked(names: tuple[str, ...]) -> tuple[str, ...]:
    seen: set[tuple[str, int | None]] = set()
    for text in names:
        parsed = parse_dns_name(text)
        if (parsed.name, parsed.port) in seen:
            raise ValueError(f"{text.partition(',')[0]} is listed twice")
        seen.add((parsed.name, parsed.port))
    return names


DnsNames = Annotated[
    tuple[str, ...],
    BeforeValidator(split_text),
    AfterValidator(_checked),
    Kind("names such as vllm.llm.svc:8000 or _http._tcp.vllm.llm.svc", "NAME"),
]
