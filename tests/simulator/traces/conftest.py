"""Reading a trace from lines that a test wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from warmroute_simulator.traces.formats import ReadOptions, read_trace
from warmroute_simulator.traces.trace import Trace

ReadLines = Callable[..., Trace]


@pytest.fixture
def read_lines(tmp_path: Path) -> ReadLines:
    """A function from lines (texts, bytes or JSON values) and reading options to a trace."""

    def read(lines: Iterable[Any], file: str = "trace.jsonl", **options: Any) -> Trace:
        path = tmp_path / file
        path.write_bytes(b"".join(_encoded(line) + b"\n" for line in lines))
        return read_trace(path, ReadOptions(**options))

    return read


def _encoded(line: Any) -> bytes:
    if isinstance(line, bytes):
        return line
    return line.encode() if isinstance(line, str) else msgspec.json.encode(line)
