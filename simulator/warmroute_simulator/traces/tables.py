"""Tables of arrivals and lengths (CSV): Azure's and BurstGPT's. Nothing is known of prompts, so every one is
its own and no router can win a hit; what can be studied is load.

    TIMESTAMP,ContextTokens,GeneratedTokens
    2023-11-16 18:17:03.9799600,4808,10

    Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
    5,1,17.3,ChatGPT,472,18,490,Conversation log

Times are dates, or seconds. BurstGPT's older files have no sessions; its requests without a response failed,
and are left out.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from warmroute_simulator.traces.checks import quantum_of
from warmroute_simulator.traces.prompts import ROOT, PromptTree
from warmroute_simulator.traces.source import BAD_LINE, MOST_SECONDS, MOST_TOKENS, Malformed, Source
from warmroute_simulator.traces.trace import NO_SESSION, Trace

_AZURE: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_BURSTGPT: Final = ("Timestamp", "Request tokens", "Response tokens")
_SESSION: Final = "Session ID"


def read(source: Source) -> Trace:
    """Either table as a trace, open loop. Raises TraceError."""
    trace = Trace(source.name, PromptTree())
    columns: _Columns | None = None
    for number, text in source.lines():
        if source.enough(trace):
            break
        try:
            cells = next(csv.reader((text.decode().strip(),)))
            if columns is None:
                columns = _Columns(cells)
                continue
            columns.add(cells, trace, source)
        except csv.Error as error:
            source.reject(number, text, Malformed(None, "a line of a table", error))
        except BAD_LINE as error:
            if columns is None:
                raise source.told(number, text, error) from error
            source.reject(number, text, error)
    trace.quantum_s = quantum_of(trace.arrivals_s)
    return trace


class _Columns:
    """Where in a line what stands. State: numbers of the sessions by name."""

    def __init__(self, names: list[str]) -> None:
        """Raises Malformed when it is the header of neither table."""
        places = {name.strip(): place for place, name in enumerate(names)}
        azure = all(name in places for name in _AZURE)
        if not azure and not all(name in places for name in _BURSTGPT):
            expected = f"a header with {', '.join(_AZURE)} or {', '.join(_BURSTGPT)}"
            raise Malformed(None, expected, ",".join(names)[:80])
        self._failed_without_answer = not azure
        self._names = _AZURE if azure else _BURSTGPT
        self._places = tuple(places[name] for name in self._names)
        self._session_place = places.get(_SESSION)
        self._moment: Callable[[str, str], float] = _date if azure else _seconds
        self._width = len(names)
        self._sessions: dict[str, int] = {}

    def add(self, cells: list[str], trace: Trace, source: Source) -> None:
        """Writes. One request. Raises Malformed."""
        if len(cells) != self._width:
            raise Malformed(None, f"{self._width} values, as in the header", len(cells))
        moment, prompt, answer = (cells[place].strip() for place in self._places)
        arrival_s = self._moment(self._names[0], moment)
        output_tokens = _whole(self._names[2], answer, 0)
        if not output_tokens:
            if self._failed_without_answer:
                source.count("requests failed and are left out")
                return
            source.count("requests without an answer are taken to have one token of it")
        prompt_tokens = _whole(self._names[1], prompt, 1)
        session = NO_SESSION
        name = "" if self._session_place is None else cells[self._session_place].strip()
        if name:
            session = self._sessions.setdefault(name, len(self._sessions))
        node = trace.tree.add(ROOT, prompt_tokens)
        trace.add(node, max(1, output_tokens), arrival_s=arrival_s, session=session)


def _whole(field: str, text: str, least: int) -> int:
    # Plain digits: Python would also take 1_000 and digits of other scripts.
    if text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= MOST_TOKENS:
        return int(text)
    raise Malformed(field, f"a whole number of {least} to {MOST_TOKENS}", text or "nothing")


def _seconds(field: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MOST_SECONDS:
        raise Malformed(field, "seconds", text or "nothing")
    return value


def _date(field: str, text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Malformed(field, "a date and time as 2023-11-16 18:17:03.9799600", text or "nothing") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
