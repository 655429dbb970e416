"""POST /generate in SGLang's shape, streamed and not. Each streamed event repeats the text so far."""

from __future__ import annotations

from typing import Annotated

import msgspec

from warmroute_simulator.serve import tokens
from warmroute_simulator.serve.dialects.base import DONE, BadRequest, Call, End, Meta, decode, sse
from warmroute_simulator.serve.dialects.completions import batch

DEFAULT_MAX_NEW_TOKENS = 128
"""SGLang's own default."""


class SamplingParams(msgspec.Struct, frozen=True):
    max_new_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    n: int = 1


class GenerateBody(msgspec.Struct, frozen=True):
    text: str | None = None
    input_ids: list[int] | None = None
    sampling_params: SamplingParams = SamplingParams()
    stream: bool = False


_DECODER = msgspec.json.Decoder(GenerateBody)


def parse(body: bytes | bytearray) -> Call:
    """Raises BadRequest."""
    asked = decode(body, _DECODER)
    if (asked.text is None) == (asked.input_ids is None):
        raise BadRequest("either text or input_ids must be given")
    if asked.sampling_params.n != 1:
        raise BadRequest("n must be 1: this engine gives one answer per request")
    ids: list[int | str | list[int]] = [*(asked.input_ids or ())]
    [prompt] = batch(asked.text, "text") if asked.text is not None else batch(ids, "input_ids")
    return Call(
        answer=GenerateAnswer,
        id_prefix="",
        tokens=prompt,
        max_tokens=asked.sampling_params.max_new_tokens or DEFAULT_MAX_NEW_TOKENS,
        stream=asked.stream,
    )


class GenerateAnswer:
    def __init__(self, call: Call, meta: Meta) -> None:
        self._meta = meta
        self._text = b""
        self._prompt_tokens = 0
        self._cached_tokens = 0

    def whole(self, end: End) -> bytes:
        return msgspec.json.encode(self._state(end.text.encode(), end.prompt_tokens, end.cached_tokens, end))

    def opening(self, prompt_tokens: int, cached_tokens: int) -> bytes:
        self._prompt_tokens, self._cached_tokens = prompt_tokens, cached_tokens
        return b""

    def token(self, word: bytes) -> bytes:
        self._text += word
        return sse(self._state(self._text, self._prompt_tokens, self._cached_tokens, None))

    def closing(self, last_word: bytes, end: End) -> bytes:
        return sse(self._state(end.text.encode(), end.prompt_tokens, end.cached_tokens, end)) + DONE

    def _state(
        self, text: bytes, prompt_tokens: int, cached_tokens: int, end: End | None
    ) -> dict[str, object]:
        ids = tokens.to_ids(text)
        reason: dict[str, object] | None = None
        if end is not None:
            reason = {"type": end.reason} | ({"length": len(ids)} if end.reason == "length" else {})
        meta = {
            "id": self._meta.answer_id,
            "finish_reason": reason,
            "prompt_tokens": prompt_tokens,
            "completion_tokens": len(ids),
            "cached_tokens": cached_tokens,
        }
        return {"text": text.decode(), "output_ids": ids, "meta_info": meta}
