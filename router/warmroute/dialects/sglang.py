"""SGLang's own endpoint: `text` or `input_ids`, and sampling parameters in an object."""

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
    session_of,
)


class _Generate(msgspec.Struct, gc=False):
    model: Any = None
    stream: Any = None
    sampling_params: Any = None
    session_params: Any = None
    priority: Any = None
    text: msgspec.Raw = EMPTY
    input_ids: msgspec.Raw = EMPTY


_GENERATE = msgspec.json.Decoder(_Generate)


def generate(body: Buffer) -> ParsedRequest:
    """`/generate`. Raises BadRequest."""
    fields = decode(_GENERATE, body)
    sampling = fields.sampling_params if isinstance(fields.sampling_params, dict) else {}
    session = fields.session_params if isinstance(fields.session_params, dict) else {}
    return ParsedRequest(
        model_of(fields.model),
        material(fields.text, fields.input_ids),
        fields.stream is True,
        number(sampling.get("max_new_tokens")),
        session_of(session.get("id"), session.get("session_id")),
        priority=number(fields.priority) or 0,
    )
