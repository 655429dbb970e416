"""One rank's publisher: the line it is heard on, the line on which it is asked for old batches, its stream.

What frames cannot be read is counted, never raised. A socket that cannot be had is tried again; a replay
that does not come in time has failed. What follows from a message for the worker as a whole is `worker`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from warmroute.kv_events.ledger import Ledger
from warmroute.kv_events.stream import Stream
from warmroute.kv_events.wire import Message, Unreadable, read_live, read_replayed, replay_request

if TYPE_CHECKING:
    from warmroute.kv_events.sockets import Line
    from warmroute.kv_events.sources import Offer
    from warmroute.kv_events.worker import WorkerEvents

# A socket that cannot be had now, such as a port that the former router still has.
_SOCKET_AGAIN_S: Final = 5.0


@final
class Publisher:
    """One rank's publisher. State: its stream, the line it is heard on, the line of a replay under way."""

    def __init__(self, of: WorkerEvents, offer: Offer, *, shared: bool) -> None:
        self._of, self.offer, self.shared = of, offer, shared
        """`shared`: messages come by a line that other workers have too."""
        block_tokens = 0
        cache = of.worker.learned.kv_cache
        if cache is not None and cache.block_tokens is not None:
            block_tokens = cache.block_tokens
        self.ledger = Ledger(
            of.worker_id, offer.rank or 0, of.core, of.counts, block_tokens, of.sockets().bury
        )
        self.stream = Stream(
            self.ledger,
            of.counts,
            None if offer.replay is None else self._ask,
            self._wake,
            rank_is_known=offer.rank is not None,
        )
        self._line: Line | None = None
        self._replay: Line | None = None
        self._open_at = 0.0

    def open(self, now: float) -> None:
        """Writes. Listens, if it does not yet; tries again later where that fails."""
        if self._line is not None or self.shared or now < self._open_at:
            return
        endpoint = self.offer.endpoint
        try:
            self._line = self._of.sockets().subscribe(
                endpoint.address, self.offer.topic, self._heard, bind=endpoint.bind
            )
        except OSError as error:
            self._open_at = now + _SOCKET_AGAIN_S
            self._of.trouble = f"cannot listen to its KV events: {error}"
            self._of.complain(self._of.trouble)
            return
        self._line.tell_of_connections(self._connected)
        self.begin(now)

    def begin(self, now: float) -> None:
        """Writes. Asks for what was published before."""
        self.stream.begin(now)

    def close(self) -> None:
        """Writes. Twice is once."""
        self._end_replay()
        if self._line is not None:
            self._line.close()
            self._line = None

    def doubt(self) -> None:
        """Writes. The core knows nothing of the worker any more."""
        self._end_replay()
        self.stream.doubt()

    def live(self, message: Message, now: float) -> None:
        """Writes. A message of the publisher, by whatever line."""
        self.stream.live(message, now)
        self._of.heard(now)

    def step(self, now: float) -> bool:
        """Writes. What has waited for a replay."""
        more = not self._of.gone and self.stream.step(now)
        self._of.heard(now)
        return more

    def tick(self, now: float, patience_s: float) -> None:
        """Writes. Once a second."""
        self.open(now)
        if self.stream.asked is not None and now - self.stream.heard_at > patience_s:
            self._end_replay()
            self.stream.replay_failed(now)

    # --- sockets ------------------------------------------------------------------------------------

    def _heard(self, frames: list[bytes], now: float) -> None:
        if self._of.gone:
            return
        try:
            message = read_live(frames)
        except Unreadable as error:
            self._of.counts.odd("unreadable", f"a message cannot be read: {error}")
            return
        self.live(message, now)

    def _connected(self, now: float) -> None:
        if not self._of.gone:
            self.stream.connected(now)

    def _ask(self, from_seq: int) -> None:
        self._end_replay()
        assert self.offer.replay is not None
        try:
            self._replay = self._of.sockets().ask(
                self.offer.replay, replay_request(from_seq), self._heard_replay
            )
        except OSError as error:
            self._of.complain(f"cannot ask it for old KV events: {error}")  # the tick finds no answer

    def _heard_replay(self, frames: list[bytes], now: float) -> None:
        if self._of.gone:
            return
        try:
            message = read_replayed(frames)
        except Unreadable as error:
            self._of.counts.odd("unreadable", f"a replay cannot be read: {error}")
            self._end_replay()
            self.stream.replay_failed(now)
        else:
            if message is None:
                self._end_replay()
                self.stream.replay_ended(now)
            else:
                self.stream.replayed(message, now)
        self._of.heard(now)

    def _end_replay(self) -> None:
        if self._replay is not None:
            self._replay.close()
            self._replay = None

    def _wake(self) -> None:
        self._of.sockets().pump.ready(self)
