"""POST /v1/chat/completions, streamed and not, as vLLM answers it."""

from __future__ import annotations

import msgspec

from warmroute_simulator.serve.dialects.base import (
    DONE,
    BadRequest,
    Call,
    End,
    Meta,
    Positive,
    decode,
    only_one,
    openai_usage,
    sse,
)
from warmroute_simulator.serve.dialects.template import Message, render


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = False


class ChatBody(msgspec.Struct, frozen=True):
    messages: list[Message]
    model: str | None = None
    tools: msgspec.Raw = msgspec.Raw()
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    n: int | None = None
    cache_salt: str | None = None


_DECODER = msgspec.json.Decoder(ChatBody)


def parse(body: bytes | bytearray) -> Call:
    """Raises BadRequest."""
    chat = decode(body, _DECODER)
    only_one(chat.n)
    if not chat.messages:
        raise BadRequest("messages must not be empty", "messages")
    return Call(
        answer=ChatAnswer,
        id_prefix="chatcmpl-",
        tokens=render(chat.tools, chat.messages),
        model=chat.model,
        max_tokens=chat.max_completion_tokens or chat.max_tokens,
        stream=bool(chat.stream),
        include_usage=chat.stream_options is not None and chat.stream_options.include_usage,
        salt=chat.cache_salt or "",
    )


class ChatAnswer:
    """A stream's first chunk has the role and empty content; each further one has one token."""

    def __init__(self, call: Call, meta: Meta) -> None:
        self._meta, self._include_usage = meta, call.include_usage
        head = msgspec.json.encode(self._chunk_head())
        self._token_head = b"data: " + head[:-1] + b',"choices":[{"index":0,"delta":{"content":"'
        self._token_tail = b'"},"logprobs":null,"finish_reason":null}]}\n\n'

    def whole(self, end: End) -> bytes:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": end.text, "tool_calls": []},
            "logprobs": None,
            "finish_reason": end.reason,
        }
        answer = {"id": self._meta.answer_id, "object": "chat.completion", "created": self._meta.created}
        answer |= {"model": self._meta.model, "choices": [choice], "usage": openai_usage(end)}
        return msgspec.json.encode(answer)

    def opening(self, prompt_tokens: int, cached_tokens: int) -> bytes:
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}}
        choice |= {"logprobs": None, "finish_reason": None}
        return sse(self._chunk_head() | {"choices": [choice]})

    def token(self, word: bytes) -> bytes:
        return self._token_head + word + self._token_tail

    def closing(self, last_word: bytes, end: End) -> bytes:
        choice = {"index": 0, "delta": {"content": last_word.decode()}}
        choice |= {"logprobs": None, "finish_reason": end.reason}
        last = sse(self._chunk_head() | {"choices": [choice]})
        if self._include_usage:
            last += sse(self._chunk_head() | {"choices": [], "usage": openai_usage(end)})
        return last + DONE

    def _chunk_head(self) -> dict[str, object]:
        meta = self._meta
        return {
            "id": meta.answer_id,
            "object": "chat.completion.chunk",
            "created": meta.created,
            "model": meta.model,
        }
