"""A journal's lines one after the other, and what they say of the router that wrote them and of how its
requests went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import cast, final

import msgspec

from warmroute_policies.config import BalancerConfig
from warmroute_policies.events import (
    VERSION,
    AnyHeader,
    Finished,
    FirstToken,
    Header,
    Hedged,
    Line,
    PolicySpec,
    Rerouted,
    Routed,
    WorkerAdded,
    WorkerRemoved,
    WorkerUpdated,
)
from warmroute_policies.types import Decision, Outcome, Usage, WorkerId, WorkerSpec
from warmroute_simulator.traces.options import ReadOptions
from warmroute_simulator.traces.source import BAD_LINE, Source


@dataclass(frozen=True, slots=True)
class JournalHeader:
    """What made the journal."""

    policy: PolicySpec
    config: BalancerConfig
    workers: tuple[WorkerSpec, ...]
    """Those that were there at the last request, in the order in which they came."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One request as it went in reality."""

    arrival_s: float
    """Since the first request."""
    worker: WorkerId
    """That answered, or was tried last."""
    prompt_tokens: int
    cached_tokens: int | None
    """None: the engine did not report it."""
    output_tokens: int | None
    ttft_s: float
    """`nan` where the first token was not seen: failures, and answers that are no streams."""
    e2e_s: float
    """`nan` for a request that had not ended when the journal did."""
    predicted_hit_tokens: int
    outcome: Outcome | None


def journal_header(path: Path) -> JournalHeader:
    """The policy, the configuration and the fleet of a live router. Raises TraceError.

    Malformed lines are passed over: whether they may be is for whoever reads the requests to say.
    """
    header: Header | None = None
    present: dict[WorkerId, WorkerSpec] = {}
    workers: tuple[WorkerSpec, ...] = ()
    changed = True
    for _, _, event in events(Source(path, ReadOptions(skip_bad=True))):
        match event:
            case Header():
                header = event
            case WorkerAdded() | WorkerUpdated():
                present[event.worker.worker_id] = event.worker
                changed = True
            case WorkerRemoved():
                present.pop(event.worker_id, None)
                changed = True
            case Routed() if changed:
                workers, changed = tuple(present.values()), False
    assert header is not None  # else `_events` has raised
    return JournalHeader(header.policy, header.config, workers or tuple(present.values()))


def measured(path: Path) -> list[Measured]:
    """How the requests went in reality, in the order in which they came; those that were refused, and those
    about what one worker keeps, are left out.

    Raises TraceError.
    """
    flights: dict[int, Flight] = {}
    rows: list[Flight] = []
    for _, _, event in events(Source(path, ReadOptions())):
        match event:
            case Routed() if event.decision is not None and not kept_elsewhere(event):
                flight = flights[event.request_id] = Flight(event, event.decision, len(rows))
                rows.append(flight)
            case Rerouted() if event.decision is not None and event.request_id in flights:
                flights[event.request_id].legs[event.request_id] = event.decision
            case Hedged() if event.decision is not None and event.request_id in flights:
                flight = flights[event.hedge_id] = flights[event.request_id]
                flight.legs[event.hedge_id] = event.decision
            case FirstToken() if event.request_id in flights:
                flights[event.request_id].first_token_at = event.now
            case Finished() if event.request_id in flights:
                flight = flights.pop(event.request_id)
                if flight.ends(event.request_id):
                    flight.finished = event
    return [flight.measured(rows[0].routed_at) for flight in rows]


def kept_elsewhere(routed: Routed) -> bool:
    """Whether the request was about what one worker keeps: it has no prompt, or one that was put together
    there."""
    return routed.owner is not None and not routed.blocks


@final
class Flight:
    """A request on its way. State: what is known of it so far.

    It has one leg, or two while it is hedged. The leg that ends last is the one whose answer was taken: the
    other was given up when the first byte came, or had failed before.
    """

    __slots__ = ("_last", "finished", "first_token_at", "legs", "max_tokens", "routed_at", "row", "stream")

    def __init__(self, routed: Routed, decision: Decision, row: int) -> None:
        self.row = row
        self.legs = {routed.request_id: decision}
        """Of those that have not ended: the decision by the request's or the hedge's id."""
        self._last = decision
        self.routed_at, self.stream, self.max_tokens = routed.now, routed.stream, routed.max_tokens
        self.first_token_at = nan
        self.finished: Finished | None = None

    @property
    def decision(self) -> Decision:
        """Reads. Of the first leg that has not ended, or of the one that ended last."""
        return next(iter(self.legs.values()), self._last)

    def ends(self, leg: int) -> bool:
        """Writes. A leg has ended; whether the request has."""
        self._last = self.legs.pop(leg)
        return not self.legs

    def measured(self, origin: float) -> Measured:
        """Reads."""
        decision, finished = self.decision, self.finished
        usage = finished.usage if finished is not None and finished.usage is not None else Usage()
        return Measured(
            self.routed_at - origin,
            decision.worker,
            decision.prompt_tokens if usage.prompt_tokens is None else usage.prompt_tokens,
            usage.cached_tokens,
            usage.completion_tokens,
            self.first_token_at - self.routed_at if self.stream else nan,
            nan if finished is None else finished.now - self.routed_at,
            decision.predicted_hit_tokens,
            None if finished is None else finished.outcome,
        )


def events(source: Source) -> Iterator[tuple[int, bytes, Line]]:
    """Numbers, lines and what they say, header first. The last line may be torn, because the writer died.

    Raises TraceError.
    """
    decode = msgspec.json.Decoder(Line).decode
    first = True
    for number, text in source.lines():
        if first:
            _check_version(source, number, text)
        try:
            event = cast("Line", decode(text))
        except BAD_LINE as error:
            if first:
                raise source.told(number, text, error) from error
            if not text.endswith(b"\n"):
                source.count(f"line at the end is torn and left out (line {number})")
                return
            source.reject(number, text, error)
            continue
        if isinstance(event, Header) is not first:
            expected = "a header" if first else "one header; each run of a router is a journal of its own"
            raise source.error(number, None, expected)
        first = False
        yield number, text, event
    if first:
        raise source.error(0, None, "a journal", "an empty file")


def _check_version(source: Source, number: int, text: bytes) -> None:
    """Raises TraceError for the header of another version, before its other fields are judged."""
    try:
        version = msgspec.json.decode(text, type=AnyHeader).version
    except BAD_LINE:
        return  # no header at all, which the caller says
    if version != VERSION:
        raise source.error(number, "version", f"{VERSION}, which is what this release reads", version)
