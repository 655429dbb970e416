"""HTTP/1.1 as bytes: where heads and bodies end, whatever the pieces they come in, and what is refused.

The cases are seeded: what fails is printed with its seed, and comes again.
"""

from __future__ import annotations

import random
import sys
import tracemalloc

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from warmroute.wire import answers, bodies
from warmroute.wire.answers import AnswerHeads, BadAnswer, LengthBody, UntilCloseBody, body_of
from warmroute.wire.bodies import BadBody
from warmroute.wire.heads import BadHead, Head, HeadCache, read_head

EXAMPLES = settings(max_examples=300, derandomize=True)
SEEDS = st.integers(0, 2**32 - 1)

# Payloads that look like the framing around them.
LOOKALIKES = (
    b"0\r\n\r\n", b"\r\n0\r\n\r\n", b"\r\n\r\n", b"\r\n", b"5\r\nhello\r\n", b"0", b"\r", b"\n",
    b"data: [DONE]\n\n", b"HTTP/1.1 200 OK\r\n\r\n", b"POST / HTTP/1.1\r\nhost: x\r\n\r\n", b";", b"\0",
    b"ffff\r\n", b"x" * 5000,
)  # fmt: skip
BEHIND = (b"", b"\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"POST / HTTP/1.1\r\n", b"x")


def payload_of(chance: random.Random) -> bytes:
    pieces = [chance.choice(LOOKALIKES) for _ in range(chance.randrange(1, 6))]
    if chance.random() < 0.3:
        pieces.append(chance.randbytes(chance.randrange(1, 70_000)))
    return b"".join(pieces)


def size_line(chance: random.Random, size: int) -> bytes:
    digits = chance.choice((b"%x", b"%X", b"000%x")) % size
    return digits + chance.choice((b"", b"", b";a=b", b';name="0"', b";x")) + b"\r\n"


def chunks_of(chance: random.Random) -> tuple[bytes, bytes]:
    """A chunked body as it is written, and what it carries."""
    payloads = [payload_of(chance) for _ in range(chance.randrange(0, 6))]
    written = [size_line(chance, len(p)) + p + b"\r\n" for p in payloads]
    trailers = chance.choice((b"", b"", b"x-sum: 0\r\n", b"a: b\r\nc: 0\r\n"))
    return b"".join(written) + size_line(chance, 0) + trailers + b"\r\n", b"".join(payloads)


def pieces_of(chance: random.Random, data: bytes) -> list[bytes]:
    """The same bytes, cut anywhere: into single bytes, a few pieces, or not at all."""
    if len(data) < 3000 and chance.random() < 0.3:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(0, 12)))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [piece for piece in pieces if piece]


# --- bodies of answers --------------------------------------------------------------------------


@EXAMPLES
@given(SEEDS)
def test_a_chunked_answer_ends_exactly_at_its_end_whatever_pieces_it_comes_in(seed: int) -> None:
    note(f"seed {seed}")
    chance = random.Random(seed)
    written, carried = chunks_of(chance)
    behind = chance.choice(BEHIND)
    verbatim, unpacked = answers.ChunkedBody(), answers.ChunkedBody(payload=True)
    taken, payload, left = b"", b"", b""
    for piece in pieces_of(chance, written + behind):
        if verbatim.done:
            left += piece
            continue
        used = verbatim.feed(piece)
        assert unpacked.feed(piece) == used
        payload += unpacked.take_payload()
        taken += piece[:used]
        left += piece[used:]
    assert taken == written
    assert payload == carried
    assert left == behind
    assert verbatim.done
    assert unpacked.done


@EXAMPLES
@given(SEEDS)
def test_a_chunked_answer_that_is_cut_is_never_taken_for_whole(seed: int) -> None:
    note(f"seed {seed}")
    chance = random.Random(seed)
    written, _ = chunks_of(chance)
    body = answers.ChunkedBody()
    for piece in pieces_of(chance, written[: chance.randrange(len(written))]):
        assert body.feed(piece) == len(piece)
    assert not body.done


@EXAMPLES
@given(SEEDS)
def test_a_body_with_a_length_ends_after_as_many_bytes(seed: int) -> None:
    note(f"seed {seed}")
    chance = random.Random(seed)
    data, behind = payload_of(chance), chance.choice(BEHIND)
    body = LengthBody(len(data))
    taken = b""
    for piece in pieces_of(chance, data + behind):
        taken += piece[: body.feed(piece)] if not body.done else b""
    assert (taken, body.done) == (data, True)


