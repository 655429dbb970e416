"""The router's own journal as a trace: yesterday's traffic, for the policy of tomorrow.

A journal holds block ids and counts, no texts. Arrivals are as recorded (open loop), the first request at 0.
Lengths are what the engine counted, where it reported usage; else the router's estimate, and for answers the
client's `max_tokens`, or 1. A request that was refused is left out, whatever else became of the others; so is
one that only its `owner` could take, since its prompt, if it has one, was put together there.

Blocks are 512 bytes. Of each prompt, bytes and tokens are known, so its new blocks lie evenly between what it
shares with earlier prompts and its end (`continued`); that is the prompt's own ratio of tokens to bytes.
Where the engine reports to have cached a little more than the whole blocks that prompts share, they share
that too.

Which prompts go on from an answered one is not recorded in general, only where the router counted on the
answer (`continued`). A prompt that shares all whole blocks of an answered one, is longer, and leaves room for
its answer goes on from it if the journal says so, or if both are of one session, or if neither has a name
for its session and nothing else ended in that block: many questions behind one system prompt end there too,
and none goes on from another. Where the worker that wrote the answer took the later prompt as well, what it
had cached of it decides.

The trace's notes tell what was measured live, so that it stands beside what is simulated.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from math import ceil
from typing import Final, final

from warmroute_policies.blocks import BLOCK_BYTES, ID_BYTES
from warmroute_policies.events import Finished, FirstToken, Hedged, Rerouted, Routed
from warmroute_policies.types import Outcome, Usage, WorkerId
from warmroute_simulator.traces.chains import NotChainedError
from warmroute_simulator.traces.continued import NO_ROW, ContinuedPrompts
from warmroute_simulator.traces.journal_events import (
    Flight,
    events,
    journal_header,
    kept_elsewhere,
    measured,
)
from warmroute_simulator.traces.source import (
    BAD_LINE,
    MOST_BYTES,
    MOST_SECONDS,
    MOST_TOKENS,
    Malformed,
    Source,
)
from warmroute_simulator.traces.trace import NO_SESSION, Trace

__all__ = ["journal_header", "measured", "read"]

_SEVERAL: Final = -1
"""Instead of a prompt's length: prompts of different lengths ended in this block."""
_UNKNOWN: Final = -1
"""The engine did not say how many tokens it had cached."""

# Engines count hits in pages: a hit of all that is shared may be reported as this much less.
_PAGE_TOKENS: Final = 16


def read(source: Source) -> Trace:
    """A journal as a trace, open loop. Raises TraceError."""
    return _Reader(source).read()


@final
class _Live:
    """How it went in reality. State: sums over the requests whose engines told what they had cached, and the
    streamed requests' times to first token."""

    __slots__ = ("cached_tokens", "prompt_tokens", "ttfts_s")

    def __init__(self) -> None:
        self.cached_tokens = self.prompt_tokens = 0
        self.ttfts_s = array("d")

    def note(self) -> str | None:
        """Reads. In words; None when nothing was measured."""
        parts = []
        if self.prompt_tokens:
            parts.append(f"hit rate {100 * self.cached_tokens / self.prompt_tokens:.1f} %")
        if self.ttfts_s:
            ordered = sorted(self.ttfts_s)
            mean = sum(ordered) / len(ordered)
            p50, p99 = (ordered[ceil(share * len(ordered)) - 1] for share in (0.5, 0.99))
            mean_ms, p50_ms, p99_ms = (f"{1000 * value:,.1f} ms" for value in (mean, p50, p99))
            parts.append(f"mean TTFT {mean_ms} (p50 {p50_ms}, p99 {p99_ms})")
        return f"measured live: {', '.join(parts)}" if parts else None


