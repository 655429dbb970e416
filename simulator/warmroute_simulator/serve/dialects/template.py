"""Messages, tools and parts as token bytes: the chat template of the simulated model.

Tools come first, then each message as role marker, contents and end marker, then the marker after which the
model answers. Every piece is padded to whole tokens, so a conversation's next turn starts with the whole
prompt of the turn before it and with the answer that followed.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import xxhash

from warmroute_simulator.serve.tokens import TOKEN_BYTES, pad

IMAGE_TOKENS = 256
"""Any image or other binary part counts as this many tokens; vision models use about 250 to 1,000."""
_END = b"<|/>"
_NONE = msgspec.Raw()


class Part(msgspec.Struct, frozen=True, gc=False):
    """One content part of any API: text, image, tool use, tool result."""

    type: str = "text"
    text: str = ""
    name: str = ""
    input: msgspec.Raw = _NONE
    content: msgspec.Raw = _NONE
    image_url: msgspec.Raw = _NONE
    source: msgspec.Raw = _NONE

    def token_bytes(self) -> bytes:
        if self.text:
            return self.text.encode()
        image = bytes(self.image_url) or bytes(self.source)
        if image:
            return xxhash.xxh3_128_digest(image) * (IMAGE_TOKENS * TOKEN_BYTES // 16)
        return self.name.encode() + bytes(self.input) + bytes(self.content)


class Message(msgspec.Struct, frozen=True, gc=False):
    role: str
    content: str | list[Part] | None = None
    tool_calls: msgspec.Raw = _NONE


def render(tools: msgspec.Raw, messages: Iterable[Message]) -> bytes:
    """The prompt's token bytes."""
    pieces = [pad(b"<|tools|>" + bytes(tools)), _END] if bytes(tools) not in (b"", b"null", b"[]") else []
    for message in messages:
        pieces += (pad(b"<|" + message.role.encode() + b"|>"), content_bytes(message.content))
        calls = bytes(message.tool_calls)
        if calls not in (b"", b"null", b"[]"):
            pieces.append(pad(calls))
        pieces.append(_END)
    pieces.append(pad(b"<|assistant|>"))
    return b"".join(pieces)


def content_bytes(content: str | list[Part] | None) -> bytes:
    if content is None:
        return b""
    if isinstance(content, str):
        return pad(content.encode())
    return b"".join([pad(part.token_bytes()) for part in content])
