"""Anthropic's Messages API: tools first, then the system prompt, then the messages."""

from __future__ import annotations

from typing import Any

import msgspec

from warmroute.dialects.request import (
    EMPTY,
    UNREADABLE,
    BadRequest,
    Buffer,
    ParsedRequest,
    material,
    model_of,
    number,
    session_of,
)
from warmroute.dialects.turns import Turns


class _Messages(msgspec.Struct, gc=False):
    model: Any = None
    stream: Any = None
    max_tokens: Any = None
    metadata: Any = None
    tools: msgspec.Raw = EMPTY
    system: msgspec.Raw = EMPTY
    messages: msgspec.Raw = EMPTY


_MESSAGES = Turns(msgspec.json.Decoder(_Messages).decode).read


def messages(body: Buffer) -> ParsedRequest:
    """`/v1/messages`. Raises BadRequest."""
    try:
        fields, said = _MESSAGES(body)
    except UNREADABLE as error:
        raise BadRequest(str(error)) from error
    user = fields.metadata.get("user_id") if isinstance(fields.metadata, dict) else None
    return ParsedRequest(
        model_of(fields.model),
        material(fields.tools, fields.system, said),
        fields.stream is True,
        number(fields.max_tokens),
        session_of(user),
    )
