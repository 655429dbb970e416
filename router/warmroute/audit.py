"""Who changed what: one line per change of the router's state, and per refused attempt at one.

    audit  action=remove_worker  subject=http://gpu1:8000  outcome=done  by=key:5e884898  client=10.0.0.7 …

The shape is the same whoever acts: a person by the admin API, a reload, discovery, or the router itself when
a removal has come to its end. A key is never written, only the first eight digits of its SHA-256
(`printf %s KEY | sha256sum`), which tells two keys apart and is of no use to who does not have them.
"""

from __future__ import annotations

import logging
from hashlib import sha256
from typing import Any, Final, NamedTuple

LOGGER: Final = "warmroute.audit"

log: Final = logging.getLogger(LOGGER)

# 32 bits: two of a router's few keys do not meet, and a guess cannot be checked against so little.
_FINGERPRINT_CHARS: Final = 8


class Actor(NamedTuple):
    """Who acts."""

    by: str
    """`key:` and a fingerprint, `anyone` where no key is needed, or a part of the router."""
    client: str | None = None
    """Address of a client."""
    request_id: str | None = None


ROUTER: Final = Actor("router")
SIGNAL: Final = Actor("signal")


def fingerprint(key: bytes) -> str:
    """What stands for a key."""
    return "key:" + sha256(key).hexdigest()[:_FINGERPRINT_CHARS]


def tell(
    action: str,
    subject: str,
    actor: Actor,
    *,
    outcome: str = "done",
    status: int | None = None,
    before: Any = None,
    after: Any = None,
) -> None:
    """Writes a line. `outcome` is `done`, or the code of a refusal; `before` and `after` are small."""
    fields = {
        "action": action,
        "subject": subject,
        "outcome": outcome,
        "status": status,
        "before": before,
        "after": after,
        "by": actor.by,
        "client": actor.client,
        "request_id": actor.request_id,
    }
    log.info("audit", extra={name: value for name, value in fields.items() if value is not None})
