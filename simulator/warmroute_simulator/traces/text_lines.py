"""Lines of requests with texts: their many spellings, and a prompt in the order of a chat template."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from xxhash import xxh3_64, xxh3_128_digest

from warmroute_simulator.traces.source import MOST_SECONDS, Id, Malformed, OutputTokens

# Vision models take about 250 to 1,000 tokens for an image.
IMAGE_TOKENS: Final = 256

_NOTHING: Final = (b"", b"null", b"[]")
_TIMES: Final = ("arrival_s", "arrival", "arrival_time", "timestamp", "created")

TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_Moment = float | str | None
_Count = OutputTokens | None


class Message(msgspec.Struct, gc=False):
    """Of a chat, in any API's spelling."""

    role: str = "user"
    content: Any = None
    tool_calls: msgspec.Raw = msgspec.Raw()


class Usage(msgspec.Struct, gc=False):
    """What an engine counted."""

    completion_tokens: _Count = None


class Choice(msgspec.Struct, gc=False):
    """Of a response."""

    message: Message | None = None
    text: str | None = None


class Response(msgspec.Struct, gc=False):
    """A recorded response; batch APIs put it into a body."""

    choices: list[Choice] = []
    usage: Usage | None = None
    body: Response | None = None


class TextLine(msgspec.Struct, gc=False):
    """A request; see `texts` for what the fields mean."""

    messages: list[Message] | None = None
    prompt: str | list[TokenId] | None = None
    text_input: str | None = None
    input_tok_ids: list[TokenId] | None = None
    tools: msgspec.Raw = msgspec.Raw()
    body: TextLine | None = None
    arrival_s: _Moment = None
    arrival: _Moment = None
    arrival_time: _Moment = None
    timestamp: _Moment = None
    created: _Moment = None
    output_tokens: _Count = None
    completion_tokens: _Count = None
    output_length: _Count = None
    output_toks: _Count = None
    max_tokens: _Count = None
    max_completion_tokens: _Count = None
    usage: Usage | None = None
    completion: str | Response | None = None
    answer: str | Response | None = None
    response: str | Response | None = None
    session_id: Id | None = None
    conversation_id: Id | None = None


def arrival_s(line: TextLine) -> float | None:
    """Reads. When the request came, or None. Raises Malformed."""
    for field in _TIMES:
        value: float | str | None = getattr(line, field)
        if value is not None:
            return _seconds(field, value)
    return None


def _seconds(field: str, value: float | str) -> float:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise Malformed(field, "seconds, or a date and time", value) from None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    else:
        # Numbers that are no seconds of this age are milliseconds since 1970.
        seconds = value if value <= MOST_SECONDS else value / 1000
    if not 0 <= seconds <= MOST_SECONDS:
        raise Malformed(field, "seconds, or a date and time", value)
    return seconds


def counted_tokens(line: TextLine) -> int | None:
    """Reads. Tokens of the answer where somebody counted them."""
    counts = [line.output_tokens, line.completion_tokens, line.output_length, line.output_toks]
    usages = [line.usage]
    for response in (line.completion, line.answer, line.response):
        if isinstance(response, Response):
            inner = response.body or response
            usages.append(inner.usage)
    counts += [usage.completion_tokens for usage in usages if usage is not None]
    return next((count for count in counts if count is not None), None)


def recorded_answer(line: TextLine) -> bytes | None:
    """Reads. The answer's text as it would stand in the next prompt, or None. Raises Malformed."""
    for field in ("completion", "answer", "response"):
        value: str | Response | None = getattr(line, field)
        if isinstance(value, str):
            return value.encode()
        if value is not None:
            choices = (value.body or value).choices
            if choices and choices[0].message is not None:
                return content_of(choices[0].message, f"{field}.choices[0].message", 0)
            if choices and choices[0].text is not None:
                return choices[0].text.encode()
    return None


def rendered(tools: msgspec.Raw, messages: Iterable[Message], image_bytes: int) -> tuple[bytes, list[int]]:
    """The prompt's bytes, and hashes of all up to the end of each message of the assistant.

    Raises Malformed.
    """
    pieces: list[bytes] = []
    digests: list[int] = []
    hashed, so_far = 0, xxh3_64()
    if bytes(tools) not in _NOTHING:
        pieces.append(b"tools\n%b\n" % bytes(tools))
    for number, message in enumerate(messages):
        pieces += (message.role.encode(), b"\n", content_of(message, f"messages[{number}]", image_bytes))
        if message.role == "assistant":
            for piece in pieces[hashed:]:
                so_far.update(piece)
            hashed = len(pieces)
            digests.append(so_far.intdigest())
        pieces.append(b"\n")
    pieces.append(b"assistant\n")
    return b"".join(pieces), digests


def content_of(message: Message, field: str, image_bytes: int) -> bytes:
    """A message's bytes: texts as they are, images by what they hold, tools' calls as JSON.

    Raises Malformed.
    """
    content = message.content
    calls = bytes(message.tool_calls)
    tail = b"" if calls in _NOTHING else calls
    if content is None:
        return tail
    if isinstance(content, str):
        return content.encode() + tail
    if not isinstance(content, list):
        raise Malformed(f"{field}.content", "a text, a list of parts or null", type(content).__name__)
    return b"".join(_part(part, image_bytes) for part in content) + tail


def _part(part: Any, image_bytes: int) -> bytes:
    if isinstance(part, str):
        return part.encode()
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        text: str = part["text"]
        return text.encode()
    whole = msgspec.json.encode(part)
    if isinstance(part, dict) and {"image_url", "source"} & part.keys():
        return xxh3_128_digest(whole) * (image_bytes // 16)
    return whole
