"""A POST without a prompt that a cache could hold: forwarded as it is, to a worker that serves its model when
it names one."""

from __future__ import annotations

from typing import Any

import msgspec

from warmroute.dialects.request import UNREADABLE, Buffer, ParsedRequest, model_of


class _Other(msgspec.Struct, gc=False):
    model: Any = None
    stream: Any = None


_OTHER = msgspec.json.Decoder(_Other)


def post(body: Buffer) -> ParsedRequest:
    """The body need not be JSON. Raises BadRequest for a model's name that is none."""
    try:
        fields = _OTHER.decode(body)
    except UNREADABLE:
        return ParsedRequest(has_prompt=False)
    return ParsedRequest(model_of(fields.model), stream=fields.stream is True, has_prompt=False)
