"""POST /v1/messages in Anthropic's shape, streamed and not.

`input_tokens` counts what was not read from the cache, as Anthropic defines it: a prompt's length is
`input_tokens + cache_read_input_tokens`.
"""

from __future__ import annotations

import msgspec

from warmroute_simulator.serve.dialects.base import BadRequest, Call, End, Meta, Positive, decode, sse
from warmroute_simulator.serve.dialects.template import Message, Part, render

_STOP_REASONS = {"length": "max_tokens", "stop": "end_turn"}


class MessagesBody(msgspec.Struct, frozen=True):
    messages: list[Message]
    max_tokens: Positive
    model: str | None = None
    system: str | list[Part] | None = None
    tools: msgspec.Raw = msgspec.Raw()
    stream: bool | None = None


class CountBody(msgspec.Struct, frozen=True):
    messages: list[Message]
    model: str | None = None
    system: str | list[Part] | None = None
    tools: msgspec.Raw = msgspec.Raw()


_DECODER = msgspec.json.Decoder(MessagesBody)
_COUNT_DECODER = msgspec.json.Decoder(CountBody)


def parse(body: bytes | bytearray) -> Call:
    """Raises BadRequest."""
    asked = decode(body, _DECODER)
    return Call(
        answer=MessagesAnswer,
        id_prefix="msg_",
        tokens=_prompt(asked),
        model=asked.model,
        max_tokens=asked.max_tokens,
        stream=bool(asked.stream),
    )


def count(body: bytes | bytearray) -> tuple[str | None, bytes]:
    """POST /v1/messages/count_tokens: the model asked for, and the prompt's token bytes."""
    asked = decode(body, _COUNT_DECODER)
    return asked.model, _prompt(asked)


def _prompt(asked: MessagesBody | CountBody) -> bytes:
    if not asked.messages:
        raise BadRequest("messages must not be empty", "messages")
    system = [Message("system", asked.system)] if asked.system else []
    return render(asked.tools, system + asked.messages)


class MessagesAnswer:
    def __init__(self, call: Call, meta: Meta) -> None:
        self._meta = meta
        self._token_head = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
            b'"delta":{"type":"text_delta","text":"'
        )

    def whole(self, end: End) -> bytes:
        message = self._message([{"type": "text", "text": end.text}], _usage(end))
        return msgspec.json.encode(message | {"stop_reason": _STOP_REASONS[end.reason]})

    def opening(self, prompt_tokens: int, cached_tokens: int) -> bytes:
        usage = _usage(End("", prompt_tokens, cached_tokens, 0, ""))
        block = {"type": "text", "text": ""}
        return sse({"type": "message_start", "message": self._message([], usage)}, "message_start") + sse(
            {"type": "content_block_start", "index": 0, "content_block": block}, "content_block_start"
        )

    def token(self, word: bytes) -> bytes:
        return self._token_head + word + b'"}}\n\n'

    def closing(self, last_word: bytes, end: End) -> bytes:
        delta = {"stop_reason": _STOP_REASONS[end.reason], "stop_sequence": None}
        return (
            self.token(last_word)
            + sse({"type": "content_block_stop", "index": 0}, "content_block_stop")
            + sse({"type": "message_delta", "delta": delta, "usage": _usage(end)}, "message_delta")
            + sse({"type": "message_stop"}, "message_stop")
        )

    def _message(self, content: list[dict[str, str]], usage: dict[str, int]) -> dict[str, object]:
        return {
            "id": self._meta.answer_id,
            "type": "message",
            "role": "assistant",
            "content": content,
            "model": self._meta.model,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }


def _usage(end: End) -> dict[str, int]:
    return {
        "input_tokens": end.prompt_tokens - end.cached_tokens,
        "cache_read_input_tokens": end.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": end.output_tokens,
    }
