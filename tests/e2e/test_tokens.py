"""A router's tokens are those of the engine: of chats and of texts, as its answers and `/tokenize` say."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.engines.engine import Engine
from tokens.conversations import TABLE, TOOLS, made_up
from tokens.models import ROOT, read
from warmroute.tokens.asked import Text, Untold, read_messages
from warmroute.tokens.loading import load
from warmroute.tokens.model import TokenModel
from warmroute.tokens.told import told_of_numbers
from warmroute.tokens.vllm_rules import VLLM

pytestmark = pytest.mark.e2e

SEED = 4


@pytest.fixture(scope="module")
def engine(vllm_pair: list[Engine]) -> Engine:
    return vllm_pair[0]


@pytest.fixture(scope="module")
def model(e2e_home: Path) -> TokenModel:
    return load(e2e_home / "tiny-llama")


def chats() -> list[tuple[str, dict[str, Any]]]:
    chance = random.Random(SEED)
    made = []
    for number in range(20):
        messages = [one for added in made_up(chance, chance.randrange(6), 20) for one in added]
        tools = {"tools": TOOLS, "tool_choice": "none"} if number % 2 else {}
        made.append((f"made up {number}, seed {SEED}", {"messages": messages, **tools}))
    return [*TABLE.items(), *made]


def asked(engine: Engine, path: str, body: dict[str, Any]) -> Any:
    """The answer; None: the engine refuses."""
    answer = httpx.post(f"{engine.url}{path}", json=body, timeout=60, trust_env=False)
    return answer.json() if answer.status_code == httpx.codes.OK else None


@pytest.mark.parametrize(("name", "chat"), chats())
def test_a_chat_has_the_tokens_that_the_engine_gives_it(
    name: str, chat: dict[str, Any], engine: Engine, model: TokenModel
) -> None:
    wish = {"model": "tiny", "max_tokens": 1, "return_token_ids": True}
    answer = asked(engine, "/v1/chat/completions", {**wish, **chat})
    if answer is None:
        return  # it answers 400, whoever asks
    ids = answer["prompt_token_ids"]
    assert answer["usage"]["prompt_tokens"] == len(ids)
    assert told(model, chat) == told_of_numbers(ids, (1,), ROOT, slowly=False).prompt, name
    question = {key: value for key, value in chat.items() if key in _TOKENIZE_FIELDS}
    if question.keys() == chat.keys():
        tokens = asked(engine, "/tokenize", {"model": "tiny", **question})["tokens"]
        assert tokens == ids, name


_TOKENIZE_FIELDS = (
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "chat_template_kwargs",
)


def told(model: TokenModel, chat: dict[str, Any]) -> Any:
    fields, messages = read(json.dumps({"model": "tiny", **chat}).encode())
    try:
        return model.whole(fields, read_messages(messages), VLLM, (1,), ROOT, slowly=False).prompt
    except Untold as error:
        return error.why


def test_a_text_has_the_tokens_that_the_engine_says(engine: Engine, model: TokenModel) -> None:
    chance = random.Random(SEED)
    for special in (True, False):
        for _ in range(10):
            text = "".join(chance.choices("ab \n{}日🚀<|im_end|>", k=200))
            body = {"model": "tiny", "prompt": text, "add_special_tokens": special}
            ids = asked(engine, "/tokenize", body)["tokens"]
            prompt = model.text(Text(text, special), (1,), ROOT, slowly=False).prompt
            assert prompt == told_of_numbers(ids, (1,), ROOT, slowly=False).prompt, f"seed {SEED}"
