"""Events are taken out of a stream, and nothing else of it changes, however its bytes are cut."""

from __future__ import annotations

import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmroute.inject import CountsAlone, UsageTap
from warmroute.wire.answers import AnswerHeads
from warmroute.wire.sse import EVENT_BYTES_MAX, EventFilter

EXAMPLES = settings(max_examples=200, derandomize=True)

COUNTS = {"id": "c", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
TOKEN = {"id": "c", "choices": [{"index": 0, "delta": {"content": "hi \"usage\": [] 'choices': []"}}]}

VALUES: dict[str, object] = {
    "token": TOKEN,
    "another token": TOKEN,
    "counts": COUNTS,
    "token and counts": TOKEN | {"usage": COUNTS["usage"]},
    "no counts": COUNTS | {"usage": None},
    "odd counts": COUNTS | {"usage": 5},
    "counts without choices": {"usage": COUNTS["usage"]},
    "counts and no list": COUNTS | {"choices": None},
    "no object": [{"choices": [], "usage": {}}],
}

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


# --- a naive model: the whole text, line by line --------------------------------------------------


def events_of(text: bytes) -> list[bytes]:
    events, event = [], b""
    for line in re.findall(rb"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+", text):
        event += line
        if line in (b"\r\n", b"\n", b"\r"):
            events.append(event)
            event = b""
    return [*events, event] if event else events


def holds_counts_alone(event: bytes) -> bool:
    lines = [line for line in re.split(rb"\r\n|\n|\r", event) if line.startswith(b"data:")]
    data = b"\n".join(line[5:].removeprefix(b" ") for line in lines)
    try:
        said = json.loads(data)
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("choices") == [] and isinstance(said.get("usage"), dict)


def without_counts(text: bytes) -> bytes:
    return b"".join(
        event for event in events_of(text) if len(event) > EVENT_BYTES_MAX or not holds_counts_alone(event)
    )


# --- streams --------------------------------------------------------------------------------------

LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


def dumped(value: object, *, spread: bool) -> bytes:
    return json.dumps(value, indent=1 if spread else None).encode()


@st.composite
def events(draw: st.DrawFn) -> bytes:
    """One event, its lines ended in some way, with an empty line behind."""
    kind = draw(st.sampled_from([*VALUES, "done", "comment", "odd", "empty"]))
    eol = draw(LINE_ENDS)
    colon = draw(st.sampled_from([b"data: ", b"data:"]))
    if kind == "empty":
        return eol
    if kind == "comment":
        return b": ping" + eol + eol
    if kind == "done":
        return colon + b"[DONE]" + eol + eol
    if kind == "odd":
        return draw(st.binary(max_size=30)) + eol + eol
    lines = dumped(VALUES[kind], spread=draw(st.integers(0, 5)) == 0).split(b"\n")
    named = b"event: message" + eol if draw(st.booleans()) else b""
    return named + eol.join(colon + line for line in lines) + eol + eol


STREAMS = st.tuples(st.lists(events(), max_size=12), st.booleans()).map(
    lambda drawn: b"".join(drawn[0])[: -1 if drawn[1] else None]
)


def cut(text: bytes, chance: random.Random, most: int) -> list[bytes]:
    pieces, at = [], 0
    while at < len(text):
        size = chance.randint(1, most)
        pieces.append(text[at : at + size])
        at += size
    return pieces


# --- events ---------------------------------------------------------------------------------------


@EXAMPLES
@given(STREAMS, st.randoms(use_true_random=False), st.sampled_from([1, 2, 3, 7, 50, 5000]))
def test_what_is_passed_on_is_what_a_look_at_the_whole_text_leaves(
    text: bytes, chance: random.Random, most: int
) -> None:
    taken = EventFilter(CountsAlone())
    passed = b"".join(taken.feed(piece) for piece in cut(text, chance, most)) + taken.end()
    assert passed == without_counts(text)


@EXAMPLES
@given(STREAMS, st.randoms(use_true_random=False))
def test_never_more_than_one_event_is_held_back(text: bytes, chance: random.Random) -> None:
    taken, fed, passed = EventFilter(CountsAlone()), b"", b""
    for piece in cut(text, chance, 40):
        fed += piece
        passed += taken.feed(piece)
        complete = [event for event in events_of(fed) if event.endswith((b"\n", b"\r"))]
        ended = fed if not complete else b"".join(complete)
        last = events_of(fed)[-1]
        assert len(passed) >= len(without_counts(ended)) - len(last)


@pytest.mark.parametrize("eol", [b"\n", b"\r\n", b"\r"])
def test_a_token_is_passed_on_as_soon_as_its_choice_has_begun(eol: bytes) -> None:
    taken = EventFilter(CountsAlone())
    event = b"data: " + json.dumps(TOKEN).encode() + eol + eol
    begun = event.index(b"{", event.index(b"choices")) + 1
    assert taken.feed(event[: begun - 1]) == b""
    assert taken.feed(event[begun - 1 : begun]) == event[:begun]
    assert taken.feed(event[begun:]) == event[begun:]


def test_an_endless_event_is_passed_on_and_what_follows_it_is_filtered() -> None:
    counts = b"data: " + json.dumps(COUNTS).encode() + b"\n\n"
    endless = b"data: " + b" " * EVENT_BYTES_MAX + json.dumps(COUNTS).encode() + b"\n\n"
    for size in (1000, len(endless)):
        taken = EventFilter(CountsAlone())
        passed = b"".join(taken.feed(endless[at : at + size]) for at in range(0, len(endless), size))
        assert passed == endless
        assert taken.feed(counts + b"data: [DONE]\n\n") == b"data: [DONE]\n\n"


# --- chunks ---------------------------------------------------------------------------------------


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


def unchunked(framed: bytes) -> bytes:
    """Strict: every size is right, and nothing follows the end."""
    payload = b""
    while True:
        size, _, framed = framed.partition(b"\r\n")
        length = int(size, 16)
        assert framed[length : length + 2] == b"\r\n"
        payload += framed[:length]
        framed = framed[length + 2 :]
        if length == 0:
            assert framed == b""
            return payload


def on_a_stream(head: bytes = HEAD, *, http_10: bool = False) -> UsageTap:
    found = AnswerHeads().read(head)
    assert found is not None
    tap = UsageTap()
    tap.begin(found[0], head, "http://w", http_10=http_10)
    return tap


@EXAMPLES
@given(
    STREAMS, st.randoms(use_true_random=False), st.sampled_from([3, 60, 5000]), st.sampled_from([1, 9, 400])
)
def test_a_chunked_stream_stays_well_framed(
    text: bytes, chance: random.Random, chunk_most: int, piece_most: int
) -> None:
    framed = chunked(cut(text, chance, chunk_most))
    tap = on_a_stream()
    passed = b"".join(tap.take(piece) for piece in cut(framed, chance, piece_most)) + tap.end()
    assert unchunked(passed) == without_counts(text)


@EXAMPLES
@given(STREAMS, st.randoms(use_true_random=False), st.sampled_from([5, 60, 200]))
def test_chunks_that_come_one_by_one_stay_in_order(text: bytes, chance: random.Random, most: int) -> None:
    pieces = [chunked([part]).removesuffix(b"0\r\n\r\n") for part in cut(text, chance, most)]
    tap = on_a_stream()
    assert unchunked(b"".join(map(tap.take, [*pieces, b"0\r\n\r\n"]))) == without_counts(text)


@EXAMPLES
@given(STREAMS, st.randoms(use_true_random=False))
def test_a_stream_without_chunks_is_filtered_too(text: bytes, chance: random.Random) -> None:
    for head, http_10 in ((HEAD, True), (HEAD.replace(b"transfer-encoding: chunked\r\n", b""), False)):
        tap = on_a_stream(head, http_10=http_10)
        passed = b"".join(tap.take(piece) for piece in cut(text, chance, 50)) + tap.end()
        assert passed == without_counts(text)


def test_a_chunk_that_is_a_token_goes_on_as_the_same_bytes() -> None:
    tap = on_a_stream()
    piece = chunked([b"data: " + json.dumps(TOKEN | {"x": 1}).replace("usage", "used").encode() + b"\n\n"])
    piece = piece.removesuffix(b"0\r\n\r\n")
    assert tap.take(piece) is piece


def test_a_payload_that_looks_like_a_chunk_is_none() -> None:
    tap = on_a_stream()
    begun, looks_so = b": a\n\n", b"5\r\n: x\n\n\r\n"
    framed = b"%x\r\n%b%b\r\n0\r\n\r\n" % (len(begun + looks_so), begun, looks_so)
    at = framed.index(looks_so)
    pieces = [framed[:at], looks_so, framed[at + len(looks_so) :]]
    assert unchunked(b"".join(map(tap.take, pieces))) == begun + looks_so


def test_what_ends_an_event_that_has_begun_follows_its_beginning() -> None:
    tap = on_a_stream()
    pieces = [chunked([part]).removesuffix(b"0\r\n\r\n") for part in (b": beg", b"inning\n\n")]
    assert unchunked(b"".join(map(tap.take, [*pieces, b"0\r\n\r\n"]))) == b": beginning\n\n"


@pytest.mark.parametrize(
    "field",
    [
        b"content-type: application/json\r\ntransfer-encoding: chunked",
        b"content-type: text/event-stream\r\ncontent-length: 5",
        b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\nContent-Encoding: gzip",
    ],
)
def test_an_answer_that_is_no_plain_stream_is_left_alone(field: bytes) -> None:
    tap = on_a_stream(b"HTTP/1.1 200 OK\r\n" + field + b"\r\n\r\n")
    pieces = cut(b"data: " + json.dumps(COUNTS).encode() + b"\n\n", random.Random(1), 20)
    assert [tap.take(piece) for piece in pieces] == pieces
    assert tap.end() == b""
