"""What all dialects share: the call that a body means, the answer's protocol, errors.

ApiError
├── BadRequest    400
├── Unauthorized  401
└── NotFound      404
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol, TypeVar

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]
T = TypeVar("T")


class ApiError(Exception):
    """The request gets an error answer. `status` and `type` as vLLM sends them."""

    status: ClassVar[int]
    type: ClassVar[str]

    def __init__(self, message: str, param: str | None = None) -> None:
        self.message, self.param = message, param
        super().__init__(message)

    def body(self) -> bytes:
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.status}
        return msgspec.json.encode({"error": error})

    def anthropic_body(self) -> bytes:
        kinds = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}
        error = {"type": kinds[self.status], "message": self.message}
        return msgspec.json.encode({"type": "error", "error": error})


class BadRequest(ApiError):
    status, type = 400, "BadRequestError"


class Unauthorized(ApiError):
    status, type = 401, "AuthenticationError"


class NotFound(ApiError):
    status, type = 404, "NotFoundError"


@dataclass(frozen=True, slots=True)
class Meta:
    """What an answer says about itself."""

    answer_id: str
    model: str
    created: int


@dataclass(frozen=True, slots=True)
class End:
    """How an answer ended, and its usage."""

    reason: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    text: str


class Answer(Protocol):
    """The bytes of one answer. A stream is `opening`, `token`…, `closing`; otherwise only `whole`."""

    def __init__(self, call: Call, meta: Meta) -> None: ...

    def whole(self, end: End) -> bytes: ...

    def opening(self, prompt_tokens: int, cached_tokens: int) -> bytes: ...

    def token(self, word: bytes) -> bytes: ...

    def closing(self, last_word: bytes, end: End) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Call:
    """What a request body asks for."""

    answer: type[Answer]
    id_prefix: str
    tokens: bytes
    """The prompt, 4 bytes per token."""
    model: str | None = None
    max_tokens: int | None = None
    """None: the answer ends by itself."""
    stream: bool = False
    include_usage: bool = False
    salt: str = ""


def decode(body: bytes | bytearray, decoder: msgspec.json.Decoder[T]) -> T:
    """The body as a value; BadRequest when it is malformed or of the wrong types."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"invalid request: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None


def only_one(n: int | None) -> None:
    """The simulated engine gives one answer per request."""
    if n is not None and n != 1:
        raise BadRequest("n must be 1: this engine gives one answer per request", "n")


def sse(value: object, event: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {event}\n".encode() if event else b""
    return head + b"data: " + msgspec.json.encode(value) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def openai_usage(end: End) -> dict[str, object]:
    return {
        "prompt_tokens": end.prompt_tokens,
        "total_tokens": end.prompt_tokens + end.output_tokens,
        "completion_tokens": end.output_tokens,
        "prompt_tokens_details": {"cached_tokens": end.cached_tokens},
    }
