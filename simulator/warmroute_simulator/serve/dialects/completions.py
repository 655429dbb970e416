"""POST /v1/completions, streamed and not, as vLLM answers it. The prompt is text or token ids."""

from __future__ import annotations

import msgspec

from warmroute_simulator.serve import tokens
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
from warmroute_simulator.serve.dialects.chat import StreamOptions

DEFAULT_MAX_TOKENS = 16
"""The API's own default."""

TextOrIds = str | list[int | str | list[int]]
"""A text, token ids, or a batch of either."""


class CompletionBody(msgspec.Struct, frozen=True):
    prompt: TextOrIds
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Positive | None = None
    n: int | None = None
    best_of: int | None = None
    echo: bool = False
    cache_salt: str | None = None


_DECODER = msgspec.json.Decoder(CompletionBody)


def batch(value: TextOrIds, name: str) -> list[bytes]:
    """The token bytes of each prompt. Raises BadRequest for an empty or mixed one."""
    if isinstance(value, str):
        value = [value]
    if value and all(isinstance(item, int) for item in value):
        value = [[item for item in value if isinstance(item, int)]]
    prompts: list[bytes] = []
    for item in value:
        if isinstance(item, int):
            raise BadRequest(f"{name} mixes token ids with something else", name)
        try:
            prompts.append(tokens.pad(item.encode()) if isinstance(item, str) else tokens.from_ids(item))
        except OverflowError:
            raise BadRequest(f"token ids must be 0 to {tokens.MAX_TOKEN_ID}", name) from None
    if not prompts or not all(prompts):
        raise BadRequest(f"{name} must not be empty", name)
    return prompts


def parse(body: bytes | bytearray) -> Call:
    """Raises BadRequest."""
    completion = decode(body, _DECODER)
    only_one(completion.n)
    only_one(completion.best_of)
    if completion.echo:
        raise BadRequest("echo is not supported", "echo")
    prompts = batch(completion.prompt, "prompt")
    if len(prompts) > 1:
        raise BadRequest(f"one prompt per request, not {len(prompts)}", "prompt")
    options = completion.stream_options
    return Call(
        answer=CompletionAnswer,
        id_prefix="cmpl-",
        tokens=prompts[0],
        model=completion.model,
        max_tokens=completion.max_tokens or DEFAULT_MAX_TOKENS,
        stream=bool(completion.stream),
        include_usage=options is not None and options.include_usage,
        salt=completion.cache_salt or "",
    )


class CompletionAnswer:
    """A stream has one token per chunk from the first chunk on."""

    def __init__(self, call: Call, meta: Meta) -> None:
        self._meta, self._include_usage = meta, call.include_usage
        head = msgspec.json.encode(self._head())
        self._token_head = b"data: " + head[:-1] + b',"choices":[{"index":0,"text":"'
        self._token_tail = b'","logprobs":null,"finish_reason":null,"stop_reason":null}]}\n\n'

    def whole(self, end: End) -> bytes:
        return msgspec.json.encode(
            self._head() | {"choices": [self._choice(end.text, end.reason)], "usage": openai_usage(end)}
        )

    def opening(self, prompt_tokens: int, cached_tokens: int) -> bytes:
        return b""

    def token(self, word: bytes) -> bytes:
        return self._token_head + word + self._token_tail

    def closing(self, last_word: bytes, end: End) -> bytes:
        last = sse(self._head() | {"choices": [self._choice(last_word.decode(), end.reason)]})
        if self._include_usage:
            last += sse(self._head() | {"choices": [], "usage": openai_usage(end)})
        return last + DONE

    def _choice(self, text: str, reason: str) -> dict[str, object]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason, "stop_reason": None}

    def _head(self) -> dict[str, object]:
        meta = self._meta
        return {
            "id": meta.answer_id,
            "object": "text_completion",
            "created": meta.created,
            "model": meta.model,
        }
