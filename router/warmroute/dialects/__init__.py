"""API dialects: what each endpoint's request body says that routing needs to know.

One pure module per dialect: bytes in, `ParsedRequest` out. The body itself is forwarded verbatim; what
is read here is read loosely, because refusing an odd value is the engine's business. Only a body that
is not a JSON object at all is refused.

    request       ParsedRequest, and what all dialects share
    turns         reading only what a conversation's next turn adds
    openai        /v1/chat/completions, /v1/completions, /v1/responses, /v1/embeddings,
                  /v1/batches
    anthropic     /v1/messages
    sglang        /generate
    images        a prompt without the bytes of its images
    other         anything else under /v1/: forwarded without prefix knowledge
"""

from __future__ import annotations

from collections.abc import Callable

from warmroute.dialects import anthropic, openai, other, sglang
from warmroute.dialects.request import BadRequest, Buffer, ParsedRequest

Parser = Callable[[Buffer], ParsedRequest]

PARSERS: dict[str, Parser] = {
    "/v1/chat/completions": openai.chat,
    "/v1/completions": openai.completions,
    "/v1/responses": openai.responses,
    "/v1/embeddings": openai.embeddings,
    "/v1/batches": openai.batches,
    "/v1/messages": anthropic.messages,
    "/generate": sglang.generate,
}


def parser_for(path: str) -> Parser | None:
    """The parser of an inference endpoint; None for a path that is not one."""
    parser = PARSERS.get(path)
    if parser is None and path.startswith("/v1/"):
        return other.post
    return parser


__all__ = ["PARSERS", "BadRequest", "Buffer", "ParsedRequest", "Parser", "parser_for"]
