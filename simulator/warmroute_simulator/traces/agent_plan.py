"""What waits for what in an agent's session: the requests of the agent and of its sub-agents, in one order.

A client thinks (runs tools, waits for a person) from an answer to the next request. `think_time` says how
long. It cannot be believed where the former request does not say how long it took (`api_time`): it then
exceeds the time between the two requests, by minutes on average. There the smaller of the two counts.

Sub-agents. Consecutive markers belong to the request before them, whose answer started them all. Their `t` is
when they *ended* if that makes none of them begin before that answer came, nor have a request after its end;
else it is when they began.
Requests of a sub-agent count their `t` from its beginning; some files count from the session's, which shows
in a first `t` that is not before the beginning. A sub-agent waits for the former request, or for the
sub-agents of the same place that had ended when it began; the agent goes on when all of them are done, after
as long as it did when it was recorded.
"""

from __future__ import annotations

from array import array
from typing import Annotated, Final, NamedTuple, final

import msgspec

from warmroute_simulator.traces.chains import packed
from warmroute_simulator.traces.source import (
    MOST_SECONDS,
    MOST_TOKENS,
    Malformed,
    Milliseconds,
    OutputTokens,
    PromptTokens,
    Seconds,
    Source,
)

# Larger ones would meet the ids that are common to sessions, below zero in 64 bits.
_BlockId = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]

_SUBAGENT: Final = "subagent"

# Times `t` are rounded to whole seconds.
_ROUNDING_S: Final = 1.0

# Ids up to here come as slices of one array, which is much faster than counting them out.
_COUNTED: Final = 1 << 16
_counted: Final = array("q", range(_COUNTED))


class Entry(msgspec.Struct, gc=False):
    """A request, or a marker of a sub-agent with its requests."""

    type: str = "n"
    t: Seconds | None = None
    prompt_tokens: PromptTokens | None = msgspec.field(name="in", default=None)
    output_tokens: OutputTokens | None = msgspec.field(name="out", default=None)
    hash_ids: list[_BlockId] | None = None
    hash_ids_rle: list[_BlockId] | None = None
    api_time: Seconds | None = None
    think_time: Seconds | None = None
    requests: list[Entry] = []
    duration_ms: Milliseconds | None = None
    tool_tokens: _Size = 0
    system_tokens: _Size = 0


class Session(msgspec.Struct, gc=False):
    """A line."""

    requests: list[Entry]
    block_size: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 64
    hash_id_scope: str = "local"
    tool_tokens: _Size = 0
    system_tokens: _Size = 0


@final
class Planned:
    """A request and what it waits for: places in the session's plan, all earlier than its own."""

    __slots__ = ("after", "head_key", "ids", "output_tokens", "path", "prompt_tokens", "think_s")

    def __init__(
        self,
        path: str,
        ids: array[int],
        prompt_tokens: int,
        output_tokens: int,
        after: tuple[int, ...],
        think_s: float,
        head_key: tuple[int, int],
    ) -> None:
        self.path = path
        """Where in the line it stands."""
        self.ids = ids
        self.prompt_tokens, self.output_tokens = prompt_tokens, output_tokens
        self.after, self.think_s = after, think_s
        self.head_key = head_key
        """Tokens of the agent's tool definitions and of its system prompt."""


def plan(session: Session, source: Source) -> list[Planned]:
    """The requests of a session, in an order in which nothing waits for what comes later.

    Raises Malformed.
    """
    planner = _Planner(source)
    start = session.requests[0].t if session.requests else None
    agent = _Agent(session.requests, "requests", (session.tool_tokens, session.system_tokens))
    planner.plan(agent, _Ready((), start or 0.0), 0.0)
    return planner.planned


class _Agent(NamedTuple):
    """An agent or a sub-agent."""

    entries: list[Entry]
    path: str
    """Where in the line its entries stand."""
    head_key: tuple[int, int]


class _Ready(NamedTuple):
    """What is waited for: places in the plan, and when they had ended as it was recorded."""

    after: tuple[int, ...]
    at: float


