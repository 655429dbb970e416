"""What is known of one worker's cache, and how: its publishers, their health, and what is said about both.

    exact         every rank's cache is known whole
    partial       what is known is held, and more may be: joined late, a gap that could not be filled, blocks
                  that cannot be identified
    approximate   nothing is known: no events are offered, none has come yet, they have stalled, or there are
                  too many blocks

A stream can be silent because nothing happens, because it is cut, or because both sides connect and nobody
listens. Only requests tell these apart: one that made the engine compute two blocks' worth of a prompt made
it store at least one, and a batch says so.

Rules kept. The core is told of a cache when something was heard of it, never on a promise. A worker that has
left is not talked about.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal, final

from warmroute.kv_events.counts import Counts
from warmroute.kv_events.ledger import Core
from warmroute.kv_events.publisher import Publisher
from warmroute.kv_events.sources import Offer
from warmroute.kv_events.wire import Message
from warmroute_policies.known import Tier

if TYPE_CHECKING:
    from warmroute.config import Settings
    from warmroute.kv_events.sockets import Sockets
    from warmroute.workers import Worker

log = logging.getLogger("warmroute.kv_events")

State = Literal["exact", "partial", "approximate"]

STATES: Final[tuple[State, ...]] = ("exact", "partial", "approximate")

# Behind a request's end: as `known.GRACE_S`, the time that its events may take.
_GRACE_S: Final = 1.0

# One block is no proof: SGLang computes the last page of a prompt again that it holds whole, and stores
# nothing.
_STORES_BLOCKS: Final = 2

_BLOCK_TOKENS: Final = 16


@final
class WorkerEvents:
    """State: one worker's publishers, what was counted, what its requests still owe."""

    def __init__(
        self,
        worker: Worker,
        core: Core,
        settings: Callable[[], Settings],
        sockets: Callable[[], Sockets],
        is_there: Callable[[Worker], bool],
    ) -> None:
        self.worker, self.worker_id = worker, worker.pool.worker_id
        self.core, self.sockets = core, sockets
        self._settings, self._is_there = settings, is_there
        self.counts = Counts(self.worker_id)
        self.publishers: list[Publisher] = []
        self.trouble = ""
        """Why nothing is known, or no more; nothing: nothing keeps it from being known."""
        self._given_up: int | None = None
        """The bound on blocks at which it was given up."""
        self._complained = ""
        self._said: State = "approximate"
        self._owed: tuple[float, float] | None = None
        """When the first request began and ended that must have made the worker store a block and of which no
        event came."""
        self._unproven_since: float | None = None
        """A request has ended, and no batch behind it proves that none is missing."""
        self._verified_at = 0.0

    @property
    def gone(self) -> bool:
        """Reads. The worker has left, and the core does not know it any more."""
        return not self._is_there(self.worker)

    # --- who publishes ------------------------------------------------------------------------------

    def follow(self, offers: tuple[Offer, ...], why_not: str, now: float, *, shared: bool = False) -> None:
        """Writes. What the worker offers, or why it does not. The same as before goes on."""
        if self.gone:
            return
        if offers == tuple(publisher.offer for publisher in self.publishers) and (offers or self.trouble):
            if not offers:
                self._no_offer(why_not)
            self.verify(now)
            return
        self.stop(now)
        self._given_up, self._complained = None, ""
        if not offers:
            self._no_offer(why_not)
            return
        self.trouble = ""
        self.publishers = [Publisher(self, offer, shared=shared) for offer in offers]
        for publisher in self.publishers:
            if shared:
                publisher.begin(now)
            else:
                publisher.open(now)

    def stop(self, now: float) -> None:
        """Writes. Nobody is listened to, and nothing is known."""
        for publisher in self.publishers:
            publisher.close()
        known = any(publisher.ledger.known for publisher in self.publishers)
        for publisher in self.publishers:
            publisher.ledger.forget()
        self.publishers = []
        self._owed = self._unproven_since = None
        if known and not self.gone:
            self.core.doubt_blocks(self.worker_id, now)

    def complain(self, why: str) -> None:
        """Writes. Says once what is wrong."""
        if why != self._complained:
            self._complained = why
            log.warning("%s", why, extra={"worker": self.worker_id})

    def _no_offer(self, why_not: str) -> None:
        self.trouble = why_not
        if why_not != self._complained:
            self._complained = why_not
            log.info(
                "worker's cache is predicted, not known", extra={"worker": self.worker_id, "why": why_not}
            )

    # --- what happens ---------------------------------------------------------------------------------

    def message(self, message: Message, now: float) -> None:
        """Writes. A message by a line that other workers have too."""
        if not self.gone and self.publishers and self._given_up is None:
            self.publishers[0].live(message, now)

    def connected(self, now: float) -> None:
        """Writes. A connection was made on a line that other workers have too."""
        if not self.gone:
            for publisher in self.publishers:
                publisher.stream.connected(now)

    def heard(self, now: float) -> None:
        """Writes. Something came: is there too much of it, and is it what was missed?"""
        publishers = self.publishers
        blocks = sum([len(publisher.ledger.blocks) for publisher in publishers])
        bound = self._settings().kv_events_max_blocks
        if blocks > bound:
            self.counts.odd("bound", "more blocks than kv_events_max_blocks: nothing is known of the worker")
            self._doubt("more blocks than kv_events_max_blocks", now)
            self._given_up = bound
            for publisher in publishers:
                publisher.close()
        elif self.trouble and self._given_up is None and self._applied_at() >= now:
            self.trouble = ""
            log.info("KV events have come", extra={"worker": self.worker_id})

    def finished(self, began_at: float, now: float, computed_tokens: int | None) -> None:
        """Writes. A request ended well; so many tokens of its prompt were not cached. None: not told."""
        if not self.publishers or self._given_up is not None:
            return
        if self._unproven_since is None:
            self._unproven_since = now
        if self._owed is None and computed_tokens is not None:
            block = max(self.block_tokens, _BLOCK_TOKENS)
            if computed_tokens >= _STORES_BLOCKS * block:
                self._owed = began_at, now

    def verify(self, now: float) -> None:
        """Writes. Asks all publishers whether something is missing."""
        self._verified_at, self._unproven_since = now, None
        for publisher in self.publishers:
            publisher.stream.verify(now)

    def tick(self, now: float) -> None:
        """Writes. Once a second."""
        settings = self._settings()
        if self._given_up is not None:
            if self._given_up != settings.kv_events_max_blocks:
                offers, shared = tuple(one.offer for one in self.publishers), self.publishers[0].shared
                self.stop(now)
                self.follow(offers, "", now, shared=shared)
            return
        for publisher in self.publishers:
            publisher.tick(now, settings.kv_events_replay_timeout_s)
        applied_at = self._applied_at()
        if self._unproven_since is not None and applied_at >= self._unproven_since:
            self._unproven_since = None
        if self._owed is not None and applied_at >= self._owed[0]:
            self._owed = None
        unproven = self._unproven_since is not None and now - self._unproven_since >= _GRACE_S
        # Whoever did not answer lately is not asked behind every request.
        if unproven and all(publisher.stream.unanswered for publisher in self.publishers):
            unproven, self._unproven_since = False, None
        if self.publishers and (unproven or now - self._verified_at >= settings.kv_events_verify_s):
            self.verify(now)
        if self._owed is not None and now - self._owed[1] >= settings.kv_events_stall_s:
            self._stalls(self._owed[1], now)
        state, why = self.state()
        if state != self._said:
            self._said = state
            log.info(
                "worker's cache is %s",
                state,
                extra={"worker": self.worker_id, **({"why": why} if why else {})},
            )

    def _stalls(self, since: float, now: float) -> None:
        """Writes. A request must have been told of, and was not: unless a replay tells, nothing is known."""
        if any(publisher.stream.asked is not None for publisher in self.publishers):
            return
        if self._verified_at < since and not all(publisher.stream.dormant for publisher in self.publishers):
            self.verify(now)
            return
        self._owed = None
        if self.trouble.startswith("stalled"):
            return
        self.counts.stalls += 1
        never = not self.counts.batches
        self._doubt(
            "stalled: a request made the engine store blocks, and no event came"
            + (" ever; does the engine connect to where the router connects too?" if never else ""),
            now,
        )
        log.warning("KV events have stalled", extra={"worker": self.worker_id, "why": self.trouble})

    def _doubt(self, why: str, now: float) -> None:
        self.trouble = why
        for publisher in self.publishers:
            publisher.doubt()
        self.core.doubt_blocks(self.worker_id, now)

    def _applied_at(self) -> float:
        return max([publisher.stream.applied_at for publisher in self.publishers], default=0.0)

    # --- what is said about it --------------------------------------------------------------------------

    @property
    def block_tokens(self) -> int:
        """Reads. Tokens of a block; 0: not known."""
        return max([publisher.ledger.block_tokens for publisher in self.publishers], default=0)

    def held(self) -> list[int]:
        """Reads. Blocks that are known to be held, by tier."""
        return [
            sum(counts) for counts in zip(*(one.ledger.held for one in self.publishers), strict=True)
        ] or ([0] * len(Tier))

    def fingerprint(self) -> str:
        """Reads. Equal where the same blocks are known: two routers that know the same show the same."""
        ranks = sum(one.ledger.fingerprint * (2 * one.ledger.rank + 1) for one in self.publishers)
        return f"{ranks % (1 << 64):016x}"

    def state(self) -> tuple[State, str]:
        """Reads. What is known, and why not more."""
        if self.trouble or not self.publishers:
            return "approximate", self.trouble or "not asked yet"
        known = [publisher for publisher in self.publishers if publisher.ledger.known]
        if not known:
            streams = [publisher.stream for publisher in self.publishers]
            if any(stream.last is None and stream.asked is not None for stream in streams):
                return "approximate", "asking for old events"
            heard = all(stream.last is not None for stream in streams)
            return "approximate", "nothing was stored yet" if heard else "no event has come yet"
        if len(known) < len(self.publishers):
            return "partial", "not all ranks have told"
        why = next((one.stream.shortage for one in known if one.stream.shortage), "")
        if why:
            return "partial", why
        if any(publisher.ledger.catching_up for publisher in known):
            return "partial", "replaying"
        return "exact", ""
