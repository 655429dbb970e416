"""Reading on from where the last turn was read gives what reading the whole body gives."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from warmroute.dialects import BadRequest, openai
from warmroute.dialects.turns import Turns


class Body(msgspec.Struct):
    messages: msgspec.Raw = msgspec.Raw(b"")
    model: str = ""
    stream: bool | None = False
    tools: msgspec.Raw = msgspec.Raw(b"")
    user: str | None = None


class Reader:
    """Turns, and how many bytes were decoded."""

    def __init__(self) -> None:
        self.decoded = 0
        self._decoder = msgspec.json.Decoder(Body)
        self.turns = Turns(self._decode)

    def _decode(self, body: bytes | memoryview) -> Body:
        self.decoded += len(body)
        return self._decoder.decode(body)

    def read(self, body: bytes) -> tuple[Body, bytes]:
        fields, messages = self.turns.read(body)
        return fields, bytes(messages)


def whole(body: bytes) -> tuple[Body, bytes]:
    fields = msgspec.json.decode(body, type=Body)
    return fields, bytes(fields.messages)


def facts(read: tuple[Body, bytes]) -> tuple[object, ...]:
    fields, messages = read
    return messages, fields.model, fields.stream, bytes(fields.tools), fields.user


def outcome(read: Callable[[bytes], tuple[Body, bytes]], body: bytes) -> object:
    """What is read, or how it is refused."""
    try:
        return facts(read(body))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return str(error)


def text(chance: random.Random, size: int) -> str:
    """What people and agents write: words, code, JSON inside JSON, quotes, brackets, other alphabets."""
    pieces = [
        "the quick brown fox ", 'say "hello" ', "a},{b ", '}, {"role": "user"} ', "]}] ", "[[[ ", "\\ \\\\ ",
        "\n\n", 'json.dumps({"messages": [{"a": 1}, {"b": [2]}]}) ', "zażółć 你好 🙂 ", '"messages":[{',
    ]  # fmt: skip
    written = ""
    while len(written) < size:
        written += chance.choice(pieces)
    return written


def message(chance: random.Random) -> dict[str, Any]:
    role, size = chance.choice(["user", "assistant", "tool"]), int(chance.paretovariate(0.6) * 100) % 6000
    if chance.random() < 0.2:
        parts = [{"type": "text", "text": text(chance, size // 3)} for _ in range(chance.randrange(1, 4))]
        return {"role": role, "content": parts}
    if chance.random() < 0.1:
        return {"role": role, "content": None, "tool_calls": [{"id": "1", "function": {"arguments": "{}"}}]}
    return {"role": role, "content": text(chance, size)}


def body_of(chance: random.Random, messages: list[dict[str, Any]], style: int) -> bytes:
    """As clients write a request: in their own order, with their own spaces."""
    fields: dict[str, Any] = {"model": "m", "messages": messages, "stream": chance.random() < 0.5}
    tools = [{"type": "function", "function": {"name": "f", "description": '"messages": [{}, {}]'}}] * 40
    if style & 1:
        fields = {"messages": messages, "model": "m", "user": "u"}
    if style & 2:
        fields["tools"] = tools
    if style & 4:
        fields = {"metadata": {"messages": [{"x": 1}, {"y": 2}]}, "tools": tools, **fields}
    if style & 8:
        return json.dumps(fields, ensure_ascii=bool(style & 16), indent=1 if style & 32 else None).encode()
    return json.dumps(fields, ensure_ascii=bool(style & 16), separators=(",", ":")).encode()


@pytest.mark.parametrize("seed", range(30))
def test_every_turn_of_every_conversation_is_read_as_if_it_were_the_first(seed: int) -> None:
    chance, reader = random.Random(seed), Reader()
    style = chance.randrange(64)
    system = {"role": "system", "content": text(chance, chance.choice([10, 9_000, 30_000]))}
    conversations = [[system] for _ in range(4)]
    for _ in range(80):
        at = chance.randrange(len(conversations))
        if chance.random() < 0.1:  # an edit, or another branch
            conversations[at] = conversations[at][: chance.randrange(1, len(conversations[at]) + 1)]
        conversations[at].append(message(chance))
        body = body_of(chance, conversations[at], style)
        assert facts(reader.read(body)) == facts(whole(body))


def test_a_turn_costs_the_reading_of_what_it_adds() -> None:
    chance, reader = random.Random(1), Reader()
    messages = [{"role": "user", "content": "x" * 1000} for _ in range(130)]
    reader.read(body_of(chance, messages, 0))
    for _ in range(20):
        messages.append({"role": "user", "content": text(chance, 800)})
        body, before = body_of(chance, messages, 0), reader.decoded
        reader.read(body)
        assert reader.decoded - before < len(body) / 5


def cut(body: bytes) -> bytes:
    return body[:-3]


def twice(body: bytes) -> bytes:
    return body[:-1] + b',"messages":[{"role":"user","content":"again"}]}'


def renamed(body: bytes) -> bytes:
    return body[:-1] + b',"model":"n"}'


def badly_escaped(body: bytes) -> bytes:
    return body[:-40] + b'\\q"' + body[-37:]


def odd_type(body: bytes) -> bytes:
    return body[:-1] + b',"user":7}'


@pytest.mark.parametrize("change", [cut, twice, renamed, badly_escaped, odd_type], ids=lambda c: c.__name__)
def test_an_odd_end_behind_a_known_beginning_is_read_as_anywhere(change: Callable[[bytes], bytes]) -> None:
    chance, reader = random.Random(2), Reader()
    messages = [message(chance) for _ in range(100)]
    reader.read(body_of(chance, messages, 0))
    body = change(body_of(chance, [*messages, message(chance)], 0))
    assert outcome(reader.read, body) == outcome(whole, body)


@pytest.mark.parametrize("text", ["\\u0041", "\\n", '\\"', "\\\\", "\\\\\\n", "é", "你", "🙂"])
@pytest.mark.parametrize("end", ["41", '"', "n", "\\", "\\u00", "", "}"])
def test_a_stretch_may_end_inside_an_escape_or_a_letter(text: str, end: str) -> None:
    """Two bodies that are alike up to every byte of it, and differ behind."""
    for inside in range(len(text.encode()) + 1):
        reader = Reader()
        beginning = b'{"messages":[{"role":"user","content":"'
        beginning += b"x" * (32_768 - len(beginning) - inside) + text.encode()
        first = beginning + b"y" * 4000 + b'"}]}'
        other = beginning[:32_768] + end.encode() + b'z"}]}'
        for body in (first, other):
            assert outcome(reader.read, body) == outcome(whole, body)


@pytest.mark.parametrize("messages", ["null", "7", '"[]"', '{"a":[{},{}]}', "[]", '["a","b"]'])
def test_messages_of_another_shape_are_no_place_to_read_on_from(messages: str) -> None:
    reader = Reader()
    for size in (30_000, 31_000, 40_000):
        body = b'{"messages":%b,"user":"%b"}' % (messages.encode(), b"[{},{" * (size // 5))
        assert facts(reader.read(body)) == facts(whole(body))


def test_a_conversation_through_the_dialect_keeps_model_tools_and_prompt() -> None:
    chance = random.Random(3)
    messages = [message(chance) for _ in range(60)]
    body = b""
    for _ in range(10):
        messages.append(message(chance))
        body = body_of(chance, messages, 3)
        parsed, plain = openai.chat(body), whole(body)
        assert bytes(parsed.material) == bytes(plain[0].tools) + plain[1]
        assert (parsed.model, parsed.session) == ("m", "u")
    with pytest.raises(BadRequest):
        openai.chat(body[:-2])
