"""Which request targets are taken.

The endpoint is chosen by the path as it stands, and what is routed goes to a worker as it stands. A path that
a server behind the router could take for another one would let a client reach what it was not judged by, so
it is refused and not put right: no API has paths like that. Everywhere these are dots that climb, control
characters and broken escapes. Where the path goes on to a worker they are empty segments, backslashes and
escaped slashes as well; the router's own endpoints take the latter, because ids of workers have them.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")

_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")

# Some servers take a backslash for a slash.
_SEGMENT_END: Final = re.compile(rb"[/\\]")

_DOTS: Final = (b".", b"..")

# `..;x` is `..` to servers that know parameters of segments.
_AMBIGUOUS: Final = re.compile(r"//|\\|%(?:2f|5c)|/(?:\.|%2e){1,2};", re.IGNORECASE)

# A name or an address, and a port (RFC 3986 section 3.2.2); user names have no place in it.
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*")


def fault_of(target: bytes) -> str | None:
    """Why a target in origin form, or `*`, is refused; None: it is taken."""
    path = target.partition(b"?")[0]
    if path[:1] != b"/":
        return None if path == b"*" else "the target is neither a path nor an http URL"
    if b"%" not in path and b"/." not in path and b"\\" not in path:
        return None
    if _BROKEN_ESCAPE.search(path):
        return "the path has a % that is not followed by two hex digits"
    plain = unquote_to_bytes(path)
    if _CONTROL.search(plain):
        return "the path has control characters"
    if any(segment in _DOTS for segment in _SEGMENT_END.split(plain)):
        return "the path has segments of dots: write it without them"
    return None


def is_host(value: bytes) -> bool:
    """Whether this may stand in a Host field. An empty one may."""
    return _HOST.fullmatch(value) is not None


def is_ambiguous(path: str) -> bool:
    """Whether a path that `fault_of` finds nothing in is still not passed on."""
    return _AMBIGUOUS.search(path) is not None
