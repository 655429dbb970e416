"""Asking an engine for a prompt's tokens, where the router has no tokenizer: `POST /tokenize`.

It is right by definition, and dear: the prompt travels once more, and the engine renders and tokenizes it
twice. For a first try; a fleet that works gets a tokenizer of its own (`tokenizer`).

Rules kept: one question per prompt, to a worker that serves its model; a worker that does not know the
question is not asked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from warmroute.dialects.request import UNREADABLE, Buffer
from warmroute.questions import UNASKED
from warmroute.tokens.asked import Chat, Text, Untold, Why
from warmroute.tokens.rules import Rules
from warmroute.tokens.sglang_rules import SGLANG

if TYPE_CHECKING:
    from warmroute.gateway import Gateway
    from warmroute.workers import Worker

_PATH: Final = "/tokenize"

# A token is up to 8 bytes of JSON: two million tokens.
_ANSWER_BYTES_MAX: Final = 16 << 20

# A worker's key comes with the client's request.
_PASSED_ON: Final = (b"authorization", b"x-api-key")

# It does not know the question.
_UNKNOWN: Final = (404, 405, 501)


class _Answer(msgspec.Struct, gc=False):
    tokens: list[int]


_ANSWER: Final = msgspec.json.Decoder(_Answer).decode


class Engines:
    """State: who does not know the question, whose turn it is."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._mute: set[str] = set()
        self._turn = 0

    async def ask(self, model: str, question: bytes, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Writes. An engine's answer. Raises Untold."""
        worker = self._whom(model)
        passed_on = [(name, value) for name, value in fields if name in _PASSED_ON]
        passed_on.append((b"content-type", b"application/json"))
        try:
            async with self._gateway.questioner.stream(
                worker.pool, "POST", _PATH, headers=passed_on, body=question
            ) as answer:
                if answer.status_code in _UNKNOWN:
                    self._mute.add(worker.pool.worker_id)
                if not answer.is_success:
                    raise Untold(Why.ENGINE)
                told = bytearray()
                async for piece in answer.aiter_bytes():
                    told += piece
                    if len(told) > _ANSWER_BYTES_MAX:
                        raise Untold(Why.ENGINE)
                return bytes(told)
        except TimeoutError:
            raise
        except UNASKED:
            raise Untold(Why.ENGINE) from None

    def _whom(self, model: str) -> Worker:
        """A worker that passes its checks and serves the model, each in its turn. Raises Untold."""
        fleet = self._gateway.balancer.fleet
        able = [
            worker
            for name, worker in self._gateway.workers.items()
            if worker.checks_passed
            and name not in self._mute
            and (not (models := fleet.spec(fleet.slot_of[name]).models) or model in models)
        ]
        if not able:
            raise Untold(Why.NO_TOKENIZER)
        self._turn += 1
        return able[self._turn % len(able)]


def chat_question(model: str, chat: Chat, messages: Buffer, rules: Rules) -> bytes:
    """What to ask for a chat's tokens. Raises Untold."""
    chat.check()
    values: dict[str, Any] = dict(chat.chat_template_kwargs or {})
    asked: dict[str, Any] = {"model": model, "messages": msgspec.Raw(bytes(messages))}
    if bytes(memoryview(chat.tools)[:4]) not in (b"", b"null"):
        asked["tools"] = chat.tools
    if rules is SGLANG:
        if chat.reasoning is not None or chat.thinking is not None or chat.task is not None:
            raise Untold(Why.OPTION)
        for name in ("tool_choice", "reasoning_effort"):
            if getattr(chat, name) is not None:
                asked[name] = getattr(chat, name)
        if chat.continue_final_message:
            asked["continue_final_message"] = True
    else:
        # Its question has no field for these, but the template gets them in the same way.
        if chat.reasoning_effort is not None:
            values.setdefault("enable_thinking", chat.reasoning_effort != "none")
            values["reasoning_effort"] = chat.reasoning_effort
        if chat.documents is not None:
            values["documents"] = chat.documents
        asked["add_generation_prompt"] = chat.add_generation_prompt
        asked["continue_final_message"] = chat.continue_final_message
        asked["add_special_tokens"] = chat.add_special_tokens
    if values:
        asked["chat_template_kwargs"] = values
    return msgspec.json.encode(asked)


def text_question(model: str, text: Text) -> bytes:
    """What to ask for a text's tokens."""
    return msgspec.json.encode({"model": model, "prompt": text.text, "add_special_tokens": text.special})


def read_answer(answer: bytes) -> list[int]:
    """The token ids that an engine told. Raises Untold."""
    try:
        return _ANSWER(answer).tokens
    except UNREADABLE:
        raise Untold(Why.ENGINE) from None
