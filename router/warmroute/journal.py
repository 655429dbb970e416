"""The journal's file: what the recorded balancer writes, buffered, up to a size.

Writing must neither block nor raise on a request's way: lines go to a buffer, which the kernel takes
once a second; when the file is full or the disk fails, recording ends with a warning and routing goes on.
Whatever happens, the file holds whole lines: what a disk took of half a line is cut off again. Only a machine
that dies, or a process killed inside a write, can leave a torn line, the last one; readers leave it out.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from types import TracebackType
from typing import Self

log = logging.getLogger("warmroute")


class JournalFile:
    """State: the open file, the lines not yet written, the bytes so far. Opening raises OSError."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._left = max_bytes
        self._lines: list[bytes] = []
        self._file = path.open("wb", buffering=0)  # lines are buffered here; what is written is known
        self._written = 0
        """Bytes of the whole lines that the kernel has."""
        self._recording = True

    def write(self, line: bytes) -> None:
        """Writes. Takes a line; never raises."""
        if not self._recording:
            return
        if len(line) > self._left:
            self._recording = False
            log.warning("journal full, recording ends", extra={"path": str(self._path)})
            return
        self._left -= len(line)
        self._lines.append(line)

    def flush(self) -> None:
        """Writes. Gives what was taken to the kernel."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        data, done = b"".join(lines), 0
        try:
            while done < len(data):
                done += self._file.write(memoryview(data)[done:]) or 0
        except OSError as error:
            self._recording = False
            self._written += data.rfind(b"\n", 0, done) + 1
            with contextlib.suppress(OSError):  # a pipe has no end to cut
                self._file.truncate(self._written)
            log.warning("journal failed, recording ends: %s", error, extra={"path": str(self._path)})
        else:
            self._written += done

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
        self._file.close()
