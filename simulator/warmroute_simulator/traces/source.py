"""One trace file on its way into columns: its lines, what is to become of malformed ones, what to say of it.

A reader does one thing per line inside a `try` and hands what was raised to `reject`:

    for number, line in source.lines():
        try:
            ...
        except BAD_LINE as error:
            source.reject(number, line, error)

Rule for readers: what is inside the `try` either is done completely or has changed nothing, because with
`--skip-bad` the next line follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, final

import msgspec

from warmroute_simulator.traces.files import TraceError, numbered_lines
from warmroute_simulator.traces.options import ReadOptions
from warmroute_simulator.traces.trace import Trace

# Ten times the longest context on offer today. Bounded because sums of lengths are kept in 32 bits.
MOST_TOKENS: Final = 100_000_000

# A prompt of that many tokens, all of them long words.
MOST_BYTES: Final = 64 * MOST_TOKENS

# A century: more than any trace spans, and a float still counts it to the microsecond.
MOST_SECONDS: Final = 4e9

PromptTokens = Annotated[int, msgspec.Meta(ge=1, le=MOST_TOKENS)]
OutputTokens = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=MOST_SECONDS)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=1000 * MOST_SECONDS)]
Id = int | str

_EXAMPLES: Final = 3
"""Malformed lines that are told in full when they are skipped."""
_FOUND_CHARACTERS: Final = 80


class Malformed(ValueError):
    """A line that cannot be right, found after decoding: the field, what was expected, what stands there."""

    def __init__(self, field: str | None, expected: str, found: object = None) -> None:
        self.field, self.expected = field, expected
        self.found = None if found is None else str(found)
        super().__init__(expected)


BAD_LINE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, Malformed)
"""What decoding and checking a line may raise. RecursionError: brackets in brackets, a thousand deep."""


@final
class Source:
    """State: how many lines were skipped, why the first of them were, and counts of peculiarities."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.path, self.options = path, options
        self.name = path.name
        self.skipped = 0
        self.complaints: list[str] = []
        self._counts: dict[str, int] = {}

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Reads. Numbers and lines, empty ones left out. Raises TraceError."""
        return numbered_lines(self.path)

    def enough(self, trace: Trace) -> bool:
        """Reads. Whether the trace has as many requests as the user asked for."""
        return self.options.limit is not None and len(trace) >= self.options.limit

    def error(self, line: int, field: str | None, expected: str, found: object = None) -> TraceError:
        """Reads. An error of this file, to be raised."""
        return TraceError(self.name, line, field, expected, None if found is None else str(found))

    def told(self, number: int, line: bytes, error: BaseException) -> TraceError:
        """Reads. What was raised for a line, in the user's words."""
        return _told(self.name, number, line, error)

    def reject(self, number: int, line: bytes, error: BaseException) -> None:
        """Writes. A malformed line: counted with `--skip-bad`, else the end.

        Raises TraceError.
        """
        told = self.told(number, line, error)
        if not self.options.skip_bad:
            raise told from error
        self.skipped += 1
        if len(self.complaints) < _EXAMPLES:
            self.complaints.append(str(told))

    def count(self, what: str) -> None:
        """Writes. One more request of which `what` is to be said in the notes, after their number."""
        self._counts[what] = self._counts.get(what, 0) + 1

    def notes(self) -> list[str]:
        """Reads. What happened on the import."""
        notes = [f"{count:,} {what}" for what, count in self._counts.items()]
        if self.skipped:
            notes.append(f"malformed lines skipped: {self.skipped:,}, such as " + "; ".join(self.complaints))
        return notes


def _told(file: str, number: int, line: bytes, error: BaseException) -> TraceError:
    """The user's words for what a decoder or a reader raised."""
    if isinstance(error, Malformed):
        found = None if error.found is None else _shortened(error.found)
        return TraceError(file, number, error.field, error.expected, found)
    if isinstance(error, UnicodeDecodeError):
        return TraceError(file, number, None, "text in UTF-8", f"byte {error.object[error.start]:#x}")
    if isinstance(error, RecursionError):
        return TraceError(file, number, None, "JSON that is nested less deeply")
    if not isinstance(error, msgspec.ValidationError):
        return TraceError(file, number, None, "a line of JSON", f"{_excerpt(line)} ({error})")
    message, _, path = str(error).partition(" - at `$")
    path = path.removesuffix("`")
    missing = re.fullmatch(r"Object missing required field `(.+)`", message)
    if missing:
        return TraceError(file, number, f"{path}.{missing[1]}".lstrip("."), "it to be there")
    return TraceError(file, number, path.lstrip(".") or None, _expected(message), _found(line, path))


_WORDS: Final[Mapping[str, str]] = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}


def _expected(message: str) -> str:
    """`Expected `int | null` >= 1, got `str`` as "a whole number or null of at least 1"."""
    found = re.fullmatch(r"Expected `([^`]+)`(.*?)(?:, got .*)?", message)
    if found is None:
        return f"something else ({message})"
    kinds = " or ".join(_WORDS.get(kind, kind) for kind in found[1].split(" | "))
    bound = (
        re.sub(r"(\d+)\.0\b", r"\1", found[2]).replace(">= ", "of at least ").replace("<= ", "of at most ")
    )
    return kinds + bound.replace("of length of", "of length")


def _found(line: bytes, path: str) -> str | None:
    """What stands in the line at a path such as `.requests[3].in`; None where that cannot be told."""
    try:
        value: Any = msgspec.json.decode(line)
        for name, place in re.findall(r"\.(\w+)|\[(\d+)\]", path):
            value = value[name] if name else value[int(place)]
        return _excerpt(msgspec.json.encode(value))
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _excerpt(text: bytes) -> str:
    return _shortened(text.strip().decode(errors="replace"))


def _shortened(words: str) -> str:
    words = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words)
    return words if len(words) <= _FOUND_CHARACTERS else words[:_FOUND_CHARACTERS] + "…"
