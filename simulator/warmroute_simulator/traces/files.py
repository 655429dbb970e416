"""Trace files as numbered lines of bytes, packed or not, and the one error that all readers raise.

How a file is packed is told by its first bytes, not by its name. Lines are read one after the other, so a
trace that is larger than memory can be read up to `--limit`.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Final, cast

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_GIT_LFS: Final = b"version https://git-lfs"
_MARK: Final = b"\xef\xbb\xbf"
"""Some tools write it before the first character of a file in UTF-8."""

# Traces are digits and brackets: higher levels take three times as long and save a tenth.
_GZIP_LEVEL: Final = 5

# Lines of agentic sessions are 16 KB on average; a buffer of several saves calls of the unpacker.
_BUFFER_BYTES: Final = 256 * 1024


class TraceError(ValueError):
    """A trace that cannot be read: where, and what should stand there. `line` 0 is the file as a whole.

    trace.jsonl.gz line 17: field `input_length`: expected a whole number of at least 1, not -3
    """

    def __init__(
        self, file: str, line: int, field: str | None, expected: str, found: str | None = None
    ) -> None:
        self.file, self.line, self.field, self.expected, self.found = file, line, field, expected, found
        where = f"{file} line {line}" if line else file
        what = f"expected {expected}" if found is None else f"expected {expected}, not {found}"
        super().__init__(f"{where}: field `{field}`: {what}" if field else f"{where}: {what}")

    def __reduce__(self) -> tuple[type, tuple[str, int, str | None, str, str | None]]:
        """Errors of other processes travel as pickles."""
        return type(self), (self.file, self.line, self.field, self.expected, self.found)


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Line numbers from 1 on, and lines with their ends; empty lines are left out but counted.

    Raises TraceError when the file cannot be opened or unpacked, or is only a pointer to one.
    """
    number = 0
    try:
        with ExitStack() as opened:
            for number, line in enumerate(_unpacked(path, opened), start=1):
                if number == 1:
                    line = line.removeprefix(_MARK)
                if not line.isspace():
                    yield number, line
    except OSError as error:
        # Also what gzip raises for a file whose checksum is wrong.
        reason = error.strerror or error
        raise TraceError(path.name, 0, None, f"a file that can be read ({reason})") from error
    except (EOFError, zlib.error) as error:
        expected = "more of a packed file, which is cut or damaged"
        raise TraceError(path.name, number + 1, None, expected) from error


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Writes. A new file, packed if its name ends in `.gz` or `.zst`. Raises TraceError when that fails."""
    try:
        with ExitStack() as opened:
            raw: IO[bytes] = opened.enter_context(path.open("wb"))
            if path.suffix == ".gz":
                # No name and no time inside: equal traces are equal files.
                packer = gzip.GzipFile("", "wb", fileobj=raw, mtime=0, compresslevel=_GZIP_LEVEL)
                raw = cast("IO[bytes]", opened.enter_context(packer))
            elif path.suffix == ".zst":
                raw = opened.enter_context(
                    _zstandard(path).ZstdCompressor(write_checksum=True).stream_writer(raw)
                )
            yield raw
    except OSError as error:
        reason = error.strerror or error
        raise TraceError(path.name, 0, None, f"a file that can be written ({reason})") from error


def whole_text(path: Path) -> bytes:
    """All lines at once, for a JSON document that goes over several. Raises TraceError."""
    return b"".join(line for _, line in numbered_lines(path))


def _unpacked(path: Path, opened: ExitStack) -> Iterator[bytes]:
    raw = opened.enter_context(path.open("rb"))
    head = raw.read(len(_GIT_LFS))
    raw.seek(0)
    if head == _GIT_LFS:
        raise TraceError(
            path.name,
            0,
            None,
            "a trace",
            "a Git LFS pointer to one; `git lfs pull` in its repository gets the file itself",
        )
    if head.startswith(_GZIP):
        # Iterating over a GzipFile costs a call of Python per line.
        return opened.enter_context(io.BufferedReader(cast("io.RawIOBase", gzip.open(raw)), _BUFFER_BYTES))
    if head.startswith(_ZSTD):
        return _zstd_lines(path, raw)
    return raw


def _zstd_lines(path: Path, raw: IO[bytes]) -> Iterator[bytes]:
    zstandard = _zstandard(path)
    start = b""
    try:
        for piece in _zstd_pieces(zstandard.ZstdDecompressor(), raw):
            *lines, start = (start + piece).split(b"\n")
            for line in lines:
                yield line + b"\n"
    except zstandard.ZstdError as error:
        raise EOFError from error
    if start:
        yield start


def _zstd_pieces(unpacker: Any, raw: IO[bytes]) -> Iterator[bytes]:
    """What the frames of a file hold. Raises EOFError when the last one is cut, which a stream reader of
    zstandard passes over."""
    frame = None
    while packed := raw.read(_BUFFER_BYTES):
        while packed:
            frame = frame or unpacker.decompressobj()
            yield frame.decompress(packed)
            packed = frame.unused_data
            if frame.eof:
                frame = None
    if frame is not None:
        raise EOFError


def _zstandard(path: Path) -> Any:
    try:
        import zstandard
    except ModuleNotFoundError as error:
        needed = "the package zstandard for .zst (pip install 'warmroute[simulator]')"
        raise TraceError(path.name, 0, None, needed, "a Python without it") from error
    return zstandard
