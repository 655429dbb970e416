"""Which prompts of a journal go on from an answer, and what prompts share beyond whole blocks.

An engine that wrote an answer holds its KV, and a prompt that goes on from it finds that there. Which prompts
do is not recorded in general, only where the router counted on the answer (`told`). A prompt that shares all
whole blocks of an answered one, is longer, and leaves room for its answer goes on from it if the journal says
so, or if both are of one session, or if neither has a name for its session and nothing else ended in that
block: many questions behind one system prompt end there too, and none goes on from another.

All of this is belief: a client may send back another text than the engine wrote (without its reasoning, say).
Where the worker that wrote the answer took the later prompt as well, what it had cached of it decides; and
where most of those that can be checked do not go on from an answer, none is believed to.

Prompts that part within a block share its beginning. How much that is, engines tell too.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from math import gcd
from typing import Final, final

from warmroute_policies.types import WorkerId
from warmroute_simulator.traces.continued import NO_ROW, ContinuedPrompts
from warmroute_simulator.traces.trace import NO_SESSION

_SEVERAL: Final = -1
"""Instead of a prompt's length: prompts of different lengths ended in this block."""
_UNKNOWN: Final = -1
"""The engine did not say how many tokens it had cached."""

# Engines count hits in pages of 1 to 256 tokens: a hit of all that is shared may be reported as this much
# less. Where blocks lie is guessed, so nothing is known closer than the smaller bound.
_LEAST_PAGE_TOKENS: Final = 16
_MOST_PAGE_TOKENS: Final = 256


