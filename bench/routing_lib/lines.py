"""Records in a file, one JSON line each: a record is written at once, so that an interruption loses none.

A last line that was cut short is passed over, and the next record begins a line of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

R = TypeVar("R", bound=msgspec.Struct)


def read(path: Path, kind: type[R]) -> Iterator[R]:
    """Reads. Every line that is such a record; none where there is no file. Raises OSError."""
    decode = msgspec.json.Decoder(kind).decode
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            record = decode(line)
        except msgspec.DecodeError:
            continue
        yield record


def append(path: Path, record: msgspec.Struct) -> None:
    """Writes. Makes the file and its folder where they are not there. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        whole = True
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            whole = file.read() == b"\n"
        file.write((b"" if whole else b"\n") + msgspec.json.encode(record) + b"\n")
