"""The head that a proxy in front puts before a connection's first byte: who the client is (PROXY protocol).

Version 1 is a line of text, version 2 is binary; which one it is shows in the first byte. The head is read to
its last byte and not beyond: what follows may be a TLS handshake, which somebody else reads. So the reader
says how many bytes may be taken next.

What is not exactly a head is refused: a client that could write one of its own would be whoever it likes.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"

# `PROXY UNKNOWN` and the end of its line; no head of version 1 is shorter, and none of version 2.
_SHORTEST: Final = 15

# The longest line that version 1 allows, with its end.
_LINE_BYTES_MAX: Final = 107

# Signature, version and command, family, length.
_FIXED_BYTES: Final = 16

# Two IPv6 addresses are 36 bytes, the rest is facts that are not read here. What proxies of clouds add is a
# few hundred bytes.
_REST_BYTES_MAX: Final = 4096

_LINE: Final = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?"
    rb"|TCP([46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) ([0-9]{1,5}) ([0-9]{1,5}))\r\n"
)

_LOCAL: Final = 0
_PROXY: Final = 1
# Families of version 2 by their number: bytes of both addresses and ports, of one address; of Unix sockets
# and of no family only the length is known.
_FAMILIES: Final = {0: (0, 0), 1: (12, 4), 2: (36, 16), 3: (216, 0)}
_TRANSPORTS: Final = (0, 1, 2)


class BadProxyHead(Exception):
    """The bytes are no head of the PROXY protocol; the message says why."""


class ProxyHead(NamedTuple):
    """What a whole head says."""

    address: str | None
    """The client's IP address; None: the proxy speaks for itself (a health check), or does not know."""


def read_proxy_head(data: bytes) -> ProxyHead | int:
    """The head that `data` is, or how many bytes more may be read: at least one, none of them behind its end.

    Raises BadProxyHead as soon as `data` cannot become a head.
    """
    if data[:1] in (b"", b"\r"):
        if not _SIGNATURE.startswith(data[: len(_SIGNATURE)]):
            raise BadProxyHead("it begins with neither version")
        if data and len(data) >= _SHORTEST:
            return _read_binary(data)
    elif data[:1] == b"P":
        if not b"PROXY ".startswith(data[:6]):
            raise BadProxyHead("it begins with neither version")
        if len(data) >= _SHORTEST:
            return _read_line(data)
    else:
        raise BadProxyHead("it begins with neither version")
    return _SHORTEST - len(data)


def _read_line(data: bytes) -> ProxyHead | int:
    end = data.find(b"\n") + 1
    if not end:
        if len(data) >= _LINE_BYTES_MAX:
            raise BadProxyHead("the line is too long")
        return 1 if data.endswith(b"\r") or len(data) == _LINE_BYTES_MAX - 1 else 2
    line = _LINE.fullmatch(data)
    if line is None:
        raise BadProxyHead("the line is malformed")
    family, client, proxy, *ports = line.groups()
    if family is None:
        return ProxyHead(None)
    if any(int(port) > 65535 or (port[:1] == b"0" and port != b"0") for port in ports):
        raise BadProxyHead("not a port")
    _address(proxy, family)
    return ProxyHead(_address(client, family))


def _address(text: bytes, family: bytes) -> str:
    try:
        address = ipaddress.ip_address(text.decode())
    except ValueError:
        raise BadProxyHead("not an address") from None
    if address.version != int(family):
        raise BadProxyHead("an address of the other family")
    return plain_address(str(address))


def _read_binary(data: bytes) -> ProxyHead | int:
    if len(data) < _FIXED_BYTES:
        return _FIXED_BYTES - len(data)
    version, command = data[12] >> 4, data[12] & 15
    family, transport = data[13] >> 4, data[13] & 15
    if version != 2 or command not in (_LOCAL, _PROXY):
        raise BadProxyHead("not version 2, or an unknown command")
    if family not in _FAMILIES or transport not in _TRANSPORTS:
        raise BadProxyHead("an unknown family")
    length = int.from_bytes(data[14:16], "big")
    if length > _REST_BYTES_MAX:
        raise BadProxyHead("it is too long")
    both_bytes, address_bytes = _FAMILIES[family]
    if command == _PROXY and length < both_bytes:
        raise BadProxyHead("it is too short for its addresses")
    missing = _FIXED_BYTES + length - len(data)
    if missing > 0:
        return missing
    if missing:
        raise BadProxyHead("more than a head was read")
    if command == _LOCAL or not address_bytes:
        return ProxyHead(None)
    packed = data[_FIXED_BYTES : _FIXED_BYTES + address_bytes]
    return ProxyHead(plain_address(str(ipaddress.ip_address(packed))))


def plain_address(text: str) -> str:
    """An IPv4 address that came mapped into IPv6 (`::ffff:10.0.0.1`) as itself; anything else as it is."""
    if text.startswith("::ffff:"):
        mapped = ipaddress.IPv6Address(text).ipv4_mapped
        if mapped is not None:
            return str(mapped)
    return text