@final
class _Reader:
    """State: requests in flight, columns with a row for each routed one, and which prompts were answered."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._prompts = ContinuedPrompts()
        self._flights: dict[int, Flight] = {}
        self._arrivals_s = array("d")
        self._sessions = array("i")
        self._workers: list[WorkerId] = []
        self._cached = array("i")
        self._live = _Live()
        self._left_out: set[int] = set()
        self._told: dict[int, int] = {}
        """Rows that go on from an answer because the journal says so."""
        self._maybe: dict[int, int] = {}
        """Rows that may go on from an answer."""
        self._session_numbers: dict[str, int] = {}
        self._models: set[str] = set()
        self._answered: dict[int, int] = {}
        """The latest answered row by the serial number of its prompt's last block, ..."""
        self._answered_in: dict[tuple[int, int], int] = {}
        """... and by that and its session."""
        self._lengths: dict[int, float] = {}
        """Length in blocks of the prompts that ended in a block, or _SEVERAL."""

    def read(self) -> Trace:
        source, prompts = self._source, self._prompts
        limit = source.options.limit
        for number, text, event in events(source):
            enough = limit is not None and len(prompts) >= limit
            if enough and not self._flights:
                break
            try:
                match event:
                    case Routed() if not enough:
                        self._routed(event)
                    case Rerouted() if event.request_id in self._flights:
                        self._rerouted(event)
                    case Hedged() if event.decision is not None and event.request_id in self._flights:
                        flight = self._flights[event.hedge_id] = self._flights[event.request_id]
                        flight.legs[event.hedge_id] = event.decision
                    case FirstToken() if event.request_id in self._flights:
                        self._first_token(event)
                    case Finished() if event.request_id in self._flights:
                        self._finished(event)
            except BAD_LINE as error:
                source.reject(number, text, error)
        for flight in set(self._flights.values()):
            source.count("requests had not ended")
            self._set_output(flight, None)
        return self._trace()

    def _routed(self, event: Routed) -> None:
        """Writes. A new row. Raises Malformed."""
        decision, source = event.decision, self._source
        if decision is None:
            source.count("requests were refused by the router and are left out")
            return
        if not 0 <= event.bytes_len <= MOST_BYTES:
            raise Malformed("bytes_len", f"0 to {MOST_BYTES} bytes", event.bytes_len)
        if kept_elsewhere(event):
            source.count("requests about what one worker keeps are left out")
            return
        blocks = event.bytes_len / BLOCK_BYTES
        if len(event.blocks) % ID_BYTES or blocks < len(event.blocks) // ID_BYTES:
            expected = f"8 bytes for each whole block of {event.bytes_len} bytes"
            raise Malformed("blocks", expected, f"{len(event.blocks)} bytes")
        if abs(event.now) > MOST_SECONDS:
            raise Malformed("now", "seconds", event.now)
        tokens = decision.prompt_tokens if event.prompt_tokens is None else event.prompt_tokens
        if not 0 <= tokens <= MOST_TOKENS:
            raise Malformed("decision.prompt_tokens", f"0 to {MOST_TOKENS} tokens", tokens)
        ids = array("q", event.blocks)
        if sys.byteorder == "big":
            ids.byteswap()
        try:
            row = self._prompts.add(ids, blocks, max(1, tokens), 1)
        except NotChainedError as error:
            raise Malformed("blocks", "ids that stand for a block and all before it", error) from error
        session = NO_SESSION
        if event.session is not None:
            session = self._session_numbers.setdefault(event.session, len(self._session_numbers))
        self._models.add(event.model)
        self._arrivals_s.append(event.now)
        self._sessions.append(session)
        self._workers.append(sys.intern(decision.worker))
        self._cached.append(_UNKNOWN)
        self._flights[event.request_id] = Flight(event, decision, row)
        self._look_back(row, event.continued)
        end = self._prompts.ends[row]
        if self._lengths.setdefault(end, blocks) != blocks:
            self._lengths[end] = _SEVERAL

    def _look_back(self, row: int, told: bool) -> None:
        """Writes. Which answered prompt this one may go on from."""
        known = self._prompts.afters[row]
        if known < 0:
            return
        former = self._answered_in.get((known, self._sessions[row]), NO_ROW)
        if former == NO_ROW:
            former = self._answered.get(known, NO_ROW)
        if former != NO_ROW and self._prompts.blocks[former] < self._prompts.blocks[row]:
            (self._told if told else self._maybe)[row] = former

    def _rerouted(self, event: Rerouted) -> None:
        """Writes. Another worker, or none."""
        flight = self._flights[event.request_id]
        if event.decision is None:
            return
        flight.legs[event.request_id] = event.decision
        self._workers[flight.row] = sys.intern(event.decision.worker)
        if event.continued:
            self._look_back(flight.row, told=True)

    def _first_token(self, event: FirstToken) -> None:
        """Writes. Of an answer that comes whole nobody saw the first token."""
        flight = self._flights[event.request_id]
        if flight.stream:
            self._live.ttfts_s.append(event.now - flight.routed_at)

    def _finished(self, event: Finished) -> None:
        """Writes. The end of a request, and what the engine counted. Raises Malformed."""
        usage = Usage() if event.usage is None else event.usage
        for field in ("prompt_tokens", "completion_tokens", "cached_tokens"):
            count = getattr(usage, field)
            if count is not None and not 0 <= count <= MOST_TOKENS:
                raise Malformed(f"usage.{field}", f"0 to {MOST_TOKENS} tokens", count)
        flight = self._flights.pop(event.request_id)
        if not flight.ends(event.request_id):
            return  # its hedge goes on, or it does without its hedge
        row = flight.row
        self._workers[row] = sys.intern(flight.decision.worker)
        if event.outcome is Outcome.CLIENT_ERROR:
            self._source.count("requests were refused by their worker and are left out")
            self._left_out.add(row)
            return
        if event.outcome is not Outcome.OK:
            self._source.count(f"requests ended with {event.outcome.value}")
        prompts = self._prompts
        if usage.prompt_tokens:
            prompts.tokens[row] = usage.prompt_tokens
        if usage.cached_tokens is not None:
            self._cached[row] = usage.cached_tokens
            self._live.cached_tokens += usage.cached_tokens
            self._live.prompt_tokens += prompts.tokens[row]
        self._set_output(flight, usage.completion_tokens)
        if event.outcome is Outcome.OK and usage.completion_tokens:
            self._answered[prompts.ends[row]] = row
            if self._sessions[row] != NO_SESSION:
                self._answered_in[prompts.ends[row], self._sessions[row]] = row

    def _set_output(self, flight: Flight, completion_tokens: int | None) -> None:
        """Writes. The answer's length, as counted or guessed."""
        tokens = completion_tokens
        if tokens is None:
            limit = flight.max_tokens
            said = "their `max_tokens`" if limit else "one token"
            self._source.count(f"requests without a counted answer are taken to have {said}")
            tokens = limit or 1
        self._prompts.output_tokens[flight.row] = min(max(1, tokens), MOST_TOKENS)

    def _goes_on(self, row: int, former: int, forks: int) -> bool:
        """Reads. Whether a prompt that shares all blocks of an answered one goes on from its answer."""
        sessions, prompts = self._sessions, self._prompts
        if sessions[row] != sessions[former]:
            return False
        one_session = sessions[row] != NO_SESSION
        crowded = forks > 1 or self._lengths[prompts.ends[former]] == _SEVERAL
        if self._cached[row] != _UNKNOWN and self._workers[row] == self._workers[former]:
            # The engine that wrote the answer says how much of this prompt it had.
            if self._cached[row] > prompts.tokens[former] + prompts.output_tokens[former] // 2:
                return True
            return one_session and not crowded
        return one_session or not crowded

    def _trace(self) -> Trace:
        """Reads. The trace of all that was not left out."""
        prompts = self._prompts
        forks = Counter(prompts.afters[row] for row, run in enumerate(prompts.new_runs) if run >= 0)
        for row, former in self._maybe.items():
            if self._goes_on(row, former, forks[prompts.afters[row]]):
                prompts.continues[row] = former
        for row, former in self._told.items():
            prompts.continues[row] = former
        prompts.extras = self._extras()
        tree, nodes, answers = prompts.tree()
        trace = Trace(self._source.name, tree)
        for row, node in enumerate(nodes):
            if row not in self._left_out:
                trace.add(
                    node,
                    prompts.output_tokens[row],
                    arrival_s=self._arrivals_s[row],
                    answer=answers[row],
                    session=self._sessions[row],
                )
        if len(self._models) > 1:
            trace.notes.append(f"of {len(self._models)} models, which are simulated as one")
        live = self._live.note()
        if live is not None:
            trace.notes.append(live)
        return trace

    def _extras(self) -> dict[int, int]:
        """Reads. What prompts share behind their last common block: where the engine had cached more of them
        than whole blocks, but not a block more."""
        prompts = self._prompts
        found: dict[int, list[int]] = {}
        for row, shared in enumerate(prompts.shared_tokens()):
            known = prompts.afters[row]
            if shared < 0 or self._cached[row] == _UNKNOWN or (known < 0 and len(self._models) > 1):
                continue
            extra = self._cached[row] - shared
            if -_PAGE_TOKENS < extra < prompts.tokens[row] / max(1.0, prompts.blocks[row]):
                found.setdefault(known, []).append(extra)
        usual = {known: sorted(extras)[(len(extras) - 1) // 2] for known, extras in found.items()}
        return {known: extra for known, extra in usual.items() if extra > 0}
