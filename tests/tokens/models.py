"""The tests' own tokenizer with any of their templates, and prompts told with it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tokens.conversations import Body
from tokens.oracles import TEMPLATES, TINY
from warmroute.dialects import openai
from warmroute.tokens import asked
from warmroute.tokens.asked import Chat, Untold
from warmroute.tokens.jobs import ChatJob
from warmroute.tokens.memory import Memory
from warmroute.tokens.model import TokenModel
from warmroute.tokens.rules import Rules
from warmroute.tokens.sglang_rules import SGLANG
from warmroute.tokens.templates import Template, Templates
from warmroute.tokens.told import Told
from warmroute.tokens.vllm_rules import VLLM
from warmroute.tokens.vocabulary import Vocabulary
from warmroute_policies.blocks import PromptBlocks

SPECIAL = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
SIZES = (4, 16)
BY_ENGINE = {rules.name: rules for rules in (VLLM, SGLANG)}
ROOT = 5


@cache
def vocabulary() -> Vocabulary:
    return Vocabulary(TINY / "tokenizer.json")


def model(template: str) -> TokenModel:
    """A new one: what it learned of its template is its own."""
    return TokenModel(vocabulary(), Templates(Template(TEMPLATES[template], SPECIAL)))


def ids_of(told: Told, size: int = 1) -> bytes:
    return told.prompt.runs[size]


class Teller:
    """Tells chats one after the other, as the router does it on its loop. State: the memory; what went on."""

    def __init__(self, of: TokenModel, rules: Rules = VLLM, memory_bytes: int = 1 << 26) -> None:
        self.model = of
        self.rules = rules
        self.memory = Memory(memory_bytes)
        self.went_on = 0

    def tell(self, request: Body | bytes, sizes: tuple[int, ...] = SIZES) -> tuple[Told, Told]:
        """The tokens as they are told, and as they would be without a memory. Raises Untold."""
        body = request if isinstance(request, bytes) else json.dumps({"model": "m", **request}).encode()
        material = openai.chat(body).material
        blocks = PromptBlocks(material, 1)
        chat, messages = asked.read_chat(body, material)
        place = self.memory.find(blocks, material, self.model.options(chat, self.rules), 1 << 20)
        job = ChatJob(self.model, sizes, ROOT, chat, material, messages, self.rules, place)
        told = job.run(1 << 30, slowly=False)
        self.went_on += job.went_on
        if self.model.asks_to_learn():
            self.model.learn()
        if told.place is not None:
            self.memory.keep(told.place, place if job.went_on else None, blocks, material)
        return told, job.whole(slowly=False)


def whole(template: str, request: Body, rules: Rules = VLLM, sizes: tuple[int, ...] = (1,)) -> Told | None:
    """A chat's tokens; None where they cannot be told."""
    body = json.dumps({"model": "m", **request}).encode()
    chat, messages = read(body)
    try:
        return model(template).whole(
            chat, asked.read_messages(messages), rules, sizes, ROOT, slowly=False, cut=len(messages)
        )
    except Untold:
        return None


def read(body: bytes) -> tuple[Chat, Any]:
    return asked.read_chat(body, openai.chat(body).material)
