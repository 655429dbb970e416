"""Paths that mean one thing to the router and another to whoever reads them next.

A path below `/v1/` is forwarded as it came. With `..` in it, a worker or a proxy before it might take it for
one outside of `/v1/`, which no client's key was meant to open; encoded slashes and dots are the same in
disguise. No API has paths like that, so they are refused instead of put right.
"""

from __future__ import annotations

import re
from typing import Final

_AMBIGUOUS: Final = re.compile(r"/\.{1,2}(?=[/;]|$)|//|\\|%(?:2[ef]|5c|00)|[\x00-\x20\x7f]", re.IGNORECASE)


def is_ambiguous(path: str) -> bool:
    """Whether it has empty segments, `.` or `..`, backslashes, or one of these encoded."""
    return _AMBIGUOUS.search(path) is not None
