"""A session's name without the client's word for it: session ids may be user names or addresses.

The name is stable across processes and machines, so routers agree on it and one journal can be joined with
the next. It hides, it does not make anonymous: who can guess an id can check the guess.
"""

from __future__ import annotations

from hashlib import blake2b

_MARK = "s~"
_HEX = 24  # 96 bits: no two of a billion sessions meet
_LENGTH = len(_MARK) + _HEX


def pseudonym(session: str) -> str:
    """The stable name of a session. A name is its own name: replaying a journal gives the same."""
    if len(session) == _LENGTH and session.startswith(_MARK):
        return session
    digest = blake2b(session.encode("utf-8", "surrogatepass"), digest_size=_HEX // 2, person=b"warmroute")
    return _MARK + digest.hexdigest()
