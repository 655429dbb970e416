"""One publisher's batches in their order: what is missing, what is double, what began anew. No sockets.

An engine numbers its batches from 0 and keeps the last ten thousand of them, to be asked for again
("replay"). A stream is followed like this:

    begin ──► replay from 0 ──► all from 0 on came: the cache is known whole
                            ──► the engine has the first ones no more: what came is known, more may be held
    a number is left out ──► replay from the last one known; what arrives meanwhile waits
    a number comes again ──► by its time the same batch: passed over. Another one: the engine began anew, and
                             so does the stream
    a connection is made ──► it may be to another process: replay from the last one known
    nothing comes        ──► when something should have: replay from the last one known

Replays begin with the last batch that is known, not behind it: the same batch with the same time proves that
it is the same process which answers. What a replay cannot bring is lost, and with it may be removals. So
what was known is forgotten, and what the engine still tells is known from there on, not whole.

Rules kept. One batch per step, so that whoever calls can stop in between. What waits is bounded: beyond that
it is dropped, and asked for again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from time import time
from typing import Final, Literal, final

from warmroute.kv_events.counts import Counts
from warmroute.kv_events.ledger import Ledger
from warmroute.kv_events.wire import Batch, Message, Unreadable, read_batch

# As many as an engine keeps for replay; those that are dropped beyond that can be had from there.
_WAITING_MAX: Final = 10_000
_WAITING_BYTES_MAX: Final = 64 << 20

# No engine starts twice in a second. What looks like it is two engines in one stream.
_RESTART_S: Final = 1.0

# Nothing was published yet: the next number is 0.
_NONE_YET: Final = -1

Shortage = Literal["", "joined late", "gap", "unidentified blocks"]
"""Why a rank is not known whole; nothing: it is."""


@final
class Stream:
    """State: the last batch that was applied, the replay under way, what waits for it."""

    def __init__(
        self,
        ledger: Ledger,
        counts: Counts,
        ask: Callable[[int], None] | None,
        wake: Callable[[], None],
        *,
        rank_is_known: bool,
    ) -> None:
        """`ask` begins a replay from a number, and ends the one before; None: the engine offers none. `wake`
        is called when there is something to `step` through."""
        self.ledger = ledger
        self._counts, self._ask, self._wake = counts, ask, wake
        self._rank_is_known = rank_is_known
        """Else the first batch says which rank this is."""
        self.last: int | None = None
        """Number of the last batch that was applied; None: nothing is known of the stream."""
        self.applied_at = 0.0
        """When a batch was applied last."""
        self.heard_at = 0.0
        """When the replay under way began, or said something last."""
        self.asked: int | None = None
        """A replay is under way, from this number on."""
        self.shortage: Shortage = ""
        self.dormant = False
        """Doubted: the next batch begins everything anew."""
        self._last_sent_at_s = 0.0
        self._newest: int | None = None
        """Number of the last live message."""
        self._fresh = False
        """The replay tells everything from the beginning."""
        self._silent = False
        """The replay has told nothing yet."""
        self._hole = False
        """The replay left a number out."""
        self._short = False
        """The replay began behind what was asked for."""
        self._asked_behind: int | None = None
        """The last batch that was known when a gap was asked for; a second time is of no use."""
        self._restarted_at = -inf
        self.unanswered = False
        """The last replay was not answered."""
        self._curable = False
        """What is short may be had from the engine's first batches on: it did not say that it has them no
        more."""
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0
        self._overflowed = False

    # --- what arrives -----------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Writes. Nothing is known: everything is asked for."""
        self.dormant = False
        if self._ask is not None:
            self._replay(0, now, fresh=True)

    def live(self, message: Message, now: float) -> None:
        """Writes. A message of the publisher."""
        again = self._newest is not None and message.seq <= self._newest
        self._newest = message.seq
        if self.dormant:
            self.begin(now)
        elif again:  # a publisher never sends a number twice
            self._restarted(now)
        if self.asked is None and not self._waiting:
            self._take(message, now, may_ask=True)
        else:
            self._wait(message)

    def replayed(self, message: Message, now: float) -> None:
        """Writes. A message of the replay."""
        if self.asked is None:
            return
        self.heard_at = now
        silent, self._silent = self._silent, False
        if silent and self._fresh:
            self._short = message.seq > 0
            self._from_here(message, now, "joined late" if self._short else "")
        elif silent and message.seq == self.last:
            if _sent_at_s(message) != self._last_sent_at_s:
                self._restarted(now)
        elif self.last is not None and message.seq == self.last + 1:
            self._apply(message, now)
        elif silent:  # the engine has what is missing no more, and tells all that it has
            self._short = True
            self._from_here(message, now, "gap")
        elif self.last is not None and message.seq > self.last:
            self._hole = True

    def replay_ended(self, now: float) -> None:
        """Writes. The replay has told all that the engine has."""
        if self.asked is None or (self._hole and self._goes_on(now)):
            return
        if self._silent and not self._fresh and self.last != _NONE_YET:
            self._restarted(now)  # it does not even have the last one that is known
            return
        self.asked, self.unanswered = None, False
        self._counts.replays["short" if self._short else "filled"] += 1
        if self._silent and self._fresh:
            self._nothing_yet(now)
        self._replay_over(now)

    def replay_failed(self, now: float) -> None:
        """Writes. The replay is not answered, or no further, or not in a way that can be read."""
        if self.asked is None:
            return
        self._counts.replays["unanswered"] += 1
        if not self._goes_on(now):
            self.asked, self.unanswered = None, True
            self._replay_over(now)

    def verify(self, now: float) -> None:
        """Writes. Something may be missing that nobody has noticed: asks, unless that is under way."""
        if self._ask is None or self.asked is not None or self.dormant or self._waiting:
            return
        if self.last is None or self._curable:
            self._replay(0, now, fresh=True)
        else:
            self._replay(max(self.last, 0), now, fresh=False)

    def connected(self, now: float) -> None:
        """Writes. There is a connection to the publisher, maybe to another process than before, whose first
        batches were missed: what comes now proves nothing by its number."""
        if self._ask is None or self.dormant:
            return
        if self.asked is not None and self._silent and not self._waiting:
            return
        self._drop_waiting()
        fresh = self.last is None or (self.asked is not None and self._fresh)
        self._replay(0 if fresh else max(self.last or 0, 0), now, fresh=fresh)

    def doubt(self) -> None:
        """Writes. The core was told that nothing is known of the worker: so it is, until a batch comes."""
        self.ledger.forget()
        self.last, self.asked, self.dormant, self.shortage = None, None, True, ""
        self._drop_waiting()

    def step(self, now: float) -> bool:
        """Writes. Applies one of the messages that have waited; whether there is another one."""
        if self.asked is None and self._waiting:
            message = self._waiting.popleft()
            self._waiting_bytes -= len(message.payload)
            self._take(message, now, may_ask=not self.unanswered)
        return self.asked is None and bool(self._waiting)

    # --- order --------------------------------------------------------------------------------------

    def _take(self, message: Message, now: float, *, may_ask: bool) -> None:
        """Writes. The next message of the publisher, while no replay is under way."""
        seq, last = message.seq, self.last
        if last is None:
            self._from_here(message, now, "" if seq == 0 else "joined late")
        elif seq == last + 1:
            self._apply(message, now)
        elif seq <= last:
            if _sent_at_s(message) > self._last_sent_at_s:
                self._restarted(now)
                if self.asked is None:
                    self._take(message, now, may_ask=False)
                else:
                    self._wait(message, first=True)
        else:
            self._counts.gaps += 1
            if may_ask and self._ask is not None and self._asked_behind != last:
                self._asked_behind = last
                self._wait(message, first=True)
                self._replay(max(last, 0), now, fresh=False)
            else:
                self._from_here(message, now, "gap")

    def _from_here(self, message: Message, now: float, shortage: Shortage) -> None:
        """Writes. What was known is not what is: the message begins what is known anew."""
        ledger = self.ledger
        if ledger.blocks:
            ledger.clear(now)
        ledger.whole = not shortage
        self.shortage, self._asked_behind = shortage, None
        self._curable = bool(shortage) and self.asked is None
        self._apply(message, now)

    def _apply(self, message: Message, now: float) -> None:
        """Writes. The message's batch is the next one."""
        counts, ledger = self._counts, self.ledger
        self.last = message.seq
        counts.batches += 1
        try:
            batch = read_batch(message.payload)
        except Unreadable as error:
            self._last_sent_at_s = 0.0
            counts.odd("unreadable", f"a batch cannot be read, so what was known is forgotten: {error}")
            ledger.clear(now)
            ledger.whole, self.shortage = False, "gap"
            return
        self._last_sent_at_s = batch.sent_at_s
        self.applied_at = now
        counts.events["skipped"] += batch.skipped
        if self.asked is None and not self._waiting:
            counts.lag_s = time() - batch.sent_at_s
        if self._is_ours(batch):
            ledger.apply(batch.events, now)
            if not ledger.whole:
                self.shortage = self.shortage or "unidentified blocks"
            else:
                self.shortage = ""

    def _is_ours(self, batch: Batch) -> bool:
        """Writes which rank this is, where nothing has said that yet."""
        if self._rank_is_known or batch.rank is None:
            return True
        ledger = self.ledger
        if not ledger.known and not ledger.blocks:
            ledger.rank = batch.rank
        elif batch.rank != ledger.rank:
            self._counts.odd("rank", "several ranks publish in one stream: let each have a port of its own")
            return False
        return True

    def _restarted(self, now: float) -> None:
        """Writes. Another process counts from 0: its cache is another one too."""
        self._counts.restarts += 1
        self.ledger.clear(now)
        self.ledger.whole, self.last, self.shortage = False, None, ""
        self._drop_waiting()
        quickly, self._restarted_at = now - self._restarted_at < _RESTART_S, now
        self.asked = None
        if not quickly:
            self.begin(now)

    def _nothing_yet(self, now: float) -> None:
        """Writes. The engine has published nothing since it began: its cache is empty."""
        if self.ledger.blocks:
            self.ledger.clear(now)
        self.last, self._last_sent_at_s = _NONE_YET, 0.0
        self.ledger.whole, self.shortage = True, ""

    # --- replays --------------------------------------------------------------------------------------

    def _replay(self, from_seq: int, now: float, *, fresh: bool) -> None:
        assert self._ask is not None
        self.asked, self.heard_at = from_seq, now
        self._fresh, self._silent, self._hole, self._short = fresh, True, False, False
        self.ledger.catching_up = fresh or self.ledger.catching_up
        self._ask(from_seq)

    def _goes_on(self, now: float) -> bool:
        """Writes. Asks for the rest of a replay that ended too soon, as one of thousands of batches may: an
        engine drops what its socket has no room for. Not when it brought nothing."""
        assert self.asked is not None
        if self.last is None or self._silent or self.last <= self.asked:
            return False
        self._replay(self.last, now, fresh=False)
        return True

    def _replay_over(self, now: float) -> None:
        """Writes. What has waited is next."""
        self.ledger.catching_up = False
        if self._overflowed and not self.unanswered and self.last is not None:
            self._drop_waiting()
            self._replay(max(self.last, 0), now, fresh=False)
            return
        self._overflowed = False
        if self.last is not None:
            self.ledger.tell(now)
        if self._waiting:
            self._wake()

    def _wait(self, message: Message, *, first: bool = False) -> None:
        if first:
            self._waiting.appendleft(message)
        elif len(self._waiting) < _WAITING_MAX and self._waiting_bytes < _WAITING_BYTES_MAX:
            self._waiting.append(message)
        else:
            self._overflowed = True
            return
        self._waiting_bytes += len(message.payload)

    def _drop_waiting(self) -> None:
        self._waiting.clear()
        self._waiting_bytes, self._overflowed = 0, False


def _sent_at_s(message: Message) -> float:
    """When the engine sent it, by its own clock; 0 for what cannot be read, which is said where it counts."""
    try:
        return read_batch(message.payload).sent_at_s
    except Unreadable:
        return 0.0
