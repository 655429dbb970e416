"""The trace that a client is in, by the header fields of W3C Trace Context.

Rules kept, by that standard: fields that are malformed are as if they were not there; two `traceparent` are
malformed; without a valid `traceparent` there is no `tracestate`; several `tracestate` are one list.

This is not the library's propagator because every request passes here, sampled or not, and that costs 6 µs.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# Version 00 is exactly four parts; later versions may append more. Ids of zeros and version ff are invalid.
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_SAMPLED: Final = 0x01

_NAME: Final = b"traceparent: 00-"
_TRACE_ID: Final = slice(len(_NAME), len(_NAME) + 32)


class Parent(NamedTuple):
    """The client's span."""

    trace_id: int
    span_id: int
    sampled: bool
    state: bytes
    """Value of `tracestate`; empty when there is none."""


def parent_of(fields: bytes) -> Parent | None:
    """Of header lines with their ends (`wire.heads.take_trace_fields`); None: the client is in no trace."""
    parents: list[bytes] = []
    states: list[bytes] = []
    for line in fields.splitlines():
        name, _, value = line.partition(b":")
        (parents if name.lower() == b"traceparent" else states).append(value.strip(b" \t"))
    found = _TRACEPARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if found is None or (found[1] == b"00" and found[5] is not None):
        return None
    state = b",".join(value for value in states if value)
    return Parent(int(found[2], 16), int(found[3], 16), bool(int(found[4], 16) & _SAMPLED), state)


def fields_for_worker(trace_id: int, span_id: int, sampled: bool, state: bytes = b"") -> bytes:
    """Header lines by which a worker continues the trace below this span."""
    line = b"%b%032x-%016x-%02x\r\n" % (_NAME, trace_id, span_id, sampled)
    return b"%btracestate: %b\r\n" % (line, state) if state else line


def trace_id_of(fields: bytes) -> str | None:
    """The trace's id in `fields_for_worker`'s lines; None where there is none."""
    return fields[_TRACE_ID].decode() if fields.startswith(_NAME) else None
