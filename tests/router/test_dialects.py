"""What each endpoint's body says to the router: the fields that it reads; odd values are forgiven."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmroute.dialects import PARSERS, BadRequest, ParsedRequest, parser_for
from warmroute_policies.blocks import PromptBlocks

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES, EMBEDDINGS, GENERATE = "/v1/messages", "/v1/embeddings", "/generate"
TOKENS, INVOCATIONS, OTHER = "/inference/v1/generate", "/invocations", "/v1/rerank"

TURN = {"role": "user", "content": "hello"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}


def parsed(path: str, body: object) -> ParsedRequest:
    parser = parser_for(path)
    assert parser is not None
    return parser(body if isinstance(body, bytes) else json.dumps(body).encode())


def compact(*parts: object) -> bytes:
    return b"".join(json.dumps(part).encode() for part in parts)


FULL: dict[str, tuple[dict[str, Any], ParsedRequest]] = {
    CHAT: (
        {"model": "m", "messages": [TURN], "tools": [TOOL], "stream": True, "max_tokens": 9, "user": "u",
         "cache_salt": "s", "priority": -2, "temperature": 0.5},
        ParsedRequest("m", compact([TOOL], [TURN]), True, 9, "u", "s", -2),
    ),
    COMPLETIONS: (
        {"model": "m", "prompt": "hello", "stream": True, "max_tokens": 9, "user": "u", "cache_salt": "s",
         "priority": 3},
        ParsedRequest("m", compact("hello"), True, 9, "u", "s", 3),
    ),
    RESPONSES: (
        {"model": "m", "input": [TURN], "instructions": "be kind", "tools": [TOOL], "stream": True,
         "max_output_tokens": 9, "user": "u", "cache_salt": "s", "priority": 3},
        ParsedRequest("m", compact([TOOL], "be kind", [TURN]), True, 9, "u", "s", 3),
    ),
    EMBEDDINGS: (
        {"model": "m", "input": ["hello"], "user": "u", "priority": 3},
        ParsedRequest("m", b"", False, None, "u", "", 3, has_prompt=False),
    ),
    MESSAGES: (
        {"model": "m", "messages": [TURN], "system": [{"type": "text", "text": "be kind"}], "tools": [TOOL],
         "stream": True, "max_tokens": 9, "metadata": {"user_id": "u"}},
        ParsedRequest("m", compact([TOOL], [{"type": "text", "text": "be kind"}], [TURN]), True, 9, "u"),
    ),
    GENERATE: (
        {"model": "m", "text": "hello", "stream": True, "sampling_params": {"max_new_tokens": 9},
         "priority": 3, "session_params": {"id": "u"}},
        ParsedRequest("m", compact("hello"), True, 9, "u", "", 3),
    ),
    TOKENS: (
        {"model": "m", "token_ids": [1, 2], "stream": True, "sampling_params": {"max_tokens": 9},
         "cache_salt": "s", "priority": 3},
        ParsedRequest("m", compact([1, 2]), True, 9, None, "s", 3),
    ),
    INVOCATIONS: (
        {"model": "m", "messages": [TURN], "tools": [TOOL], "stream": True, "max_tokens": 9, "user": "u",
         "cache_salt": "s", "priority": -2},
        ParsedRequest("m", compact([TOOL], [TURN]), True, 9, "u", "s", -2),
    ),
    OTHER: (
        {"model": "m", "query": "hello", "stream": True},
        ParsedRequest("m", stream=True, has_prompt=False),
    ),
}  # fmt: skip


@pytest.mark.parametrize("path", FULL)
def test_an_endpoint_reads_its_fields_in_any_order(path: str) -> None:
    body, expected = FULL[path]
    assert parsed(path, body) == expected
    assert parsed(path, dict(reversed(body.items()))) == expected
    assert parsed(path, json.dumps(body, indent=1).encode()).model == "m"


@pytest.mark.parametrize("path", FULL)
def test_an_empty_object_asks_for_nothing(path: str) -> None:
    asked = parsed(path, {})
    assert (asked.model, asked.material, asked.stream, asked.max_tokens) == ("", b"", False, None)
    assert (asked.session, asked.cache_salt, asked.priority) == (None, "", 0)


@pytest.mark.parametrize(
    ("fields", "session"),
    [
        ({"user": "u"}, "u"),
        ({"session_id": "s", "user": "u"}, "s"),
        ({"prompt_cache_key": "k", "session_id": "s", "user": "u"}, "k"),
        ({"prompt_cache_key": "", "session_id": "", "user": ""}, None),
        ({"prompt_cache_key": None, "user": "u"}, "u"),
        ({"prompt_cache_key": 7, "user": "u"}, "u"),
        ({"session_id": ["s"], "user": {"id": "u"}}, None),
    ],
)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, RESPONSES])
def test_the_most_specific_name_of_a_session_wins_and_an_empty_one_is_none(
    path: str, fields: dict[str, Any], session: str | None
) -> None:
    assert parsed(path, fields).session == session


@pytest.mark.parametrize(
    ("path", "body", "session"),
    [
        (MESSAGES, {"metadata": {"user_id": "u"}}, "u"),
        (MESSAGES, {"metadata": {"user_id": ""}}, None),
        (MESSAGES, {"metadata": {"user_id": 7}}, None),
        (MESSAGES, {"metadata": "u"}, None),
        (MESSAGES, {"metadata": None, "user": "u"}, None),
        (GENERATE, {"session_params": {"id": "s"}}, "s"),
        (GENERATE, {"session_params": {"session_id": "s"}}, "s"),
        (GENERATE, {"session_params": ["s"]}, None),
    ],
)
def test_other_dialects_name_sessions_in_their_own_way(
    path: str, body: dict[str, Any], session: str | None
) -> None:
    assert parsed(path, body).session == session


@pytest.mark.parametrize(
    ("path", "fields", "limit"),
    [
        (CHAT, {"max_tokens": 5}, 5),
        (CHAT, {"max_completion_tokens": 6, "max_tokens": 5}, 6),
        (CHAT, {"max_completion_tokens": None, "max_tokens": 5}, 5),
        (CHAT, {"max_tokens": "5"}, None),
        (CHAT, {"max_tokens": 5.5}, None),
        (CHAT, {"max_tokens": True}, None),
        (COMPLETIONS, {"max_tokens": [5]}, None),
        (RESPONSES, {"max_tokens": 5}, None),
        (GENERATE, {"sampling_params": {"max_new_tokens": "5"}}, None),
        (GENERATE, {"sampling_params": [{"max_new_tokens": 5}]}, None),
    ],
)
def test_the_limit_of_an_answer_is_read_where_it_is_a_number(
    path: str, fields: dict[str, Any], limit: int | None
) -> None:
    assert parsed(path, fields).max_tokens == limit


# Values of a type that no engine expects; what an engine says to them is its business.
ODD: tuple[object, ...] = (None, True, 7, -1, 1.5, "", "text", [], ["x"], {}, {"a": [1]}, 10**30)


@pytest.mark.parametrize("path", FULL)
@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_no_field_of_an_odd_type_is_refused_or_spoils_the_others(path: str, odd: object) -> None:
    body, expected = FULL[path]
    for name in body:
        asked = parsed(path, body | {name: odd})
        if name != "model":
            assert asked.model == "m"
        if name != "stream":
            assert asked.stream is expected.stream
        assert type(asked.model) is str
        assert type(asked.stream) is bool
        assert asked.session is None or (type(asked.session) is str and asked.session)
        assert asked.max_tokens is None or type(asked.max_tokens) is int
        assert type(asked.priority) is int


@settings(max_examples=300, derandomize=True)
@given(
    st.sampled_from(tuple(FULL)),
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(("model", "messages", "prompt", "stream", "user", "metadata", "text")),
                inner,
                max_size=5,
            ),
            max_leaves=20,
        ).map(lambda value: json.dumps(value).encode()),
    ),
)  # fmt: skip
def test_any_body_is_read_or_refused_and_nothing_else_happens(path: str, body: bytes) -> None:
    try:
        asked = parsed(path, body)
    except BadRequest:
        assert path != OTHER
    else:
        asked.model.encode()  # it becomes a label and a line of the log


@pytest.mark.parametrize("path", [path for path in FULL if path != OTHER])
@pytest.mark.parametrize(
    "body",
    [
        b"", b"no json", b"[]", b'"text"', b"7", b"null", b'{"model": "m"', b'{"model": "m"} more',
        b"\xff\xfe{}", b'{"model": "\xff"}', b'{"model": "\\ud800"}', b'{"x": NaN}',
        b'{"messages": ' + b"[" * 100_000, b'{"a": ' * 100_000,
        b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_refused(path: str, body: bytes) -> None:
    with pytest.raises(BadRequest):
        parsed(path, body)
    assert not parsed(OTHER, body).has_prompt  # nobody says that it must be JSON there


def test_tools_come_before_messages_as_a_chat_template_lays_them_out() -> None:
    """Two conversations with the same tools share the tools; with other tools they share nothing."""
    tools = [{"type": "function", "function": {"name": f"tool{n}", "parameters": {}}} for n in range(50)]
    one = parsed(CHAT, {"messages": [TURN], "tools": tools}).material
    two = parsed(CHAT, {"tools": tools, "messages": [TURN | {"content": "bye"}]}).material
    other = parsed(CHAT, {"messages": [TURN], "tools": tools[1:]}).material
    ids = [PromptBlocks(material, 0) for material in (one, two, other)]
    shared = len(compact(tools)) // 512
    assert [ids[0].id_at(n) for n in range(shared)] == [ids[1].id_at(n) for n in range(shared)]
    assert ids[0].id_at(0) != ids[2].id_at(0)


def test_a_grown_conversation_begins_as_the_former_one_did() -> None:
    turns = [{"role": "user" if n % 2 == 0 else "assistant", "content": f"turn {n} " * 50} for n in range(9)]
    before = parsed(CHAT, {"messages": turns[:-2]}).material
    after = parsed(CHAT, {"messages": turns}).material
    assert bytes(after).startswith(bytes(before[:-1]))  # but for the bracket that closes the list


def test_a_prompt_of_token_ids_is_a_prompt() -> None:
    ids = list(range(1000, 1400))
    assert parsed(COMPLETIONS, {"prompt": ids}).material == compact(ids)
    assert parsed(COMPLETIONS, {"prompt": [ids, ids]}).material == compact([ids, ids])
    assert parsed(GENERATE, {"input_ids": ids}).material == compact(ids)
    longer = parsed(COMPLETIONS, {"prompt": [*ids, 7]}).material
    assert bytes(longer).startswith(compact(ids)[:-1])


def test_an_invocation_is_what_its_body_says() -> None:
    chat = {"model": "m", "messages": [TURN], "tools": [TOOL]}
    assert parsed(INVOCATIONS, chat).material == parsed(CHAT, chat).material, "they share a prefix"
    assert parsed(INVOCATIONS, {"prompt": "hello"}).material == compact("hello")
    other = parsed(INVOCATIONS, {"model": "m", "input": ["hello"]})
    assert (other.model, other.material, other.has_prompt) == ("m", b"", False)


def test_only_inference_paths_have_a_parser() -> None:
    assert parser_for("/v1/anything/at/all") is not None
    assert all(parser_for(path) is PARSERS[path] for path in PARSERS)
    assert parser_for("/workers") is None
    assert parser_for("/V1/chat/completions") is None
    assert parser_for("//v1/chat/completions") is None


@pytest.mark.parametrize("path", [*PARSERS, "/v1/anything"])
def test_a_models_name_without_end_is_refused(path: str) -> None:
    parse = parser_for(path)
    assert parse is not None
    with pytest.raises(BadRequest, match="longer than 256"):
        parse(json.dumps({"model": "m" * 257}).encode())
    assert parse(json.dumps({"model": "m" * 256, "messages": []}).encode()).model == "m" * 256


@pytest.mark.parametrize("field", ["prompt_cache_key", "session_id", "user"])
def test_a_session_whose_name_is_too_long_is_none(field: str) -> None:
    body = {"model": "m", "messages": [], field: "s" * 257}
    parse = parser_for("/v1/chat/completions")
    assert parse is not None
    assert parse(json.dumps(body).encode()).session is None
    assert parse(json.dumps(body | {field: "s" * 256}).encode()).session == "s" * 256
