"""Who came where before: the last worker of each session that clients name.

A session's id is knowledge for policies, never a pin. The table is bounded; the session that was
silent longest is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

from warmroute_policies.pseudonym import pseudonym
from warmroute_policies.types import WorkerId
from warmroute_policies.values import Record


class Session(Record, gc=False):
    """What is remembered of one session."""

    worker: WorkerId
    last_seen_at: float
    turns: int = 0
    moves: int = 0
    """Turns that went to another worker than the turn before."""
    footprint_tokens: int = 0
    """Length of its last prompt: about what it occupies in its worker's cache."""


class Sessions:
    """State: sessions by id, the one seen last at the end."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._restored: dict[str, Session] = {}
        """Of an earlier router, by pseudonym, until they are seen here."""
        self.turns_stayed = 0
        self.turns_moved = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, key: str) -> Session | None:
        """Reads."""
        session = self._sessions.get(key)
        if session is None and self._restored:
            session = self._restored.get(pseudonym(key))
        return session

    def restore(self, name: str, session: Session) -> None:
        """Writes. A session of an earlier router, by its pseudonym; beyond the limit they are left."""
        if len(self._restored) < self._limit:
            self._restored[name] = session

    def recent(self, limit: int) -> list[tuple[str, Session]]:
        """Reads. The sessions seen last, the latest first."""
        return list(islice(reversed(self._sessions.items()), limit))

    def kept(self) -> list[str]:
        """Reads. Names of all that is remembered, up to the limit, the latest last: those of an earlier
        router come first, by pseudonym, for they were not seen since. Names alone: with the sessions it takes
        five times as long, in one piece."""
        return [*self._restored, *self._sessions][-self._limit :]

    def named(self, name: str) -> Session | None:
        """Reads. What `kept` has named, unless it was forgotten or seen for the first time since."""
        return self._sessions.get(name) or self._restored.get(name)

    def seen(
        self, key: str, worker: WorkerId, prompt_tokens: int, now: float, *, again: bool = False
    ) -> None:
        """Writes. A turn of the session was sent to the worker; `again`: the same turn as before, because its
        worker failed."""
        session = self._sessions.get(key)
        if session is None and self._restored:
            session = self._restored.pop(pseudonym(key), None)
            if session is not None:
                self._add(key, session)
        if session is None:
            session = Session(worker, now)
            self._add(key, session)
        elif again:
            session.turns -= 1
        elif session.worker == worker:
            self.turns_stayed += 1
        else:
            self.turns_moved += 1
            session.moves += 1
        session.worker, session.last_seen_at, session.footprint_tokens = worker, now, prompt_tokens
        session.turns += 1
        self._sessions.move_to_end(key)

    def _add(self, key: str, session: Session) -> None:
        if len(self._sessions) >= self._limit:
            self._sessions.popitem(last=False)
        self._sessions[key] = session