def test_an_empty_body_has_ended_before_it_began_and_one_without_length_never_ends() -> None:
    assert LengthBody(0).done
    endless = UntilCloseBody()
    assert endless.feed(b"0\r\n\r\n") == 5
    assert not endless.done


@pytest.mark.parametrize(
    "line",
    [b"", b"xyz", b"0x5", b"-5", b"+5", b"5_0", b"5 5", b";5", b" ", b"5\n", "５".encode(), b"5" * 17],
    ids=repr,
)  # fmt: skip
def test_what_is_no_chunk_size_is_refused(line: bytes) -> None:
    with pytest.raises(BadAnswer):
        answers.ChunkedBody().feed(line + b"\r\n" + b"x" * 100)


def test_a_size_line_without_an_end_is_refused_before_it_fills_the_memory() -> None:
    body = answers.ChunkedBody()
    for _ in range(10):
        assert body.feed(b"1" * 100) == 100
    with pytest.raises(BadAnswer, match="no end"):
        body.feed(b"1" * 100)


# --- heads of answers -----------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\n"


def read(head: bytes) -> tuple[int, int, type]:
    """Status, length and kind of body that a head announces."""
    found = AnswerHeads().read(head + b"\r\n")
    assert found is not None
    said, length, end = found
    assert end == len(head) + 2
    return said.status, length, type(body_of(said, length, payload=False))


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (OK + b"content-length: 12\r\n", (200, 12, LengthBody)),
        (OK + b"CONTENT-LENGTH: 12\r\n", (200, 12, LengthBody)),
        (OK + b"Content-length:12\r\n", (200, 12, LengthBody)),
        (OK + b"content-length: \t 12 \r\n", (200, 12, LengthBody)),
        (OK + b"content-length: 0012\r\n", (200, 12, LengthBody)),
        (OK + b"content-length: 0\r\n", (200, 0, LengthBody)),
        (OK + b"x: content-length: 7\r\n", (200, -1, UntilCloseBody)),
        (OK + b"transfer-encoding: chunked\r\n", (200, -1, answers.ChunkedBody)),
        (OK + b"Transfer-Encoding:  Chunked \r\n", (200, -1, answers.ChunkedBody)),
        (OK, (200, -1, UntilCloseBody)),
        (b"HTTP/1.0 200 OK\r\n", (200, -1, UntilCloseBody)),
        (b"HTTP/1.1 200\r\n", (200, -1, UntilCloseBody)),
        (b"HTTP/1.1 500 So was es auch sei: \xfc\r\ncontent-length: 1\r\n", (500, 1, LengthBody)),
        (b"HTTP/1.1 204 No Content\r\n", (204, 0, LengthBody)),
        (b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n", (204, 0, LengthBody)),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n", (304, 0, LengthBody)),
        (b"HTTP/1.1 100 Continue\r\n", (100, 0, LengthBody)),
        (b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n", (103, 0, LengthBody)),
    ],
)  # fmt: skip
def test_a_head_says_where_the_body_ends(head: bytes, said: tuple[int, int, type]) -> None:
    assert read(head) == said


@pytest.mark.parametrize(
    "head",
    [
        OK + b"content-length: 5\r\ncontent-length: 5\r\n",
        OK + b"content-length: 5\r\nContent-Length: 6\r\n",
        OK + b"CONTENT-LENGTH: 6\r\ncontent-length: 5\r\n",
        OK + b"content-length: 5, 5\r\n",
        OK + b"content-length: -5\r\n",
        OK + b"content-length: +5\r\n",
        OK + b"content-length: 5x\r\n",
        OK + b"content-length: 0x5\r\n",
        OK + b"content-length: \r\n",
        OK + b"content-length: 9999999999999999999999\r\n",
        OK + b"content-length : 5\r\n",
        OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
        OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        OK + b"transfer-encoding: gzip, chunked\r\n",
        OK + b"transfer-encoding: xchunked\r\n",
        OK + b"x: y\ncontent-length: 5\r\n",
        OK + b"x: y\rcontent-length: 5\r\n",
        OK + b"x: y\r\n content-length: 5\r\n",
        OK + b"x: \0\r\n",
        OK + b"no colon\r\n",
        OK + b": nameless\r\n",
        b"HTTP/1.1 20 OK\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 000 OK\r\n",
        b"HTTP/1.12 200 OK\r\n",
        b"HTTP/2.0 200 OK\r\n",
        b"HTTP/1.1  200 OK\r\n",
        b"ICY 200 OK\r\n",
        b"\r\n",
        b"<html>\r\n",
    ],
)
def test_a_head_that_two_readers_could_read_in_two_ways_is_refused(head: bytes) -> None:
    with pytest.raises(BadAnswer):
        AnswerHeads().read(head + b"\r\n")


