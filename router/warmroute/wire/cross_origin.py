"""What a browser is told when a page of another origin asks (CORS).

Listed origins may ask with credentials, which a client's certificate is; `*` allows every origin and never
credentials, as browsers have it. An answer that depends on the origin says so (`Vary`), whoever asked, else a
cache would hand one origin's answer to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

_ANY: Final = "*"

_EXPOSED: Final = (
    b"x-request-id, x-router-worker, x-router-reason, x-router-predicted-hit-tokens, x-router-error, "
    b"retry-after"
)

_PREFIX: Final = b"access-control-"

Fields = tuple[tuple[bytes, bytes], ...]


@final
class CrossOrigin:
    """Who may ask. Not to be written."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = _ANY in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def allows(self, origin: bytes | None) -> bool:
        """Reads. Whether a page of this origin may read answers."""
        return origin is not None and (self._any or origin.lower() in self._origins)

    def fields(self, origin: bytes | None) -> Fields:
        """Reads. What an answer says to this origin; None: nobody's page asked."""
        if self._any:
            return (
                (b"access-control-allow-origin", b"*"),
                (b"access-control-expose-headers", _EXPOSED),
            )
        if origin is None or not self.allows(origin):
            return ((b"vary", b"Origin"),)
        return (
            (b"vary", b"Origin"),
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", _EXPOSED),
        )

    def lines(self, origin: bytes | None) -> bytes:
        """Reads. The same as lines of a head, each with a line's end before it."""
        return b"".join(b"\r\n%b: %b" % field for field in self.fields(origin))


def without_cross_origin_fields(answer: bytes) -> bytes:
    """An answer, or its head alone, without what the worker says about origins: it knows another address."""
    head, end, body = answer.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if line[: len(_PREFIX)].lower() != _PREFIX]
    return b"\r\n".join(lines) + end + body
