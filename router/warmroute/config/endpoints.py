"""Where engines' KV events are had from, as an operator writes it.

off | auto           not at all; as each worker says itself
tcp://*:5557         the router listens there
bind:ENDPOINT        it listens on any endpoint
tcp://host:port      it connects there
ipc:///a/path        and there
"""

from __future__ import annotations

import re
from typing import Annotated, Final, NamedTuple

from pydantic import AfterValidator

from warmroute.config.kinds import Kind

AUTO: Final = "auto"
OFF: Final = "off"

WILDCARDS: Final = ("*", "0.0.0.0", "::", "[::]")  # noqa: S104 -- recognised, not bound

_BIND: Final = "bind:"
_CHARS_MAX: Final = 512
_TCP: Final = re.compile(r"tcp://(\[[0-9A-Fa-f:.%\w]*\]|[^\[\]/:,;\s]+|::):(\d{1,5})")
_IPC: Final = re.compile(r"ipc://[^\s,]+")


class Endpoint(NamedTuple):
    """Where events are had from."""

    address: str
    """As ZeroMQ takes it."""
    bind: bool
    """The router listens there."""


def parse_endpoint(text: str) -> Endpoint:
    """An endpoint as an operator writes it. Raises ValueError with what was expected."""
    address = text.removeprefix(_BIND)
    found = _TCP.fullmatch(address)
    if len(address) > _CHARS_MAX or not (found or _IPC.fullmatch(address)):
        raise ValueError(f"expected tcp://host:port, tcp://*:port, ipc:///path or bind:…, got {text!r}")
    if found and not 0 < int(found[2]) < 1 << 16:
        raise ValueError(f"{text!r}: expected a port from 1 to 65535")
    return Endpoint(address, text != address or (found is not None and found[1] in WILDCARDS))


def tcp_host(address: str) -> str | None:
    """The host of a tcp:// address, IPv6 in its brackets; None: it is none."""
    found = _TCP.fullmatch(address)
    return None if found is None else found[1]


def of_rank(text: str, rank: int) -> str:
    """The endpoint of one of several data-parallel ranks: as engines count, behind the first one's port.
    Raises ValueError where there is no such port."""
    found = _TCP.fullmatch(text.removeprefix(_BIND))
    if found is None:
        return text
    own = f"{text[: -len(found[2])]}{int(found[2]) + rank}"
    parse_endpoint(own)
    return own


def _mode(text: str) -> str:
    if text not in (AUTO, OFF):
        try:
            parse_endpoint(text)
        except ValueError as error:
            raise ValueError(f"{error}, auto or off") from None
    return text


def _replay(text: str) -> str:
    if parse_endpoint(text).bind:
        raise ValueError(f"{text!r}: expected an endpoint to connect to; engines listen for such questions")
    return text


KvEventsMode = Annotated[
    str, AfterValidator(_mode), Kind("auto, off, or an endpoint such as tcp://*:5557", "auto|off|URL")
]
KvReplay = Annotated[str, AfterValidator(_replay), Kind("an endpoint such as tcp://gpu1:5558", "URL")]
