"""What a request's body says of its prompt, as far as the tokens depend on it.

Read beside `dialects`, which reads what routing needs and no more. A body whose tokens cannot be told exactly
is `Untold`, with a word of why; it is routed as any other, by belief.
"""

from __future__ import annotations

import enum
import json
from typing import Any, Final, final

import msgspec
from xxhash import xxh3_64_intdigest

from warmroute.dialects.request import EMPTY, UNREADABLE, Buffer
from warmroute.dialects.turns import Turns

Message = dict[str, Any]
"""One message, as it came or as a template gets it."""


class Why(enum.StrEnum):
    """Why a prompt's tokens are not known."""

    ENDPOINT = "endpoint"
    """Prompts of this endpoint are put together by the engine."""
    MEDIA = "media"
    """Images, audio or embeddings are in it."""
    SEVERAL = "several"
    """Several prompts in one body."""
    OPTION = "option"
    """It asks for something that changes the prompt in the engine: its own template, truncation."""
    ODD = "odd"
    """Its messages are not what the engine would take."""
    TEMPLATE = "template"
    """The template refused it, or failed."""
    NO_TOKENIZER = "no_tokenizer"
    """There is no tokenizer for its model."""
    BUSY = "busy"
    """Too many prompts waited for a thread."""
    LATE = "late"
    """It took longer than `tokenizer_timeout_s`."""
    FAULT = "fault"
    """Something raised what it should not."""
    DISTRUSTED = "distrusted"
    """Engines count this model's prompts otherwise."""
    ENGINE = "engine"
    """The engine was asked and did not tell."""


class Untold(Exception):
    """The tokens of a prompt cannot be told."""

    def __init__(self, why: Why) -> None:
        self.why = why
        super().__init__(why.value)


class Chat(msgspec.Struct, gc=False):
    """A chat as its body stands."""

    messages: msgspec.Raw = EMPTY
    """Of the list as far as it was read (`Turns`)."""
    tools: msgspec.Raw = EMPTY
    tool_choice: Any = None
    add_generation_prompt: Any = True
    continue_final_message: Any = False
    add_special_tokens: Any = False
    documents: Any = None
    chat_template: Any = None
    chat_template_kwargs: Any = None
    reasoning_effort: Any = None
    reasoning: Any = None
    truncate_prompt_tokens: Any = None
    truncation_side: Any = None
    kv_transfer_params: Any = None
    mm_processor_kwargs: Any = None
    input_ids: Any = None
    task: Any = None
    thinking: Any = None
    lora_path: Any = None
    extra_key: Any = None

    @property
    def is_plain(self) -> bool:
        """Nothing in it changes the prompt but messages and tools."""
        return (self.tool_choice is None or self.tool_choice == "auto") and _options(self) == _PLAIN

    def options_hash(self) -> int:
        """What the prompt depends on beside messages and tools: equal for equal options."""
        if self.is_plain:
            return 0
        return xxh3_64_intdigest(msgspec.json.encode((self.tool_choice, _options(self)), order="sorted"), 1)

    def check(self) -> None:
        """Raises Untold for what only the engine knows how to do."""
        if (
            self.chat_template is not None
            or self.truncate_prompt_tokens is not None
            or self.mm_processor_kwargs
            or self.input_ids is not None
            or self.lora_path is not None
            or self.extra_key is not None
            or (isinstance(self.kv_transfer_params, dict) and "prompt_token_ids" in self.kv_transfer_params)
        ):
            raise Untold(Why.OPTION)
        if (
            type(self.add_generation_prompt) is not bool
            or type(self.continue_final_message) is not bool
            or type(self.add_special_tokens) is not bool
            or not (self.chat_template_kwargs is None or isinstance(self.chat_template_kwargs, dict))
            or not (self.documents is None or _are_documents(self.documents))
        ):
            raise Untold(Why.ODD)


def _options(chat: Chat) -> tuple[Any, ...]:
    return (
        chat.add_generation_prompt,
        chat.continue_final_message,
        chat.add_special_tokens,
        chat.documents,
        chat.chat_template,
        chat.chat_template_kwargs,
        chat.reasoning_effort,
        chat.reasoning,
        chat.truncate_prompt_tokens,
        chat.kv_transfer_params,
        chat.mm_processor_kwargs,
        chat.input_ids,
        chat.task,
        chat.thinking,
        chat.lora_path,
        chat.extra_key,
    )


_PLAIN: Final = _options(Chat())


def _are_documents(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) and all(isinstance(text, str) for text in one.values()) for one in value
    )


@final
class _Completion(msgspec.Struct, gc=False):
    prompt: Any = None
    suffix: Any = None
    prompt_embeds: Any = None
    add_special_tokens: Any = True
    truncate_prompt_tokens: Any = None
    echo: Any = False
    kv_transfer_params: Any = None
    lora_path: Any = None
    extra_key: Any = None


@final
class _Generate(msgspec.Struct, gc=False):
    text: Any = None
    input_ids: Any = None
    token_ids: Any = None
    input_embeds: Any = None
    features: Any = None
    image_data: Any = None
    audio_data: Any = None
    video_data: Any = None
    lora_path: Any = None
    extra_key: Any = None


