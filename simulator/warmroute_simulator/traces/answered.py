"""Which prompts of a journal go on from an answer, and what prompts share beyond whole blocks.

An engine that wrote an answer holds its KV, and a prompt that goes on from it finds that there. Which prompts
do is not recorded; some can be believed to. The journal says where the router counted on the answer (`told`).
Else a prompt must share all whole blocks of an answered one, be longer, and leave room for its answer. Then
it is believed if both are of one session, or if neither names its session, nothing else went on or ended
there (many questions behind one system prompt do, and none goes on from another), and no engine could have
said so.

Belief may be wrong: a client may send back another text than the engine wrote (without its reasoning, say).
Where the worker that wrote the answer took the later prompt as well, what it had cached of it decides. And
where most of a model's believed prompts that can be checked like this do not go on from an answer, none of
those that cannot be checked is believed to.

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
# less. Few counts may have a larger divisor by chance.
_MOST_PAGE_TOKENS: Final = 256
# Nothing is known closer than this: templates may end a prompt otherwise when its answer follows, and where
# blocks lie is guessed.
_SLACK_TOKENS: Final = 16


@final
class AnsweredPrompts:
    """State: of each prompt its session and model, its worker and what that had cached; and which prompts may
    go on from which answered ones."""

    __slots__ = (
        "_answered",
        "_answered_in",
        "_cached",
        "_lengths",
        "_maybe",
        "_models",
        "_pages",
        "_prompts",
        "_told",
        "_workers",
        "sessions",
    )

    def __init__(self, prompts: ContinuedPrompts) -> None:
        self._prompts = prompts
        self.sessions = array("i")
        """Numbers, or NO_SESSION."""
        self._models = array("i")
        self._workers: dict[int, WorkerId] = {}
        """Of the rows that ended."""
        self._cached = array("i")
        self._pages: dict[WorkerId, int] = {}
        """What all counts of a worker can be divided by."""
        self._told: dict[int, int] = {}
        """Rows where the router counted on an answer, and the answered row."""
        self._maybe: dict[int, int] = {}
        """Other rows that may go on from an answer."""
        self._answered: dict[int, int] = {}
        """The latest answered row by the serial number of its prompt's last block, ..."""
        self._answered_in: dict[tuple[int, int], int] = {}
        """... and by that and its session."""
        self._lengths: dict[int, float] = {}
        """Length in blocks of the prompts that ended in a block, or _SEVERAL."""

    def routed(self, session: int, model: int, *, told: bool) -> None:
        """Writes. The prompt that was added last; `model` is a number of it."""
        prompts, row = self._prompts, len(self.sessions)
        self.sessions.append(session)
        self._models.append(model)
        self._cached.append(_UNKNOWN)
        self.look_back(row, told=told)
        end, blocks = prompts.ends[row], prompts.blocks[row]
        if self._lengths.setdefault(end, blocks) != blocks:
            self._lengths[end] = _SEVERAL

    def look_back(self, row: int, *, told: bool) -> None:
        """Writes. A worker was chosen for the prompt, for the first time or again: which answered one may it
        go on from?"""
        known = self._prompts.afters[row]
        if known < 0 or row in self._told:
            return
        former = self._answered_in.get((known, self.sessions[row]), NO_ROW)
        if former == NO_ROW:
            former = self._answered.get(known, NO_ROW)
        if former > row:  # came after this one, but was answered before it was sent elsewhere
            former = self._maybe.get(row, NO_ROW)
        if former == NO_ROW or self._prompts.blocks[former] >= self._prompts.blocks[row]:
            return
        if told:
            self._told[row] = former
        elif self.sessions[former] == self.sessions[row]:
            self._maybe[row] = former

    def ended(self, row: int, worker: WorkerId, cached_tokens: int | None, *, answered: bool) -> None:
        """Writes. Who took the request in the end, what that had cached of its prompt, and whether there is a
        whole answer to go on from."""
        self._workers[row] = worker = sys.intern(worker)
        if cached_tokens is not None:
            self._cached[row] = cached_tokens
            self._pages[worker] = gcd(self._pages.get(worker, 0), cached_tokens)
        if answered:
            end, session = self._prompts.ends[row], self.sessions[row]
            self._answered[end] = row
            if session != NO_SESSION:
                self._answered_in[end, session] = row

    def settle(self) -> None:
        """Writes. When all prompts are known: which go on from answers, and what they share besides."""
        prompts = self._prompts
        forks = Counter(prompts.afters[row] for row, run in enumerate(prompts.new_runs) if run >= 0)
        for row, former in self._continues(forks).items():
            prompts.continues[row] = former
        prompts.extras = self._extras(forks)

    def _continues(self, forks: Counter[int]) -> dict[int, int]:
        """Reads. The prompts that go on from an answer, each with the row of that."""
        maybe = self._maybe | self._told
        seen = {row: self._seen(row, former) for row, former in maybe.items()}
        believed = {row for row in maybe if self._believed(row, forks)}
        balance: Counter[int] = Counter()
        for row in believed:
            said = seen[row]
            if said is not None:
                balance[self._models[row]] += 1 if said else -1
        believed = {row for row in believed if balance[self._models[row]] >= 0}
        return {
            row: former
            for row, former in maybe.items()
            if seen[row] or (seen[row] is None and row in believed)
        }

    def _believed(self, row: int, forks: Counter[int]) -> bool:
        """Reads. Whether a prompt goes on from an answer as far as the router can know."""
        if row in self._told:
            return True
        one_session = self.sessions[row] != NO_SESSION
        crowded = self._crowded(self._prompts.afters[row], forks)
        if self._same_engine(row, self._maybe[row]):
            return one_session and not crowded
        return one_session or not crowded

    def _seen(self, row: int, former: int) -> bool | None:
        """Reads. Whether the engine that wrote an answer found it in a later prompt; None where its count
        does not tell."""
        if not self._same_engine(row, former):
            return None
        cached, page = self._cached[row], self._page(row)
        prompt, answer = self._prompts.tokens[former], self._prompts.output_tokens[former]
        if cached > prompt + max(0, answer // 2 - page):
            return True
        # With less than all of the former prompt the answer is gone too, wherever the prompt goes on from. An
        # answer of less than a page may stand in one that was not full, which is no hit.
        whole_prompt = cached > prompt - page - _SLACK_TOKENS
        return False if cached and whole_prompt and answer > page else None

    def _extras(self, forks: Counter[int]) -> dict[int, int]:
        """Reads. What prompts share behind their last common block: where engines had cached more of them
        than whole blocks, but not a block more. Behind blocks of which no engine tells, and where one prompt
        alone was taken up again without its answer: the end of that."""
        prompts = self._prompts
        one_model = len(set(self._models)) <= 1
        found: dict[int, list[int]] = {}
        shared_tokens = prompts.shared_tokens()
        for row, shared in enumerate(shared_tokens):
            known, cached = prompts.afters[row], self._cached[row]
            if shared < 0 or cached == _UNKNOWN or (known < 0 and not one_model) or cached == 0 < shared:
                continue
            extra = cached - shared
            if -max(self._page(row), _SLACK_TOKENS) < extra < self._block_tokens(row):
                found.setdefault(known, []).append(extra)
        usual = {known: sorted(extras)[(len(extras) - 1) // 2] for known, extras in found.items()}
        for row, former in self._told.items():
            known, extra = prompts.afters[row], prompts.tokens[former] - shared_tokens[row]
            alone = shared_tokens[row] >= 0 and not self._crowded(known, forks)
            if alone and extra < self._block_tokens(former):
                usual.setdefault(known, extra)
        return {known: extra for known, extra in usual.items() if extra > 0}

    def _crowded(self, block: int, forks: Counter[int]) -> bool:
        """Reads. Whether several prompts part behind a block, or several different ones end in it."""
        return forks[block] > 1 or self._lengths[block] == _SEVERAL

    def _same_engine(self, row: int, former: int) -> bool:
        """Reads. Whether one worker took both, and told what it had cached of the later one."""
        return self._cached[row] != _UNKNOWN and self._workers[row] == self._workers[former]

    def _page(self, row: int) -> int:
        return min(max(1, self._pages[self._workers[row]]), _MOST_PAGE_TOKENS)

    def _block_tokens(self, row: int) -> float:
        return self._prompts.tokens[row] / max(1.0, self._prompts.blocks[row])