@pytest.mark.parametrize(
    ("head", "stays"),
    [
        (OK, True),
        (OK + b"connection: close\r\n", False),
        (OK + b"Connection: Keep-Alive, Close\r\n", False),
        (OK + b"connection: keep-alive\r\nconnection: close\r\n", False),
        (OK + b"connection: keep-alive\r\n", True),
        (OK + b"connection: disclose\r\n", True),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nconnection: x\r\n", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n", True),
    ],
)
def test_a_head_says_whether_the_connection_stays(head: bytes, *, stays: bool) -> None:
    found = AnswerHeads().read(head + b"\r\n")
    assert found is not None
    assert found[0].keep_alive is stays


def test_an_incomplete_head_is_waited_for_and_an_endless_one_is_not() -> None:
    heads = AnswerHeads()
    whole = OK + b"content-length: 5\r\n\r\n"
    assert all(heads.read(whole[:end]) is None for end in range(len(whole)))
    with pytest.raises(BadAnswer, match="too long"):
        heads.read(OK + b"x: " + b"y" * answers.HEAD_BYTES_MAX)
    with pytest.raises(BadAnswer, match="too long"):
        heads.read(OK + b"x: " + b"y" * answers.HEAD_BYTES_MAX + b"\r\n\r\n")


ANSWER_LINES = st.sampled_from((
    b"content-length: %d", b"Content-Length: %d", b"CONTENT-LENGTH: %d", b"content-length:%d",
    b"content-length:  %d ", b"content-length: ", b"retry-after: 1", b"transfer-encoding: chunked",
    b"connection: close", b"date: x",
    b"x: content-length: %d", b"x-content-length: %d", b"bad : %d", b" fold: %d",
))  # fmt: skip


def facts_of(data: bytes, heads: AnswerHeads) -> object:
    """All that is read from a head, or why it is refused."""
    try:
        found = heads.read(data)
    except BadAnswer as error:
        return str(error)
    if found is None:
        return None
    head, length, end = found
    facts = [head.status, head.line, head.has_length, head.chunked, head.keep_alive, head.plain, head.busy]
    return [*facts, head.bodiless, head.until_close], length, end


@EXAMPLES
@given(
    st.lists(
        st.tuples(
            st.sampled_from((200, 204, 404, 500)),
            st.lists(st.tuples(ANSWER_LINES, st.integers(0, 10**6)), max_size=4),
        ),
        max_size=12,
    )
)
def test_a_remembered_head_is_read_as_one_that_was_never_seen(
    heads: list[tuple[int, list[tuple[bytes, int]]]],
) -> None:
    remembering = AnswerHeads()
    for status, lines in heads:
        fields = b"".join((line % size if b"%d" in line else line) + b"\r\n" for line, size in lines)
        data = b"HTTP/1.1 %d X\r\n%b\r\n" % (status, fields)
        assert facts_of(data, remembering) == facts_of(data, AnswerHeads())


