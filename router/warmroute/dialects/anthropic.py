"""Anthropic's Messages API: tools first, then the system prompt, then the messages."""

from __future__ import annotations

from typing import Any

import msgspec

from warmroute.dialects.request import EMPTY, Buffer, ParsedRequest, decode, material, number, text


class _Messages(msgspec.Struct, gc=False):
    model: Any = None
    stream: Any = None
    max_tokens: Any = None
    metadata: Any = None
    tools: msgspec.Raw = EMPTY
    system: msgspec.Raw = EMPTY
    messages: msgspec.Raw = EMPTY


_MESSAGES = msgspec.json.Decoder(_Messages)


def messages(body: Buffer) -> ParsedRequest:
    """`/v1/messages`. Raises BadRequest."""
    fields = decode(_MESSAGES, body)
    user = fields.metadata.get("user_id") if isinstance(fields.metadata, dict) else None
    return ParsedRequest(
        text(fields.model),
        material(fields.tools, fields.system, fields.messages),
        fields.stream is True,
        number(fields.max_tokens),
        text(user) or None,
    )
