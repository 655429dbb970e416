"""vLLM's own endpoint for prompts that were rendered elsewhere: token ids in, token ids out."""

from __future__ import annotations

from typing import Any

import msgspec

from warmroute.dialects.request import (
    EMPTY,
    Buffer,
    ParsedRequest,
    decode,
    material,
    model_of,
    number,
    text,
)


class _Generate(msgspec.Struct, gc=False):
    model: Any = None
    stream: Any = None
    sampling_params: Any = None
    cache_salt: Any = None
    priority: Any = None
    token_ids: msgspec.Raw = EMPTY


_GENERATE = msgspec.json.Decoder(_Generate)


def generate(body: Buffer) -> ParsedRequest:
    """`/inference/v1/generate`. Raises BadRequest."""
    fields = decode(_GENERATE, body)
    sampling = fields.sampling_params if isinstance(fields.sampling_params, dict) else {}
    return ParsedRequest(
        model_of(fields.model),
        material(fields.token_ids),
        fields.stream is True,
        number(sampling.get("max_tokens")),
        cache_salt=text(fields.cache_salt),
        priority=number(fields.priority) or 0,
    )
