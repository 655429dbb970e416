"""What a body says of its prompt: read without its messages, and the same as with them."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest

from tokens.conversations import TOOLS, made_up, user
from tokens.models import read
from warmroute.dialects import openai
from warmroute.tokens import asked
from warmroute.tokens.asked import Chat, Text, Untold, Why

SEED = 5
OPTIONS: dict[str, Any] = {
    "model": "m",
    "temperature": 0.5,
    "tools": TOOLS,
    "tool_choice": "auto",
    "add_generation_prompt": False,
    "chat_template_kwargs": {"a": ["messages", {"messages": []}]},
    "documents": [{"messages": "x"}],
    "user": '"messages": [',
    "metadata": {"messages": [1, 2]},
    "stream": True,
}


def test_the_fields_are_those_of_the_whole_body_whatever_their_order() -> None:
    chance = random.Random(SEED)
    decode = msgspec.json.Decoder(Chat).decode
    for _ in range(300):
        names = chance.sample(sorted(OPTIONS), chance.randrange(len(OPTIONS)))
        messages = [one for added in made_up(chance, chance.randrange(5), 30) for one in added]
        items = [*((name, OPTIONS[name]) for name in names), ("messages", messages)]
        chance.shuffle(items)
        ascii_only, indent = chance.random() < 0.5, chance.choice((None, 1))
        body = json.dumps(dict(items), ensure_ascii=ascii_only, indent=indent).encode()
        chat, said = read(body)
        whole = decode(body)
        assert json.loads(bytes(said)) == messages, f"seed {SEED}"
        for name in Chat.__struct_fields__:
            if name != "messages":
                assert getattr(chat, name) == getattr(whole, name), f"seed {SEED}: {name}"
        assert chat.options_hash() == whole.options_hash()


def test_only_options_that_change_the_prompt_make_it_another() -> None:
    def of(**more: Any) -> int:
        return read(json.dumps({"model": "m", "messages": [user("a")], **more}).encode())[0].options_hash()

    assert of() == of(temperature=1) == of(add_generation_prompt=True) == of(stream=True)
    others = [
        of(add_generation_prompt=False),
        of(chat_template_kwargs={"a": 1}),
        of(chat_template_kwargs={"a": 2}),
        of(documents=[{"a": "b"}]),
        of(reasoning_effort="low"),
        of(tool_choice="none"),
    ]
    assert len({of(), *others}) == 7


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("chat_template", "x", Why.OPTION),
        ("truncate_prompt_tokens", 3, Why.OPTION),
        ("mm_processor_kwargs", {"a": 1}, Why.OPTION),
        ("kv_transfer_params", {"prompt_token_ids": [1]}, Why.OPTION),
        ("input_ids", [1], Why.OPTION),
        ("add_generation_prompt", "yes", Why.ODD),
        ("chat_template_kwargs", [1], Why.ODD),
        ("documents", ["a"], Why.ODD),
    ],
)
def test_what_only_the_engine_can_do_is_left_to_it(field: str, value: object, why: Why) -> None:
    chat, _ = read(json.dumps({"model": "m", "messages": [user("a")], field: value}).encode())
    with pytest.raises(Untold) as raised:
        chat.check()
    assert raised.value.why is why


@pytest.mark.parametrize("body", [b'{"messages": [}', b'{"messages": 1}', b"[]", b'{"messages": ["\xff"]}'])
def test_a_body_that_cannot_be_read_is_odd(body: bytes) -> None:
    with pytest.raises(Untold):
        asked.read_messages(asked.read_chat(body, b"")[1])


def test_prompts_of_completions() -> None:
    def of(**fields: Any) -> Any:
        return asked.read_completion(json.dumps(fields).encode())

    assert of(prompt="a") == Text("a", special=True)
    assert of(prompt=["a"]) == Text("a", special=True)
    assert of(prompt="a", add_special_tokens=False) == Text("a", special=False)
    assert of(prompt=[1, 2]) == [1, 2]
    assert of(prompt=[[1, 2]]) == [1, 2]
    for odd in (None, [], 1, [1, "a"], [[1], 2]):
        with pytest.raises(Untold):
            of(prompt=odd)


def test_the_material_is_where_the_dialect_found_it() -> None:
    body = json.dumps({"tools": TOOLS, "messages": [user("ä" * 50_000)], "stream": True}).encode()
    material = openai.chat(body).material
    chat, messages = asked.read_chat(body, material)
    assert bytes(material) == bytes(chat.tools) + bytes(messages)