@final
class _Planner:
    """State: what is planned so far."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.planned: list[Planned] = []

    def plan(self, agent: _Agent, ready: _Ready, delay_s: float) -> _Ready:
        """Writes. An agent's requests; what ends last. The first comes `delay_s` after what is `ready`, and
        as much later as its `t` is than `ready.at`."""
        entries, former = agent.entries, None
        place = 0
        while place < len(entries):
            entry = entries[place]
            if entry.type == _SUBAGENT:
                stop = place + 1
                while stop < len(entries) and entries[stop].type == _SUBAGENT:
                    stop += 1
                helped = self._subagents(agent, place, stop, ready, delay_s)
                if helped is not None:
                    ready, former, delay_s = helped, None, 0.0
                place = stop
                continue
            start = entry.t or 0.0
            think_s = self._think_s(former, entry) if former else delay_s + max(0.0, start - ready.at)
            at = self._request(agent, place, ready.after, think_s)
            ready = _Ready((at,), start + (entry.api_time or 0.0))
            former, delay_s = entry, 0.0
            place += 1
        return ready

    def _subagents(
        self, agent: _Agent, first: int, stop: int, ready: _Ready, delay_s: float
    ) -> _Ready | None:
        """Writes. The sub-agents of consecutive markers; None when they did nothing."""
        entries = agent.entries
        markers = [(place, entries[place]) for place in range(first, stop) if entries[place].requests]
        spans = sorted(_spans(markers, ready.at))
        done: list[_Ready] = []
        for began, ended, place in spans:
            marker = entries[place]
            before = max(
                (other for other in done if other.at <= began), key=lambda other: other.at, default=ready
            )
            wait_s = max(0.0, began - before.at) + (delay_s if before is ready else 0.0)
            nested_t = marker.requests[0].t or 0.0
            clock = began if 0 < began - _ROUNDING_S <= nested_t else 0.0
            helper = _Agent(
                marker.requests, f"{agent.path}[{place}].requests", (marker.tool_tokens, marker.system_tokens)
            )
            after = self.plan(helper, _Ready(before.after, clock), wait_s).after
            done.append(_Ready(after, ended))
        if not done:
            return None
        return _Ready(tuple(place for one in done for place in one.after), max(one.at for one in done))

    def _request(self, agent: _Agent, place: int, after: tuple[int, ...], think_s: float) -> int:
        """Writes. One request; its place in the plan. Raises Malformed."""
        entry, path = agent.entries[place], f"{agent.path}[{place}]"
        if entry.prompt_tokens is None:
            raise Malformed(f"{path}.in", "it to be there")
        if entry.output_tokens is None:
            raise Malformed(f"{path}.out", "it to be there")
        if not entry.output_tokens:
            self._source.count("requests without an answer are taken to have one token of it")
        ids = packed(entry.hash_ids or ())
        if entry.hash_ids_rle:
            ids = _expanded(entry.hash_ids_rle, entry.prompt_tokens, path)
        output_tokens = max(1, entry.output_tokens)
        self.planned.append(
            Planned(
                path,
                ids,
                entry.prompt_tokens,
                output_tokens,
                after,
                min(think_s, MOST_SECONDS),
                agent.head_key,
            )
        )
        return len(self.planned) - 1

    def _think_s(self, former: Entry, entry: Entry) -> float:
        """Writes (counts). How long the client waited between two requests of one agent."""
        apart = max(0.0, (entry.t or 0.0) - (former.t or 0.0))
        if former.api_time is None:
            self._source.count(
                "requests follow one of unknown duration; they wait as long as `t` says at most"
            )
            return apart if entry.think_time is None else min(apart, entry.think_time)
        if entry.think_time is None:
            self._source.count("requests tell no think time; it follows from `t` and `api_time`")
            return max(0.0, apart - former.api_time)
        return entry.think_time


def _spans(markers: list[tuple[int, Entry]], ready_at: float) -> list[tuple[float, float, int]]:
    """When sub-agents began and ended, on the clock of their markers, and their places."""
    durations = [_duration(marker) for _, marker in markers]
    times = [ready_at if marker.t is None else marker.t for _, marker in markers]
    at_ends = all(
        time - duration >= ready_at - _ROUNDING_S and not 0 < time <= (marker.requests[0].t or 0.0)
        for time, duration, (_, marker) in zip(times, durations, markers, strict=True)
    )
    return [
        (time - duration, time, place) if at_ends else (time, time + duration, place)
        for time, duration, (place, _) in zip(times, durations, markers, strict=True)
    ]


def _duration(marker: Entry) -> float:
    if marker.duration_ms is not None:
        return marker.duration_ms / 1000
    first, last = marker.requests[0], marker.requests[-1]
    return max(0.0, (last.t or 0.0) - (first.t or 0.0) + (last.api_time or 0.0))


def _expanded(runs: list[int], prompt_tokens: int, path: str) -> array[int]:
    """Ids from runs. Raises Malformed, before it makes more ids than a prompt has tokens."""
    starts, lengths = runs[::2], runs[1::2]
    if len(starts) != len(lengths):
        raise Malformed(f"{path}.hash_ids_rle", "pairs of start and length", f"{len(runs)} numbers")
    if sum(lengths) > prompt_tokens:
        raise Malformed(f"{path}.hash_ids_rle", f"fewer ids than {prompt_tokens} tokens", sum(lengths))
    ids = array("q")
    for start, length in zip(starts, lengths, strict=True):
        stop = start + length
        ids += _counted[start:stop] if stop <= _COUNTED else array("q", range(start, stop))
    return ids
