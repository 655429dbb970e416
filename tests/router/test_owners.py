"""Which things a request is about, who is remembered as their owner, and where an answer says its id."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmroute.dialects import parser_for
from warmroute.owners import IdTap, Owners, created_id, kept_of
from warmroute.wire.answers import AnswerHeads

EXAMPLES = settings(max_examples=100, derandomize=True)

# --- the memory -----------------------------------------------------------------------------------


@EXAMPLES
@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.booleans(), st.sampled_from("abcdefgh"), st.sampled_from("xyz")), max_size=60),
)
def test_owners_are_remembered_as_by_a_naive_lru(most: int, steps: list[tuple[bool, str, str]]) -> None:
    owners, naive = Owners(most), OrderedDict[str, str]()
    for learns, thing, worker in steps:
        if learns:
            owners.learn(thing, worker)
            naive[thing] = worker
            naive.move_to_end(thing)
            while len(naive) > most:
                naive.popitem(last=False)
        else:
            assert owners.find(thing) == naive.get(thing)
            if thing in naive:
                naive.move_to_end(thing)
        assert len(owners) == len(naive)
    for thing in list(naive):
        assert owners.find(thing) == naive[thing]


# --- what a request is about ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "thing"),
    [
        ("GET", "/v1/responses/resp_1", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel", "/v1/responses/resp_1"),
        ("GET", "/v1/responses/resp_1/input_items", "/v1/responses/resp_1"),
        ("POST", "/v1/conversations/conv_1/items", "/v1/conversations/conv_1"),
        ("DELETE", "/v1/conversations/conv_1/items/msg_2", "/v1/conversations/conv_1"),
        ("GET", "/v1/files/file-a.b:c~d/content", "/v1/files/file-a.b:c~d"),
        ("POST", "/v1/batches/batch_1/cancel", "/v1/batches/batch_1"),
    ],
)
def test_a_url_names_a_thing(method: str, path: str, thing: str) -> None:
    kept = kept_of(method, path)
    assert kept is not None
    assert (kept.thing, kept.creates) == (thing, "")


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/conversations", "/v1/files", "/v1/batches"])
def test_a_post_to_a_collection_creates_and_nothing_else_does(path: str) -> None:
    kept = kept_of("POST", path)
    assert kept is not None
    assert (kept.thing, kept.creates) == ("", path)
    assert kept_of("GET", path) is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models/resp_1"),
        ("PUT", "/v1/files/file-1"),
        ("HEAD", "/v1/files/file-1"),
        ("GET", "/v1/responses/"),
        ("GET", "/v1/responses/a%2Fb"),
        ("GET", "/v1/responses/é"),
        ("GET", f"/v1/responses/{'x' * 257}"),
        ("GET", "/v2/responses/resp_1"),
    ],
)
def test_other_requests_are_about_nothing_that_is_kept(method: str, path: str) -> None:
    assert kept_of(method, path) is None


@pytest.mark.parametrize(
    ("path", "body", "kept"),
    [
        ("/v1/responses", {"previous_response_id": "resp_1"}, "/v1/responses/resp_1"),
        ("/v1/responses", {"conversation": "conv_1"}, "/v1/conversations/conv_1"),
        ("/v1/responses", {"conversation": {"id": "conv_1"}}, "/v1/conversations/conv_1"),
        ("/v1/responses", {"previous_response_id": None, "conversation": None}, ""),
        ("/v1/responses", {"previous_response_id": 7}, ""),
        ("/v1/responses", {"previous_response_id": "../files/file-1"}, ""),
        ("/v1/responses", {"conversation": {"id": ["conv_1"]}}, ""),
        ("/v1/batches", {"input_file_id": "file-1"}, "/v1/files/file-1"),
        ("/v1/batches", {}, ""),
        ("/v1/chat/completions", {"previous_response_id": "resp_1"}, ""),
    ],
)
def test_a_body_names_what_it_goes_on_from(path: str, body: dict[str, object], kept: str) -> None:
    parse = parser_for(path)
    assert parse is not None
    assert parse(json.dumps(body).encode()).kept == kept


# --- the id in an answer --------------------------------------------------------------------------

IDS = st.text("abcdefghijklmnop_0123456789", min_size=1, max_size=30)
NAMES = st.sampled_from(["object", "created_at", "metadata", "conversation", "error", "output", "usage"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just('{"id":"resp_forged"}'),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "response", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def objects(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A created thing, with its id at any place."""
    members = list(draw(st.dictionaries(NAMES, VALUES, max_size=4)).items())
    name = draw(IDS)
    members.insert(draw(st.integers(0, len(members))), ("id", name))
    return name, dict(members)


@EXAMPLES
@given(objects(), st.sampled_from([None, 2]))
def test_the_id_of_an_object_is_its_own(drawn: tuple[str, dict[str, Any]], indent: int | None) -> None:
    name, created = drawn
    assert created_id(json.dumps(created, indent=indent).encode()) == name


@EXAMPLES
@given(objects(), st.integers(1, 200))
def test_the_id_of_a_stream_is_that_of_the_response_in_its_first_event(
    drawn: tuple[str, dict[str, Any]], size: int
) -> None:
    name, created = drawn
    event = json.dumps({"type": "response.created", "sequence_number": 0, "response": created})
    text = f": hello\n\nevent: response.created\ndata: {event}\n\n".encode()
    assert created_id(text) == name
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    assert created_id(b"\r\n" + framed) in (name, ""), "chunks may cut anywhere"


@EXAMPLES
@given(objects(), st.data())
def test_an_answer_that_is_cut_tells_the_id_or_nothing(
    drawn: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    name, created = drawn
    text = json.dumps(created).encode()
    assert created_id(text[: data.draw(st.integers(0, len(text)))]) in (name, "")


@pytest.mark.parametrize(
    "answer", [b"", b"no JSON", b"[]", b"{}", b'{"metadata": {"id": "x"}}', b'{"id": 7}', b'{"id": "x', b"}{"]
)
def test_an_answer_without_an_id_tells_none(answer: bytes) -> None:
    assert created_id(answer) == ""


def test_only_the_beginning_of_an_answer_that_succeeded_is_looked_at() -> None:
    def learned(status: int, pieces: list[bytes]) -> str | None:
        owners = Owners(10)
        tap = IdTap(owners, "/v1/files")
        head = b"HTTP/1.1 %d X\r\ntransfer-encoding: chunked\r\n\r\n" % status
        found = AnswerHeads().read(head)
        assert found is not None
        tap.begin(found[0], head, "http://w", http_10=False)
        assert [tap.take(piece) for piece in pieces] == pieces
        return owners.find("/v1/files/file-1")

    assert learned(200, [b'{"id": "fi', b'le-1"}']) == "http://w"
    assert learned(201, [b'{"a": "%b",' % (b"x" * 4000), b'"id": "file-1"}']) == "http://w"
    assert learned(200, [b'{"a": "%b",' % (b"x" * 4085), b'"id": "file-1"}']) is None
    assert learned(404, [b'{"id": "file-1"}']) is None
