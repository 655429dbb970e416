"""SGLang's own endpoint: `text` or `input_ids`, and sampling parameters in an object."""

from __future__ import annotations

from typing import Any

import msgspec

from warmroute.dialects.request import EMPTY, Buffer, ParsedRequest, decode, material, number, text


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
        text(fields.model),
        material(fields.text, fields.input_ids),
        fields.stream is True,
        number(sampling.get("max_new_tokens")),
        text(session.get("id")) or text(session.get("session_id")) or None,
        priority=number(fields.priority) or 0,
    )
