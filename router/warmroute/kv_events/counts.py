"""What is counted of one worker's events, and what was odd about them: said once each in the log."""

from __future__ import annotations

import logging
from typing import Final, final

from warmroute_policies.types import WorkerId

log = logging.getLogger("warmroute.kv_events")

EVENTS: Final = ("stored", "removed", "cleared", "ignored", "skipped")
"""stored, removed, cleared: applied. ignored: about what is not looked up. skipped: of unknown kinds."""

REPLAYS: Final = ("filled", "short", "unanswered")
"""filled: what was asked for came. short: the engine has it no more. unanswered: nothing came in time."""

ODD: Final = (
    "unreadable", "parent", "masked", "pairs", "tokens", "conflict", "block_size", "topic", "rank", "bound",
)  # fmt: skip
"""unreadable: no message of an engine. parent: a block after one that was never told of. masked, pairs,
tokens: blocks whose tokens cannot be told. conflict: one hash for two blocks. block_size: it changed. topic:
of no worker. rank: another than the stream's. bound: more blocks than may be kept."""


@final
class Counts:
    """State: how often what happened, and what the log was told."""

    def __init__(self, worker_id: WorkerId) -> None:
        self.worker_id = worker_id
        self.batches = 0
        self.events = dict.fromkeys(EVENTS, 0)
        self.replays = dict.fromkeys(REPLAYS, 0)
        self.odds = dict.fromkeys(ODD, 0)
        self.gaps = 0
        """Times that batches were missing."""
        self.restarts = 0
        """Times that the engine counted anew."""
        self.stalls = 0
        """Times that a request must have been told of and was not."""
        self.unknown_removals = 0
        self.lag_s = 0.0
        """From the last batch's time, by the engine's clock, to its arrival, by ours."""
        self._said: set[str] = set()

    def odd(self, reason: str, why: str, times: int = 1) -> None:
        """Writes. One of `ODD`; the log is told of the first."""
        self.odds[reason] += times
        if reason not in self._said:
            self._said.add(reason)
            log.warning("KV events: %s", why, extra={"worker": self.worker_id, "reason": reason})