def test_a_length_without_digits_is_refused_also_behind_the_same_head_with_some() -> None:
    heads = AnswerHeads()
    for _ in range(2):
        assert heads.read(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n") is not None
        with pytest.raises(BadAnswer, match="the length is not a number"):
            heads.read(b"HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n")


def test_connection_fields_are_dropped_and_the_framing_only_if_asked() -> None:
    head = (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nKEEP-ALIVE: x\r\na: b\r\n\r\n"
    )
    kept = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\na: b\r\n\r\n"
    assert answers.drop_connection_fields(head, chunks_too=False) == kept
    assert answers.drop_connection_fields(head, chunks_too=True) == b"HTTP/1.1 200 OK\r\na: b\r\n\r\n"


def test_fields_that_connection_names_are_dropped_but_never_the_length() -> None:
    line, kept = b"HTTP/1.1 200 OK\r\n", b"content-length: 3\r\nx-hops: 2\r\n\r\n"
    head = line + b"X-Hop: 1\r\nConnection: x-hop, Content-Length,\r\n" + kept
    assert answers.drop_connection_fields(head, chunks_too=False) == line + kept


# --- bodies of requests -----------------------------------------------------------------------------


@EXAMPLES
@given(SEEDS)
def test_a_request_with_a_length_is_put_together_and_what_is_behind_it_is_given_back(seed: int) -> None:
    note(f"seed {seed}")
    chance = random.Random(seed)
    data, behind = payload_of(chance), chance.choice(BEHIND)
    body = bodies.SizedBody(len(data))
    left = b""
    for piece in pieces_of(chance, data + behind):
        left += piece if body.complete else body.feed(piece)
    assert body.whole() == data
    assert left == behind


def test_a_request_that_comes_byte_by_byte_takes_little_more_room_than_what_it_carries() -> None:
    body = bodies.SizedBody(100_000)
    tracemalloc.start()
    for number in range(100_000):
        assert not body.complete
        assert body.feed(bytes([number % 251])) == b""
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert body.complete
    assert body.whole() == bytes(number % 251 for number in range(100_000))
    assert held < 300_000


@EXAMPLES
@given(SEEDS)
def test_a_chunked_request_is_put_together_and_what_is_behind_it_is_given_back(seed: int) -> None:
    note(f"seed {seed}")
    chance = random.Random(seed)
    written, carried = chunks_of(chance)
    behind = chance.choice(BEHIND)
    body = bodies.ChunkedBody()
    left = b""
    for piece in pieces_of(chance, written + behind):
        left += piece if body.complete else body.feed(piece)
    assert (bytes(body.data), left, body.complete) == (carried, behind, True)
    assert body.held_bytes == len(carried)


@EXAMPLES
@given(SEEDS)
def test_a_chunked_request_that_is_damaged_is_refused_or_waited_for_but_never_more_than_was_sent(
    seed: int,
) -> None:
    note(f"seed {seed}")
    chance = random.Random(seed)
    written = bytearray(chunks_of(chance)[0])
    for _ in range(chance.randrange(1, 4)):
        written[chance.randrange(len(written))] = chance.choice(b"\r\n0;5xZ \0")
    body = bodies.ChunkedBody()
    fed = 0
    for piece in pieces_of(chance, bytes(written)):
        if body.complete:
            break
        try:
            body.feed(piece)
        except BadBody:
            return
        fed += len(piece)
        assert body.held_bytes <= fed


@pytest.mark.parametrize(
    "data",
    [
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"-1\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\n",
        b"5 \0\r\nhello\r\n0\r\n\r\n",
        b"0\r\nbad trailer\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
    ],
)
def test_malformed_chunks_are_refused(data: bytes) -> None:
    with pytest.raises(BadBody):
        bodies.ChunkedBody().feed(data)


def test_a_chunk_of_nothing_but_empty_lines_is_a_chunk_as_any_other() -> None:
    payload = b"\r\n\r\n" * 250_000
    body = bodies.ChunkedBody()
    assert body.feed(b"%x\r\n%b\r\n0\r\n\r\nnext" % (len(payload), payload)) == b"next"
    assert body.data == payload


def test_tiny_chunks_take_no_more_room_than_what_they_carry() -> None:
    body = bodies.ChunkedBody()
    for _ in range(100):
        body.feed(b"2\r\nab\r\n" * 1000)
    assert body.held_bytes == 200_000
    assert sys.getsizeof(body.data) < 2 * body.held_bytes


# --- heads of requests ------------------------------------------------------------------------------

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "head",
    [
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 5\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n",
        POST + b"Content-Length: 5\r\nCONTENT-LENGTH: 6\r\n",
        POST + b"Content-Length: 5, 5\r\n",
        POST + b"Content-Length: +5\r\n",
        POST + b"Content-Length: -5\r\n",
        POST + b"Content-Length: 0x5\r\n",
        POST + b"Content-Length: \r\n",
        POST + b"Content-Length: 99999999999999999999\r\n",
        POST + b"Content-Length : 5\r\n",
        POST + b"Transfer-Encoding: gzip\r\n",
        POST + b"Transfer-Encoding: gzip, chunked\r\n",
        POST + b"Transfer-Encoding: xchunked\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n",
        POST + b"X: a\nContent-Length: 5\r\n",
        POST + b"X: a\r\n b\r\n",
        POST + b"X:\r\n b\r\n",
        POST + b"X: a\rb\r\n",
        POST + b"X: a\0b\r\n",
        POST + b": nameless\r\n",
        b"POST / HTTP/1.1\r\n",
        b"POST / HTTP/2.0\r\nHost: x\r\n",
        b"POST / HTTP/1.2\r\nHost: x\r\n",
        b"GET /\r\n",
        b"BREW / HTTP/1.1\r\nHost: x\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"\x16\x03\x01\x02\r\n",
    ],
)
def test_a_request_head_that_is_ambiguous_or_broken_is_refused_again_and_again(head: bytes) -> None:
    heads = HeadCache(_seen)
    for _ in range(3):
        with pytest.raises(BadHead):
            heads.read(head + b"\r\n")


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        (b"", 0),
        (b"Content-Length: 5\r\n", 5),
        (b"content-length:5\r\n", 5),
        (b"CONTENT-LENGTH: 5\r\n", 5),
        (b"Content-Length:\t5 \r\n", 5),
        (b"Content-Length: 0000000000000000005\r\n", 5),
        (b"X: Content-Length: 7\r\nContent-Length: 5\r\n", 5),
        (b"Transfer-Encoding: chunked\r\n", 0),
        (b"transfer-encoding: Chunked \r\n", 0),
    ],
)
def test_a_request_head_says_how_long_its_body_is(fields: bytes, length: int) -> None:
    assert HeadCache(_seen).read(POST + fields + b"\r\n")[1] == length


