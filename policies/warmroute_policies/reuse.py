"""How soon prefixes are asked for again, and how much of a cache is therefore in use.

An engine's cache is always full; what matters is how much of it somebody will come back for. Every prefix
that is asked for again tells how long it was idle, and most are asked for soon: agents come back in seconds,
people in minutes. The age by which nearly all have come back is the *horizon*: what a worker used within it
is alive, what is older is likely dead and makes room at no cost.

    crowding_i = H · clip((live_i − LIVE_LOW) / (LIVE_HIGH − LIVE_LOW), 0, 1)

    live_i   tokens that worker i used within the horizon, over its KV capacity
    H        share of what was used lately that had been used before: where nothing comes back, nothing is
             lost by an eviction

What nobody holds when it is asked for is *fresh*: it may go to any worker. Its share of all that is asked for
says how much of the load can be evened out at no cost.

Rules kept. Sums of blocks are halved every so many requests: what is known follows the traffic. The index
counts by its own clock (`PrefixIndex.clock`); here that clock is read once in a while together with the time,
which dates its ticks to about a second.
"""

from __future__ import annotations

from bisect import bisect_right
from math import inf
from typing import Final, final

from warmroute_policies.ghosts import Ghost
from warmroute_policies.index import Insertion

HORIZON_SHARE: Final = 0.9
"""Of what comes back. The last tenth comes late: a horizon that held it would call every cache full."""

LIVE_LOW: Final = 0.2
LIVE_HIGH: Final = 0.5
"""Crowding rises between them and not from there on. Beyond half a cache a worker has no room that is worth a
detour, and workers that differ there by chance would push their sessions back and forth: a ramp from 0.5 to
0.8 cost mixed chats and agents a fourth to a third of TTFT in simulated fleets near their knee."""

HALVE_AFTER: Final = 2048
"""Requests: some minutes of traffic, enough for a smooth histogram."""

FRESH_HALVE_AFTER: Final = 256
"""Requests, for what is fresh: in an empty fleet all is, and that should not be remembered for minutes."""

AGES_S: Final[tuple[float, ...]] = tuple(2.0 ** (step / 2) for step in range(-2, 26))
"""Ends of the histogram's bins, half a second to an hour and a half, two to an octave."""

READINGS: Final = 4096
"""Readings of the index's clock, one a second: the last hour. Half of them are dropped at a time."""

_FEW_BLOCKS: Final = 1024.0
"""Some 100,000 tokens, dozens of prompts: taken as asked for and held before anything was. The first prompts
are fresh wherever they come from."""


@final
class Reuse:
    """State: the histogram of returns by age, what was used at all, and readings of the index's clock."""

    def __init__(self) -> None:
        self.used = 0.0
        self.returns: list[float] = [0.0] * (len(AGES_S) + 1)
        """Blocks that were used, and that came back by age; not to be written from outside."""
        self._asked = _FEW_BLOCKS
        self._fresh = 0.0
        """Blocks of all prompts, and those of them that nobody held."""
        self._requests = 0
        self._ticks: list[int] = []
        self._times: list[float] = []
        self._latest_s = 0.0

    def read_clock(self, tick: int, now: float) -> None:
        """Writes. The index's clock says `tick` now; to be told about once a second."""
        self._latest_s = now
        if self._ticks and self._ticks[-1] == tick:
            return  # nobody came since
        if len(self._ticks) >= READINGS:
            del self._ticks[: READINGS // 2], self._times[: READINGS // 2]
        self._ticks.append(tick)
        self._times.append(now)

    def restore(self, used: float, returns: list[float]) -> None:
        """Writes. What an earlier router had come to. Another histogram's is left. What is fresh is not kept:
        some hundred requests tell it."""
        if len(returns) == len(self.returns):
            self.used, self.returns = used, list(returns)

    def learn(self, insertion: Insertion, match_depth: int, evicted: list[Ghost], now: float) -> None:
        """Writes. A prompt was used on a slot: what of it the slot held, and when that was last used.

        `match_depth`: how much of it anybody holds; what others hold counts neither way. `evicted`: what all
        had lost of the rest (`PrefixIndex.evicted`), which comes back all the same.
        """
        self._requests += 1
        if self._requests >= HALVE_AFTER:
            self._requests = 0
            self.used /= 2
            self.returns = [weight / 2 for weight in self.returns]
        if self._requests % FRESH_HALVE_AFTER == 0:
            self._asked /= 2
            self._fresh /= 2
        self.used += insertion.count - (match_depth - insertion.held)
        self._asked += insertion.count
        self._fresh += insertion.count - match_depth
        begin = 0
        for end, tick in reversed(insertion.trail):
            end = min(end, insertion.held)
            self._came_back(begin, end, tick, now)
            begin = end
        begin = match_depth
        for ghost in evicted:
            end = min(ghost.end, insertion.count)
            self._came_back(begin, end, ghost.tick, now)
            begin = end

    def _came_back(self, begin: int, end: int, tick: int, now: float) -> None:
        if end > begin:
            self.returns[bisect_right(AGES_S, now - self.time_of(tick))] += end - begin

    @property
    def return_share(self) -> float:
        """Reads. H; 0 before anything was used."""
        returns: float = sum(self.returns)
        return min(1.0, returns / self.used) if self.used else 0.0

    @property
    def fresh_share(self) -> float:
        """Reads. Of all that was asked for lately, what nobody held."""
        return self._fresh / self._asked

    def horizon_s(self) -> float:
        """Reads. The age by which `HORIZON_SHARE` of the returns had come; `inf` when there was none."""
        total = sum(self.returns)
        early = 0.0
        for end_s, weight in zip(AGES_S, self.returns, strict=False):
            early += weight
            if total and early >= HORIZON_SHARE * total:
                return end_s
        return inf

    def time_of(self, tick: int) -> float:
        """Reads. About when the index's clock said so; the latest reading's time for what came since."""
        at = bisect_right(self._ticks, tick)
        if at == len(self._ticks):
            return self._latest_s
        return self._times[max(0, at - 1)]

    def tick_at(self, time: float) -> int:
        """Reads. About what the index's clock said then; 0 before the first reading that is kept."""
        at = bisect_right(self._times, time)
        return self._ticks[at - 1] if at else 0

    def crowding(self, live_share: float) -> float:
        """Reads. Of a cache of which that share is alive: 0 to 1."""
        filled = (live_share - LIVE_LOW) / (LIVE_HIGH - LIVE_LOW)
        return self.return_share * min(1.0, max(0.0, filled))
