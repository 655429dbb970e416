"""A conversation's next turn has the tokens that it has as a whole, and mostly costs its own text only."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tokens.conversations import TOOLS, Body, made_up, said, text, tool, user
from tokens.models import BY_ENGINE, Teller, model
from tokens.oracles import TEMPLATES
from warmroute.tokens.asked import Untold
from warmroute.tokens.standins import MARK

SEEDS = range(4)


def conversation(seed: int, turns: int) -> Iterator[Body]:
    """An agent's requests, each the one before and more."""
    chance = random.Random(seed)
    more: dict[str, Any] = {"tools": TOOLS} if chance.random() < 0.5 else {}
    messages: list[Any] = [{"role": "system", "content": text(chance, 400)}] if chance.random() < 0.7 else []
    if not messages:
        messages.append(user(text(chance, 400)))
        messages.append(said("ok"))
    for added in made_up(chance, turns):
        messages += [one for one in added if one["role"] != "system"]
        yield {"messages": list(messages), **more}


@pytest.mark.parametrize("engine", BY_ENGINE)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_every_turn_has_the_tokens_that_it_has_as_a_whole(template: str, seed: int, engine: str) -> None:
    teller = Teller(model(template), BY_ENGINE[engine])
    for request in conversation(seed, 8):
        try:
            told, whole = teller.tell(request)
        except Untold:
            continue
        assert told.prompt == whole.prompt, f"seed {seed}"


@pytest.mark.parametrize("template", ["chatml", "tagged_tools", "parts", "wide_bars"])
def test_templates_that_write_one_message_after_the_other_go_on(template: str) -> None:
    teller = Teller(model(template))
    told = 0
    for seed in SEEDS:
        for request in conversation(seed, 8):
            try:
                teller.tell(request)
            except Untold:
                continue
            told += 1
    assert told > 20
    assert teller.went_on > told * 0.4


def test_alternating_roles_go_on() -> None:
    teller = Teller(model("turns"))
    messages = [{"role": "system", "content": "be brief " * 100}, user("first")]
    for turn in range(12):
        told, whole = teller.tell({"messages": messages})
        assert told.prompt == whole.prompt
        messages += [said(f"answer {turn}"), user(f"question {turn}  \n")]
    assert teller.went_on == 11


def test_a_template_that_counts_messages_never_goes_on() -> None:
    teller = Teller(model("numbered"))
    for request in conversation(1, 8):
        told, whole = teller.tell(request)
        assert told.prompt == whole.prompt
    assert teller.went_on == 0


def test_a_question_that_takes_earlier_reasoning_out_of_the_prompt_is_seen() -> None:
    teller = Teller(model("tagged_tools"))
    messages = [
        {"role": "system", "content": "think " * 200},
        user("a"),
        said("", tool_calls=[_call(1)], reasoning_content="because"),
        tool("b", 1),
    ]
    teller.tell({"messages": messages})
    messages += [said("", tool_calls=[_call(2)], reasoning_content="hm"), tool("c", 2)]
    told, whole = teller.tell({"messages": messages})
    assert told.prompt == whole.prompt
    went_on = teller.went_on
    messages += [said("so it is"), user("and now?")]
    told, whole = teller.tell({"messages": messages})
    assert told.prompt == whole.prompt
    assert (went_on, teller.went_on) == (1, 1)


def test_a_turn_for_which_the_template_repeats_what_was_said_is_done_as_a_whole() -> None:
    """The system prompt stands in the last question, whichever that is."""
    teller = Teller(model("brackets"))
    messages = [{"role": "system", "content": "think " * 200}, user("a")]
    teller.tell({"messages": messages})
    told, whole = teller.tell({"messages": [*messages, said("b"), user("c")]})
    assert told.prompt == whole.prompt
    assert teller.went_on == 0


def test_a_turn_that_is_asked_again_goes_on_again() -> None:
    teller = Teller(model("chatml"))
    requests = list(conversation(2, 4))
    for request in requests:
        teller.tell(request)
    before = teller.went_on
    told, whole = teller.tell(requests[-1])
    assert told.prompt == whole.prompt
    assert teller.went_on == before + 1


def test_a_conversation_that_takes_another_way_has_its_own_tokens() -> None:
    teller = Teller(model("chatml"))
    opening = [{"role": "system", "content": "shared " * 300}, user("a")]
    for branch in range(5):
        messages = [*opening, said(f"answer {branch}"), user("why?")]
        for _ in range(3):
            told, whole = teller.tell({"messages": messages})
            assert told.prompt == whole.prompt
            messages = [*messages, said("so"), user(f"and {branch}?")]
    assert teller.went_on >= 10


def test_other_values_for_the_template_make_another_prompt() -> None:
    teller = Teller(model("tagged_tools"))
    messages = [{"role": "system", "content": "shared " * 300}, user("a")]
    teller.tell({"messages": messages})
    messages += [said("b"), user("c")]
    told, whole = teller.tell({"messages": messages, "chat_template_kwargs": {"enable_thinking": False}})
    assert told.prompt == whole.prompt
    assert teller.went_on == 0


def test_a_size_of_block_that_came_into_use_since_is_told_too() -> None:
    teller = Teller(model("chatml"))
    requests = list(conversation(3, 4))
    for sizes, request in zip(((4,), (4, 16), (16,), (16, 32)), requests, strict=False):
        told, whole = teller.tell(request, sizes)
        assert told.prompt == whole.prompt
        assert set(told.prompt.runs) == set(sizes)


@pytest.mark.parametrize(
    "spelled",
    [
        json.dumps,
        lambda value: json.dumps(value, indent=1),
        lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
    ],
)
def test_however_its_json_is_spelled_a_turn_goes_on(spelled: Any) -> None:
    teller = Teller(model("chatml"))
    for request in conversation(4, 5):
        told, whole = teller.tell(spelled({"model": "m", **request}).encode())
        assert told.prompt == whole.prompt
    assert teller.went_on > 0


def test_a_client_that_writes_the_mark_gains_nothing_by_it() -> None:
    teller = Teller(model("chatml"))
    messages = [{"role": "system", "content": "shared " * 300}, user("a")]
    teller.tell({"messages": messages})
    with pytest.raises(Untold):
        teller.tell({"messages": [*messages, said("b"), user(f"c{MARK}d")]})


def test_the_template_s_date_is_part_of_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    of = model("headers")
    teller = Teller(of)
    messages = [{"role": "system", "content": "shared " * 300}, user("a")]
    teller.tell({"messages": messages})
    template = of._template(False)
    assert len(template.clock()) == 1
    monkeypatch.setattr(template, "clock", lambda: ("tomorrow",))
    teller.tell({"messages": [*messages, said("b"), user("c")]})
    assert teller.went_on == 0


def _call(number: int) -> dict[str, Any]:
    return {"id": f"call{number:05d}", "type": "function", "function": {"name": "run", "arguments": "{}"}}
