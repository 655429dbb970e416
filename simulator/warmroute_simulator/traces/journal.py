"""The router's own journal as a trace: yesterday's traffic, for the policy of tomorrow.

A journal holds block ids and counts, no texts. Arrivals are as recorded (open loop), the first request at 0.
Lengths are what the engine counted, where it reported usage; else the router's estimate, and for answers the
client's `max_tokens`, or 1. A request that was refused is left out, whatever else became of the others; so is
one that only its `owner` could take, since its prompt, if it has one, was put together there.

Blocks are 512 bytes. Of each prompt, bytes and tokens are known, so its new blocks lie evenly between what it
shares with earlier prompts and its end (`continued`); that is the prompt's own ratio of tokens to bytes. What
prompts share beyond whole blocks is found out in `answered`.

The trace's notes tell what was measured live, so that it stands beside what is simulated.
"""

from __future__ import annotations

import sys
from array import array
from math import ceil
from typing import final

from warmroute_policies.blocks import BLOCK_BYTES, ID_BYTES
from warmroute_policies.events import Finished, FirstToken, Hedged, Rerouted, Routed
from warmroute_policies.types import Outcome, Usage
from warmroute_simulator.traces.answered import AnsweredPrompts
from warmroute_simulator.traces.chains import NotChainedError
from warmroute_simulator.traces.continued import ContinuedPrompts
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
        self._answered = AnsweredPrompts(self._prompts)
        self._live = _Live()
        self._left_out: set[int] = set()
        self._session_numbers: dict[str, int] = {}
        self._models: dict[str, int] = {}

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
        model = self._models.setdefault(event.model, len(self._models))
        self._arrivals_s.append(event.now)
        self._flights[event.request_id] = Flight(event, decision, row)
        self._answered.routed(session, model, told=event.continued)

    def _rerouted(self, event: Rerouted) -> None:
        """Writes. Another worker, or none."""
        flight = self._flights[event.request_id]
        if event.decision is None:
            return
        flight.legs[event.request_id] = event.decision
        if event.continued:
            self._answered.look_back(flight.row, told=True)

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
            self._live.cached_tokens += usage.cached_tokens
            self._live.prompt_tokens += prompts.tokens[row]
        self._set_output(flight, usage.completion_tokens)
        answered = event.outcome is Outcome.OK and bool(usage.completion_tokens)
        self._answered.ended(row, flight.decision.worker, usage.cached_tokens, answered=answered)

    def _set_output(self, flight: Flight, completion_tokens: int | None) -> None:
        """Writes. The answer's length, as counted or guessed."""
        tokens = completion_tokens
        if tokens is None:
            limit = flight.max_tokens
            said = "their `max_tokens`" if limit else "one token"
            self._source.count(f"requests without a counted answer are taken to have {said}")
            tokens = limit or 1
        self._prompts.output_tokens[flight.row] = min(max(1, tokens), MOST_TOKENS)

    def _trace(self) -> Trace:
        """Writes. Settles what is to be known of the prompts; the trace of all that was not left out."""
        prompts = self._prompts
        self._answered.settle()
        tree, nodes, answers = prompts.tree()
        trace = Trace(self._source.name, tree)
        for row, node in enumerate(nodes):
            if row not in self._left_out:
                trace.add(
                    node,
                    prompts.output_tokens[row],
                    arrival_s=self._arrivals_s[row],
                    answer=answers[row],
                    session=self._answered.sessions[row],
                )
        if len(self._models) > 1:
            trace.notes.append(f"of {len(self._models)} models, which are simulated as one")
        live = self._live.note()
        if live is not None:
            trace.notes.append(live)
        return trace
