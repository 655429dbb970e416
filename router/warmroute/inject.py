"""Token counts for streams whose clients did not ask for them (`inject_usage`).

An engine ends a stream with its counts, and with them the number of cached tokens that the balancing learns
from, only when the request says `stream_options.include_usage`. Here the router says so in the client's
stead, and takes the event that answers it out of the stream again.

Rules kept. The body gains the option and is otherwise the client's bytes: a new one is written behind the
opening brace, an existing one is replaced where it stands. Where it is not plain which value an engine would
read (the key twice, or spelled with escapes) or what the client wants of counts in every event, the request
is left alone. Of the answer only an event without choices and with counts is taken out; an answer that is no
stream of events, is compressed, or has a length goes on as it came.
"""

from __future__ import annotations

import re
from typing import Final, final

import msgspec

from warmroute.counts import AskedStream, StreamEvent
from warmroute.dialects.request import UNREADABLE, Buffer
from warmroute.taps import Tap
from warmroute.wire.answers import AnswerHead, ChunkedBody
from warmroute.wire.sse import EventFilter, Unwanted, data_of
from warmroute_policies.types import WorkerId

PATHS: Final = frozenset(("/v1/chat/completions", "/v1/completions"))
"""Endpoints whose streams hold counts only when asked."""

_NAME: Final = b'"stream_options"'
_NEW: Final = b'"stream_options":{"include_usage":true},'
_ASKS: Final = b'{"include_usage":true}'

_BRACE: Final = 123
_BACKSLASH: Final = 92

# An escape for a letter of ASCII, of which a key might be spelled.
_ESCAPED_LETTER: Final = re.compile(rb"\\u00[4-7]", re.IGNORECASE)

_COLON: Final = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")

_LINE_END: Final = b"\r\n"

# A chunk's size line, as engines write it.
_SIZE_LINE_MAX: Final = 16
_HEX: Final = b"0123456789abcdefABCDEF"

_STREAM_TYPE: Final = re.compile(rb"\r\ncontent-type:[ \t]*text/event-stream", re.IGNORECASE)
_ENCODED: Final = re.compile(rb"\r\ncontent-encoding:", re.IGNORECASE)

_decode_asked: Final = msgspec.json.Decoder(AskedStream).decode
_decode_options: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_event: Final = msgspec.json.Decoder(StreamEvent).decode


def with_usage(body: Buffer) -> bytes | None:
    """The body of a request for a stream, a JSON object, with the wish for counts; None: it has it, or is to
    be left alone."""
    text = bytes(body)
    known = b""
    if text.find(_NAME) >= 0 or _ESCAPED_LETTER.search(text):
        try:
            known = bytes(_decode_asked(text).stream_options)
        except UNREADABLE:
            return None
    if known:
        return _with_options(text, known)
    brace = text.find(b"{") + 1
    return b"".join((text[:brace], _NEW, memoryview(text)[brace:]))


def _with_options(text: bytes, known: bytes) -> bytes | None:
    """The same for a body that has options of its own, which read `known`."""
    places, options = _places(text), _asking(known)
    if options is None or len(places) != 1:
        return None
    start = places[0]
    end = start + len(known)
    changed = b"%b%b%b" % (text[:start], options, text[end:])
    # What looks like the key may stand elsewhere, and the key itself be spelled otherwise.
    return changed if text[start:end] == known and _says(changed, options) else None


def _says(text: bytes, options: bytes) -> bool:
    try:
        return bytes(_decode_asked(text).stream_options) == options
    except UNREADABLE:
        return False


def _places(text: bytes) -> list[int]:
    """Where values of the key stand, at whatever depth. A quote within a text is escaped, so that only the
    key itself, or a text that ends like it, looks like it."""
    places = []
    at = text.find(_NAME)
    while at >= 0:
        if text[at - 1] != _BACKSLASH:
            colon = _COLON.match(text, at + len(_NAME))
            if colon is not None:
                places.append(colon.end())
        at = text.find(_NAME, at + len(_NAME))
    return places


def _asking(options: bytes) -> bytes | None:
    """Options with the wish for counts, the other members as they are; None: to be left alone."""
    if options == b"null":
        return _ASKS
    try:
        members = _decode_options(options)
    except UNREADABLE:
        return None
    wish = bytes(members.get("include_usage", b"false"))
    every = bytes(members.get("continuous_usage_stats", b"false"))
    if wish not in (b"false", b"null") or every not in (b"false", b"null"):
        return None
    members["include_usage"] = msgspec.Raw(b"true")
    return msgspec.json.encode(members)


class CountsAlone(Unwanted):
    """Events with counts and no choices. State: none."""

    def __init__(self) -> None:
        self.mark = b'"usage"'

    def cleared(self, beginning: bytes) -> bool:
        """Reads. It has a choice, so it is a token's."""
        return _CHOICE.search(beginning) is not None

    def is_one(self, event: bytes) -> bool:
        """Reads."""
        try:
            said = _decode_event(data_of(event))
        except UNREADABLE:
            return False
        return said.choices == [] and isinstance(said.usage, dict)


_CHOICE: Final = re.compile(rb'"choices"[ \t]*:[ \t]*\[[ \t]*\{')


@final
class UsageTap(Tap):
    """Takes the counts out of a stream whose client did not ask for them. State: where in the chunks and
    in the events the stream is."""

    def __init__(self) -> None:
        self._events: EventFilter | None = None
        """None: this answer goes on as it comes."""
        self._chunks: ChunkedBody | None = None
        """None: pieces come without framing."""

    def begin(self, head: AnswerHead, data: bytes, worker: WorkerId, *, http_10: bool) -> None:
        """Writes. Only a stream of events without a length, as plain text, is its business."""
        self._events = self._chunks = None
        if not (head.has_length or head.bodiless) and _STREAM_TYPE.search(data) and not _ENCODED.search(data):
            self._events = EventFilter(CountsAlone())
            self._chunks = ChunkedBody(payload=True) if head.chunked and not http_10 else None

    def take(self, data: bytes) -> bytes:
        """Writes. The piece without the counts; where nothing of it is taken out, framed as it came."""
        chunks, events = self._chunks, self._events
        if events is None:
            return data
        if chunks is None:
            return events.feed(data)
        if events.between and chunks.between and _is_plain_event(data):
            return data
        chunks.feed(data)  # the worker's connection has fed it to its own before: it is well framed
        passed = events.feed(chunks.take_payload())
        if not chunks.done:
            return _framed(passed) if passed else b""
        return _framed(passed + events.end()) + b"0\r\n\r\n"

    def end(self) -> bytes:
        """Writes."""
        return self._events.end() if self._events is not None and self._chunks is None else b""


def _framed(payload: bytes) -> bytes:
    """One chunk; none where there is nothing."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""


def _is_plain_event(data: bytes) -> bool:
    """Whether the bytes are one chunk that ends with an event and says nothing of usage: nearly all are."""
    eol = data.find(_LINE_END, 0, _SIZE_LINE_MAX)
    digits = data[:eol]
    return (
        eol > 0
        and not digits.strip(_HEX)
        and eol + 4 + int(digits, 16) == len(data)
        and data.endswith(b"\n\n\r\n")
        and data.find(b'"usage"') < 0
    )