def test_hop_by_hop_fields_and_those_that_connection_names_are_not_forwarded() -> None:
    head = read_head(
        b"POST /v1/x?a=b HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, X-Private\r\nX-Private: 1\r\n"
        b"TE: trailers\r\nAuthorization: Bearer k\r\nKeep-Alive: 5\r\nContent-Length: 3\r\n"
        b"Expect: 100-continue\r\nX-Request-Id: r\r\nAccept: */*\r\n\r\n"
    )  # fmt: skip
    assert head.forwarded() == b"POST /v1/x?a=b HTTP/1.1\r\nauthorization: Bearer k\r\naccept: */*\r\n"
    assert head.expects_continue


Seen = tuple[str, bytes, list[tuple[bytes, bytes]], bool, bool, bool]


def _seen(head: Head) -> Seen:
    """All that a plan may depend on, but for the length's digits."""
    fields = [(name, b"" if name == b"content-length" else value) for name, value in head.fields]
    return head.method, head.target, fields, head.http_10, head.keep_alive, head.chunked


REQUEST_LINES = st.sampled_from((
    b"Content-Length: %d", b"content-length:%d", b"CONTENT-LENGTH: %d", b"Content-Length: %d ",
    b"Content-Length:\t%d", b"Content-Length: %d, 5", b"X: Content-Length: %d", b"Connection: close",
    b"Connection: upgrade", b"Upgrade: websocket", b"Transfer-Encoding: chunked", b"Expect: 100-continue",
    b"X-Request-Id: %d", b" Content-Length: %d", b"Authorization: Bearer k",
))  # fmt: skip
REQUEST_FIRST = st.sampled_from((b"POST /v1/chat/completions", b"GET /health", b"HEAD /", b"CONNECT a:1"))
LENGTHS = st.one_of(st.integers(0, 20), st.integers(0, 10**17))


@EXAMPLES
@given(
    st.lists(
        st.tuples(
            REQUEST_FIRST,
            st.sampled_from((b"1.1", b"1.0")),
            st.lists(st.tuples(REQUEST_LINES, LENGTHS), max_size=4),
        ),
        max_size=12,
    )
)
def test_the_head_cache_never_answers_differently_from_a_fresh_parse(
    requests: list[tuple[bytes, bytes, list[tuple[bytes, int]]]],
) -> None:
    cache = HeadCache(_seen)
    for first, version, lines in requests:
        fields = b"".join((line % size if b"%d" in line else line) + b"\r\n" for line, size in lines)
        data = b"%b HTTP/%b\r\nHost: x\r\n%b\r\n" % (first, version, fields)
        fresh: object
        try:
            fresh = HeadCache(_seen).read(data)
        except BadHead as error:
            fresh = str(error)
        cached: object
        try:
            cached = cache.read(data)
        except BadHead as error:
            cached = str(error)
        assert cached == fresh


def test_what_strangers_make_the_router_remember_has_a_bound() -> None:
    cache = HeadCache(_seen)
    for number in range(3000):
        cache.read(POST + b"X: %d%b\r\nContent-Length: 5\r\n\r\n" % (number, b"y" * (number * 8)))
    assert sum(map(len, cache._known)) < 8 << 20
