"""OpenAI's endpoints. A chat template lays the tools out first, then the messages."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from warmroute.dialects.request import (
    EMPTY,
    MODEL_CHARS_MAX,
    SESSION_CHARS_MAX,
    UNREADABLE,
    Buffer,
    ParsedRequest,
    decode,
    material,
    model_of,
    number,
    session_of,
    text,
)
from warmroute.dialects.turns import Turns
from warmroute.owners import thing_at

_Session = Annotated[str, msgspec.Meta(max_length=SESSION_CHARS_MAX)] | None


class _Common(msgspec.Struct, gc=False):
    model: Any = None
    stream: Any = None
    prompt_cache_key: Any = None
    session_id: Any = None
    user: Any = None
    cache_salt: Any = None
    priority: Any = None

    def parsed(
        self, prompt: Buffer, max_tokens: int | None, *, has_prompt: bool = True, kept: str = ""
    ) -> ParsedRequest:
        return ParsedRequest(
            model_of(self.model),
            prompt,
            self.stream is True,
            max_tokens,
            session_of(self.prompt_cache_key, self.session_id, self.user),
            text(self.cache_salt),
            number(self.priority) or 0,
            has_prompt,
            kept,
        )


class _Chat(_Common, gc=False):
    messages: msgspec.Raw = EMPTY
    tools: msgspec.Raw = EMPTY
    max_tokens: Any = None
    max_completion_tokens: Any = None


class _StrictChat(msgspec.Struct, gc=False):
    """A chat request as most are: checking types while decoding is four times as fast as afterwards. What is
    not is read again, by `_odd_chat`."""

    messages: msgspec.Raw = EMPTY
    model: Annotated[str, msgspec.Meta(max_length=MODEL_CHARS_MAX)] = ""
    stream: bool | None = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    tools: msgspec.Raw = EMPTY
    prompt_cache_key: _Session = None
    session_id: _Session = None
    user: _Session = None
    cache_salt: str | None = None
    priority: int | None = None


class _Completions(_Common, gc=False):
    prompt: msgspec.Raw = EMPTY
    max_tokens: Any = None


class _Invocations(_Chat, gc=False):
    prompt: msgspec.Raw = EMPTY


class _Responses(_Common, gc=False):
    instructions: msgspec.Raw = EMPTY
    tools: msgspec.Raw = EMPTY
    input: msgspec.Raw = EMPTY
    max_output_tokens: Any = None
    previous_response_id: Any = None
    conversation: Any = None


class _Batch(msgspec.Struct, gc=False):
    model: Any = None
    input_file_id: Any = None


_STRICT_CHAT = Turns(msgspec.json.Decoder(_StrictChat).decode).read
_CHAT = msgspec.json.Decoder(_Chat)
_COMPLETIONS = msgspec.json.Decoder(_Completions)
_RESPONSES = msgspec.json.Decoder(_Responses)
_INVOCATIONS = msgspec.json.Decoder(_Invocations)
_BATCH = msgspec.json.Decoder(_Batch)
_EMBEDDINGS = msgspec.json.Decoder(_Common)


def chat(body: Buffer) -> ParsedRequest:
    """`/v1/chat/completions`. Raises BadRequest."""
    try:
        fields, messages = _STRICT_CHAT(body)
    except UNREADABLE:
        return _odd_chat(body)
    return ParsedRequest(
        fields.model,
        memoryview(messages) if fields.tools is EMPTY else b"".join((fields.tools, messages)),
        fields.stream is True,
        fields.max_completion_tokens or fields.max_tokens,
        fields.prompt_cache_key or fields.session_id or fields.user or None,
        fields.cache_salt or "",
        fields.priority or 0,
    )


def _odd_chat(body: Buffer) -> ParsedRequest:
    """A chat request with a field of another type than usual: what an engine says to it is its business."""
    fields = decode(_CHAT, body)
    limit = number(fields.max_completion_tokens) or number(fields.max_tokens)
    return fields.parsed(material(fields.tools, fields.messages), limit)


def completions(body: Buffer) -> ParsedRequest:
    """`/v1/completions`; the prompt is text or token ids. Raises BadRequest."""
    fields = decode(_COMPLETIONS, body)
    return fields.parsed(material(fields.prompt), number(fields.max_tokens))


def responses(body: Buffer) -> ParsedRequest:
    """`/v1/responses`. What goes on from a stored response or conversation has the rest of its prompt there.
    Raises BadRequest."""
    fields = decode(_RESPONSES, body)
    prompt = material(fields.tools, fields.instructions, fields.input)
    kept = thing_at("/v1/responses", fields.previous_response_id)
    if not kept and fields.conversation is not None:
        talk = fields.conversation
        kept = thing_at("/v1/conversations", talk.get("id") if isinstance(talk, dict) else talk)
    return fields.parsed(prompt, number(fields.max_output_tokens), has_prompt=not kept, kept=kept)


def batches(body: Buffer) -> ParsedRequest:
    """`/v1/batches`: must go where its file is. Raises BadRequest."""
    fields = decode(_BATCH, body)
    kept = thing_at("/v1/files", fields.input_file_id)
    return ParsedRequest(model_of(fields.model), has_prompt=False, kept=kept)


def invocations(body: Buffer) -> ParsedRequest:
    """`/invocations`, SageMaker's one URL for all: what the body holds says which endpoint is meant. A chat
    shares its prefix with those of the chat endpoint. Raises BadRequest."""
    fields = decode(_INVOCATIONS, body)
    limit = number(fields.max_completion_tokens) or number(fields.max_tokens)
    if fields.messages is not EMPTY:
        return fields.parsed(material(fields.tools, fields.messages), limit)
    return fields.parsed(material(fields.prompt), limit, has_prompt=fields.prompt is not EMPTY)


def embeddings(body: Buffer) -> ParsedRequest:
    """`/v1/embeddings`: pooling models keep no prefix to come back to. Raises BadRequest."""
    return decode(_EMBEDDINGS, body).parsed(b"", None, has_prompt=False)