@final
class Answered:
    """State: of each prompt its session, its worker and what that had cached; and which prompts may go on
    from which answered ones."""

    __slots__ = (
        "_answered",
        "_answered_in",
        "_cached",
        "_lengths",
        "_maybe",
        "_prompts",
        "_sessions",
        "_told",
        "_workers",
    )

    def __init__(self, prompts: ContinuedPrompts) -> None:
        self._prompts = prompts
        self._sessions = array("i")
        self._workers: list[WorkerId] = []
        self._cached = array("i")
        self._told: dict[int, int] = {}
        """Rows that go on from an answer because the journal says so."""
        self._maybe: dict[int, int] = {}
        """Rows that may go on from an answer."""
        self._answered: dict[int, int] = {}
        """The latest answered row by the serial number of its prompt's last block, ..."""
        self._answered_in: dict[tuple[int, int], int] = {}
        """... and by that and its session."""
        self._lengths: dict[int, float] = {}
        """Length in blocks of the prompts that ended in a block, or _SEVERAL."""

    def routed(self, session: int, worker: WorkerId, *, told: bool) -> None:
        """Writes. The prompt that was added last."""
        prompts, row = self._prompts, len(self._workers)
        self._sessions.append(session)
        self._workers.append(sys.intern(worker))
        self._cached.append(_UNKNOWN)
        self._look_back(row, told)
        end, blocks = prompts.ends[row], prompts.blocks[row]
        if self._lengths.setdefault(end, blocks) != blocks:
            self._lengths[end] = _SEVERAL

    def rerouted(self, row: int, worker: WorkerId, *, told: bool) -> None:
        """Writes. Another worker."""
        self._workers[row] = sys.intern(worker)
        if told:
            self._look_back(row, told)

    def finished(self, row: int, worker: WorkerId, cached_tokens: int | None, *, whole: bool) -> None:
        """Writes. The end of a request: who took it in the end, what that had cached of its prompt, and
        whether there is a whole answer to go on from."""
        self._workers[row] = sys.intern(worker)
        if cached_tokens is not None:
            self._cached[row] = cached_tokens
        if whole:
            end, session = self._prompts.ends[row], self._sessions[row]
            self._answered[end] = row
            if session != NO_SESSION:
                self._answered_in[end, session] = row

    def settle(self, *, one_model: bool) -> None:
        """Writes. When all prompts are known: which go on from answers, and what else they share."""
        page = min(max(1, gcd(*(max(0, cached) for cached in self._cached))), _MOST_PAGE_TOKENS)
        for row, former in self._continues(page).items():
            self._prompts.continues[row] = former
        self._prompts.extras = self._extras(max(page, _LEAST_PAGE_TOKENS), one_model)

    def _look_back(self, row: int, told: bool) -> None:
        """Writes. Which answered prompt this one may go on from."""
        known = self._prompts.afters[row]
        if known < 0:
            return
        former = self._answered_in.get((known, self._sessions[row]), NO_ROW)
        if former == NO_ROW:
            former = self._answered.get(known, NO_ROW)
        if former == NO_ROW or self._prompts.blocks[former] >= self._prompts.blocks[row]:
            return
        if told:
            self._told[row] = former
        elif self._sessions[former] == self._sessions[row]:
            self._maybe[row] = former

    def _believed(self, row: int, former: int, forks: int) -> bool:
        """Reads. Whether a prompt that shares all blocks of an answered one goes on from its answer, as the
        router may think."""
        if row in self._told:
            return True
        one_session = self._sessions[row] != NO_SESSION
        crowded = forks > 1 or self._lengths[self._prompts.ends[former]] == _SEVERAL
        if self._same_engine(row, former):
            return one_session and not crowded
        return one_session or not crowded

    def _seen(self, row: int, former: int, page: int) -> bool | None:
        """Reads. The same as the engine that wrote the answer saw it; None where its count tells nothing."""
        if not self._same_engine(row, former):
            return None
        prompts, cached = self._prompts, self._cached[row]
        answer = prompts.output_tokens[former]
        if cached > prompts.tokens[former] + max(0, answer // 2 - page):
            return True
        per_block = prompts.tokens[former] / max(1.0, prompts.blocks[former])
        still_held = cached > prompts.tokens[former] - per_block - page
        # An answer of less than a page may stand in the page that was not full, which is no hit.
        return False if still_held and answer > page else None

    def _same_engine(self, row: int, former: int) -> bool:
        return self._cached[row] != _UNKNOWN and self._workers[row] == self._workers[former]

    def _continues(self, page: int) -> dict[int, int]:
        """Reads. The prompts that go on from an answer, each with the row of that."""
        prompts = self._prompts
        forks = Counter(prompts.afters[row] for row, run in enumerate(prompts.new_runs) if run >= 0)
        maybe = self._maybe | self._told
        seen = {row: self._seen(row, former, page) for row, former in maybe.items()}
        believed = {
            row for row, former in maybe.items() if self._believed(row, former, forks[prompts.afters[row]])
        }
        checked = Counter(seen[row] for row in believed)
        if checked[True] < checked[False]:
            believed = set()
        return {
            row: former
            for row, former in maybe.items()
            if seen[row] or (seen[row] is None and row in believed)
        }

    def _extras(self, page: int, one_model: bool) -> dict[int, int]:
        """Reads. What prompts share behind their last common block: where the engine had cached more of them
        than whole blocks, but not a block more. Where no engine could tell, and the journal says that the
        former prompt was taken up again, but not its answer: its end."""
        prompts = self._prompts
        found: dict[int, list[int]] = {}
        shared_tokens = prompts.shared_tokens()
        for row, shared in enumerate(shared_tokens):
            known = prompts.afters[row]
            if shared < 0 or self._cached[row] == _UNKNOWN or (known < 0 and not one_model):
                continue
            extra = self._cached[row] - shared
            if -page < extra < prompts.tokens[row] / max(1.0, prompts.blocks[row]):
                found.setdefault(known, []).append(extra)
        usual = {known: sorted(extras)[(len(extras) - 1) // 2] for known, extras in found.items()}
        for row, former in self._told.items():
            if shared_tokens[row] >= 0:
                usual.setdefault(prompts.afters[row], prompts.tokens[former] - shared_tokens[row])
        return {known: extra for known, extra in usual.items() if extra > 0}