class Text(msgspec.Struct, frozen=True):
    """A prompt that is text; `special`: with the special tokens that belong around it."""

    text: str
    special: bool


_DECODE_CHAT: Final = msgspec.json.Decoder(Chat).decode
_READ_CHAT: Final = Turns(_DECODE_CHAT).read
_COMPLETION: Final = msgspec.json.Decoder(_Completion).decode
_GENERATE: Final = msgspec.json.Decoder(_Generate).decode
_MESSAGES: Final = msgspec.json.Decoder(list[Message]).decode


# What stands before a chat's messages and behind them is looked at as far as this: mostly tools, and a dozen
# fields.
_HEAD_BYTES: Final = 64 * 1024
# Mostly they are nearer; copying all of that takes as long as reading the fields.
_NEAR_BYTES: Final = 4096
_TAIL_BYTES: Final = 4096

# That much of the messages' end is not found again behind them.
_END_BYTES: Final = 64


def read_chat(body: Buffer, material: Buffer) -> tuple[Chat, Buffer]:
    """A chat's fields, and its messages as they stand in the body, of which the dialect made the material.
    Raises Untold."""
    try:
        found = _around(body, material)
        if found is None:
            chat, messages = _READ_CHAT(body)
            found = chat, memoryview(messages)
    except UNREADABLE:
        raise Untold(Why.ODD) from None
    return found


def _around(body: Buffer, material: Buffer) -> tuple[Chat, Buffer] | None:
    """The fields, read without the messages between them: these were read by the dialect, and where they
    stand can be told by their ends. None: it cannot."""
    view = memoryview(body)
    head, begin = _head(view)
    tail = bytes(view[-_TAIL_BYTES:])
    end = tail.rfind(bytes(material[-_END_BYTES:]))
    if begin < 0 or end < 0:
        return None
    end += len(view) - len(tail) + min(_END_BYTES, len(material))
    if end <= begin:
        return None
    try:
        chat = _DECODE_CHAT(b"".join((head[:begin], b"[]", view[end:])))
    except UNREADABLE:  # it was another "messages"
        return None
    tools = len(memoryview(chat.tools))
    if bytes(memoryview(chat.messages)[:3]) != b"[]" or tools + end - begin != len(material):
        return None
    return chat, view[begin:end]


def _head(view: memoryview) -> tuple[bytes, int]:
    """The beginning of a body, and where in it the messages begin, or -1."""
    head = b""
    for size in (_NEAR_BYTES, _HEAD_BYTES):
        head = bytes(view[:size])
        key = head.find(b'"messages"')
        begin = head.find(b"[", key) if key >= 0 else -1
        if begin >= 0:
            return head, begin
    return head, -1


def read_messages(messages: Buffer) -> list[Message]:
    """Messages as Python's own values. Raises Untold."""
    try:
        return _MESSAGES(messages)
    except UNREADABLE:
        raise Untold(Why.ODD) from None


def read_tools(tools: Buffer) -> list[Any] | None:
    """The tools as Python's own values, whose numbers are written as they are read. Raises Untold."""
    try:
        value = json.loads(bytes(tools)) if tools else None
    except (ValueError, RecursionError):
        raise Untold(Why.ODD) from None
    if value is None or isinstance(value, list):
        return value
    raise Untold(Why.ODD)


def read_completion(body: Buffer) -> Text | list[int]:
    """The prompt of `/v1/completions`: text, or ids. Raises Untold."""
    try:
        asked = _COMPLETION(body)
    except UNREADABLE:
        raise Untold(Why.ODD) from None
    if asked.prompt_embeds:
        raise Untold(Why.MEDIA)
    if (
        asked.suffix is not None
        or asked.truncate_prompt_tokens is not None
        or asked.lora_path is not None
        or asked.extra_key is not None
    ):
        raise Untold(Why.OPTION)
    prompt = asked.prompt
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], (str, list)):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return Text(prompt, asked.add_special_tokens is True)
    return _ids(prompt)


def read_generate(body: Buffer) -> Text | list[int]:
    """The prompt of SGLang's `/generate` and vLLM's `/inference/v1/generate`. Raises Untold."""
    try:
        asked = _GENERATE(body)
    except UNREADABLE:
        raise Untold(Why.ODD) from None
    if any((asked.input_embeds, asked.features, asked.image_data, asked.audio_data, asked.video_data)):
        raise Untold(Why.MEDIA)
    if asked.lora_path is not None or asked.extra_key is not None:
        raise Untold(Why.OPTION)
    if isinstance(asked.text, str):
        return Text(asked.text, special=True)
    if isinstance(asked.text, list):
        raise Untold(Why.SEVERAL)
    return _ids(asked.input_ids if asked.token_ids is None else asked.token_ids)


def _ids(value: Any) -> list[int]:
    if not isinstance(value, list) or not value:
        raise Untold(Why.ODD)
    if all(type(one) is int for one in value):
        return value
    raise Untold(Why.SEVERAL if all(isinstance(one, (str, list)) for one in value) else Why.ODD)
