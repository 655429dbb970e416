"""Measured requests from CSV (with a header) and JSON lines, whatever the columns are called.

Of each quantity the first known name that the file has is taken; `_s` or nothing means seconds, `_ms`
milliseconds. What may be told in two ways, as a duration or as a moment on the arrivals' clock, may be.

    arrival       arrival, arrived, queued_ts, arrival_ts, arrival_time, start, start_ts, start_time,
                  timestamp
    prompt        prompt_tokens, input_tokens, input_toks, input_length, prompt_len, isl
    output        output_tokens, output_toks, output_length, completion_tokens, output_len, osl
    first token   ttft, time_to_first_token, or the moment first_token_ts, first_token_time, first_token
    end           e2e, e2e_latency, latency, duration, or the moment last_token_ts, last_token_time, end,
                  end_ts, end_time, finished_ts; or tpot, time_per_output_token
    cached        cached_tokens, num_cached_tokens, hit_tokens, hit (optional)
    worker        worker, worker_id, engine, instance, backend (optional)
    blocks        block_ids, hash_ids (optional, JSON lines)

This simulator's own `--csv` is such a file. Requests without an answer, and such that never ended, are left
out and counted.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite, isnan, nan
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from warmroute_simulator.fitting.columns import (
    ARRIVAL,
    BLOCKS,
    CACHED,
    E2E,
    END_AT,
    FIRST_AT,
    OUTPUT,
    PROMPT,
    REQUEST,
    TPOT,
    TTFT,
    WORKER,
    Column,
    found,
)
from warmroute_simulator.fitting.measured import MeasuredRequest, Measurement
from warmroute_simulator.traces.files import TraceError, numbered_lines

Row = Mapping[str, Any]
T = TypeVar("T")


def read_rows(path: Path, prompts: Path | None = None) -> Measurement:
    """A run from a file of requests; `prompts`: JSON lines with `request_id` and `block_ids` to add.

    Raises TraceError.
    """
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        raise TraceError(path.name, 0, None, "at least one request", "an empty file")
    reader = _Reader(path.name, first[1])
    if prompts is not None:
        reader.add_blocks(prompts)
    for number, row in _chained(first, rows):
        reader.read(number, row)
    return reader.measurement()


class _Reader:
    """State: where the columns are, the requests so far, what was left out."""

    def __init__(self, file: str, first: Row) -> None:
        self._file = file
        names = first.keys()
        self._arrival = self._needed(names, "arrival", ARRIVAL, timed=True)
        self._prompt = self._needed(names, "prompt_tokens", PROMPT)
        self._output = self._needed(names, "output_tokens", OUTPUT)
        self._ttft, self._first_at = found(names, TTFT, timed=True), found(names, FIRST_AT, timed=True)
        self._e2e, self._end_at = found(names, E2E, timed=True), found(names, END_AT, timed=True)
        self._tpot = found(names, TPOT, timed=True)
        if self._e2e is None and self._end_at is None and self._tpot is None:
            self._missing("e2e", (*E2E, *END_AT, *TPOT), names)
        self._cached, self._worker = found(names, CACHED), found(names, WORKER)
        self._request, self._blocks = found(names, REQUEST), found(names, BLOCKS)
        self._blocks_of: dict[str, tuple[int, ...]] = {}
        self._requests: list[MeasuredRequest] = []
        self._left_out = 0

    def add_blocks(self, path: Path) -> None:
        """Writes. Block ids from another file, by request id."""
        if self._request is None:
            raise TraceError(self._file, 1, "request_id", f"an id to look up in {path.name}", "none")
        for number, row in _rows(path):
            request, blocks = found(row.keys(), REQUEST), found(row.keys(), BLOCKS)
            if request is None or blocks is None:
                raise TraceError(path.name, number, None, "`request_id` and `block_ids`", _listed(row))
            self._blocks_of[str(row[request.name])] = _ids(path.name, number, blocks.name, row[blocks.name])

    def read(self, number: int, row: Row) -> None:
        """Writes. One more request."""
        arrival = self._number(number, row, self._arrival)
        prompt = self._count(number, row, self._prompt, least=1)
        output = self._count(number, row, self._output, least=0)
        ttft = self._time(number, row, self._ttft, self._first_at, arrival)
        e2e = self._time(number, row, self._e2e, self._end_at, arrival)
        if isnan(e2e) and self._tpot is not None and output:
            e2e = ttft + self._number(number, row, self._tpot, optional=True) * (output - 1)
        if not output or isnan(e2e) or isnan(arrival):
            self._left_out += 1
            return
        column = self._first_at if self._ttft is None else self._ttft
        if e2e <= 0 or ttft <= 0:
            raise TraceError(
                self._file, number, column.name if ttft <= 0 and column else None,
                "tokens that come after the request does (the same clock for all times)",
                f"{min(e2e, ttft) if ttft <= 0 else e2e:g} s",
            )  # fmt: skip
        self._requests.append(
            MeasuredRequest(
                arrival,
                prompt,
                output,
                e2e,
                min(ttft, e2e) if not isnan(ttft) else nan,
                self._hits(number, row, prompt),
                "" if self._worker is None else str(row.get(self._worker.name) or ""),
                self._prompt_blocks(number, row),
            )
        )

    def measurement(self) -> Measurement:
        """Reads."""
        if not self._requests:
            raise TraceError(self._file, 0, None, "at least one request that was answered", "none")
        origin = min(request.arrival_s for request in self._requests)
        requests = [replace(request, arrival_s=request.arrival_s - origin) for request in self._requests]
        notes = [f"{self._left_out} requests without an answer are left out"] if self._left_out else []
        return Measurement(self._file, requests, notes)

    def _time(
        self, number: int, row: Row, duration: Column | None, moment: Column | None, arrival: float
    ) -> float:
        if duration is not None:
            return self._number(number, row, duration, optional=True)
        if moment is not None:
            return self._number(number, row, moment, optional=True) - arrival
        return nan

    def _hits(self, number: int, row: Row, prompt: int) -> int | None:
        if self._cached is None or row.get(self._cached.name) in (None, ""):
            return None
        return min(self._count(number, row, self._cached, least=0), prompt - 1)

    def _prompt_blocks(self, number: int, row: Row) -> tuple[int, ...] | None:
        if self._blocks_of:
            assert self._request is not None
            blocks = self._blocks_of.get(str(row.get(self._request.name)))
            if blocks is None:
                found = f"{row.get(self._request.name)!r}"
                raise TraceError(
                    self._file, number, self._request.name, "an id that the prompts' file has", found
                )
            return blocks
        if self._blocks is None:
            return None
        return _ids(self._file, number, self._blocks.name, row.get(self._blocks.name))

    def _number(self, number: int, row: Row, column: Column, *, optional: bool = False) -> float:
        given = row.get(column.name)
        if given in (None, "") and optional:
            return nan
        try:
            value = float(given)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            value = nan
        if isinstance(given, bool) or not isfinite(value):
            raise TraceError(self._file, number, column.name, "a number", repr(given))
        return value * column.factor

    def _count(self, number: int, row: Row, column: Column, *, least: int) -> int:
        value = self._number(number, row, column)
        if value != int(value) or value < least:
            expected = f"a whole number of at least {least}"
            raise TraceError(self._file, number, column.name, expected, repr(row.get(column.name)))
        return int(value)

    def _needed(
        self, names: Iterable[str], what: str, known: Sequence[str], *, timed: bool = False
    ) -> Column:
        column = found(names, known, timed=timed)
        if column is None:
            self._missing(what, known, names)
        return column

    def _missing(self, what: str, known: Sequence[str], names: Iterable[str]) -> NoReturn:
        columns = ", ".join(f"`{name}`" for name in names)
        raise TraceError(self._file, 1, what, f"a column such as {', '.join(known)}", f"columns {columns}")


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    lines = numbered_lines(path)
    first = next(lines, None)
    if first is None:
        return
    if first[1].lstrip().startswith(b"{"):
        decode = msgspec.json.Decoder(dict[str, Any]).decode
        for number, line in _chained(first, lines):
            try:
                yield number, decode(line)
            except msgspec.DecodeError as error:
                raise TraceError(path.name, number, None, "a JSON object", str(error)) from None
        return
    names = next(csv.reader([_text(path, *first)]))
    for number, line in lines:
        cells = next(csv.reader([_text(path, number, line)]))
        if len(cells) != len(names):
            raise TraceError(path.name, number, None, f"{len(names)} columns", str(len(cells)))
        yield number, dict(zip(names, cells, strict=True))


def _text(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TraceError(path.name, number, None, "UTF-8 text") from None


def _chained(first: tuple[int, T], rest: Iterator[tuple[int, T]]) -> Iterator[tuple[int, T]]:
    yield first
    yield from rest


def _ids(file: str, number: int, field: str, given: object) -> tuple[int, ...]:
    try:
        return tuple(msgspec.convert(given, list[int]))
    except msgspec.ValidationError:
        raise TraceError(file, number, field, "a list of whole numbers", repr(given)[:60]) from None


def _listed(row: Row) -> str:
    return "fields " + ", ".join(f"`{name}`" for name in row)
