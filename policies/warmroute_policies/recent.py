"""The extremes of this router's own books in the last seconds, by slot.

What an engine says of its load is about a moment in the past that nobody knows exactly: the question's way,
the answer's way, and gauges that are written once a step. Whoever compares it with the books must allow for
all that these said meanwhile, or own requests would count as somebody else's.

Rules kept. Written at every change of the books, and only where load is reported at all. Changes within one
grain are one entry, so a slot never has more than `HORIZON_S / GRAIN_S` of them; a window that begins inside
an entry has the whole of it, which makes it wider, never narrower.
"""

from __future__ import annotations

from collections import deque
from typing import Final, final

from warmroute_policies.values import Frozen

GRAIN_S: Final = 0.05
"""A busy worker's books change every few milliseconds; answers take longer than this anyway."""

HORIZON_S: Final = 8.0
"""A question's time-out (5 s), the age of what is told (1 s), and some room. What is told of earlier moments
is not looked at."""


class Extremes(Frozen, frozen=True, gc=False):
    """Of one window of time."""

    least_requests: int
    most_requests: int
    """In flight."""
    most_waiting: int
    """Of these, those whose first token was not seen."""
    most_tokens: int
    """Prompt tokens that these miss."""


@final
class _Entry:
    """The extremes within one grain, its first moment's books included."""

    __slots__ = ("grain", "least_requests", "most_requests", "most_tokens", "most_waiting")

    def __init__(self, grain: int, requests: int, waiting: int, tokens: int) -> None:
        self.grain = grain
        self.least_requests = requests
        self.most_requests = requests
        self.most_waiting = waiting
        self.most_tokens = tokens

    def widen(self, requests: int, waiting: int, tokens: int) -> None:
        """Writes."""
        if requests < self.least_requests:
            self.least_requests = requests
        if requests > self.most_requests:
            self.most_requests = requests
        if waiting > self.most_waiting:
            self.most_waiting = waiting
        if tokens > self.most_tokens:
            self.most_tokens = tokens


@final
class _Past:
    """One slot. State: since when it is known, what the books say now, and the entries, oldest first."""

    __slots__ = ("entries", "requests", "since", "tokens", "waiting")

    def __init__(self, since: float, requests: int, waiting: int, tokens: int) -> None:
        self.since = since
        self.requests = requests
        self.waiting = waiting
        self.tokens = tokens
        self.entries: deque[_Entry] = deque()


@final
class Recent:
    """State: the past of every slot."""

    def __init__(self) -> None:
        self._pasts: dict[int, _Past] = {}

    def begin(self, slot: int, requests: int, waiting: int, tokens: int, now: float) -> None:
        """Writes. What the books of a slot say now; of what was before, nothing is known."""
        self._pasts[slot] = _Past(now, requests, waiting, tokens)

    def end(self, slot: int) -> None:
        """Writes. The slot is empty. Not begun: nothing happens."""
        self._pasts.pop(slot, None)

    def note(self, slot: int, requests: int, waiting: int, tokens: int, now: float) -> None:
        """Writes. The books of a slot have changed; time does not run backwards."""
        past = self._pasts[slot]
        grain, entries = int(now / GRAIN_S), past.entries
        if not entries or entries[-1].grain < grain:
            entries.append(_Entry(grain, past.requests, past.waiting, past.tokens))
            oldest = grain - int(HORIZON_S / GRAIN_S)
            while entries[0].grain < oldest:
                entries.popleft()
        entries[-1].widen(requests, waiting, tokens)
        past.requests, past.waiting, past.tokens = requests, waiting, tokens

    def extremes(self, slot: int, since: float, now: float) -> Extremes | None:
        """Reads. Of the books from `since` to now; None: that is not known so far back."""
        past = self._pasts.get(slot)
        if past is None or since < past.since or since < now - HORIZON_S:
            return None
        least, most, waiting, tokens = past.requests, past.requests, past.waiting, past.tokens
        first = int(since / GRAIN_S)
        for entry in reversed(past.entries):
            if entry.grain < first:
                break
            least = min(least, entry.least_requests)
            most = max(most, entry.most_requests)
            waiting = max(waiting, entry.most_waiting)
            tokens = max(tokens, entry.most_tokens)
        return Extremes(least, most, waiting, tokens)
