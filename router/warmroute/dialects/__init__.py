"""API dialects: what each endpoint's request body says that routing needs to know.

One pure module per dialect: bytes in, `ParsedRequest` out. The body itself is forwarded verbatim; what
is read here is read loosely, because refusing an odd value is the engine's business. Only a body that
is not a JSON object at all is refused.

    endpoints     every path, its dialect, and who serves it
    request       ParsedRequest, and what all dialects share
    turns         reading only what a conversation's next turn adds
    openai        chat, completions, responses, embeddings
    anthropic     /v1/messages
    sglang        /generate
    vllm          /inference/v1/generate
    images        a prompt without the bytes of its images
    media         bodies that are no JSON: passed on while they come
    forms         a form with a file in it, of which only the model's name is looked for
    query         the model where a body cannot name it: in the URL
    other         all that has no prompt to look up, and any other POST under /v1/
"""

from __future__ import annotations

from warmroute.dialects.endpoints import PARSERS, parser_for
from warmroute.dialects.request import BadRequest, Buffer, ParsedRequest, Parser

__all__ = ["PARSERS", "BadRequest", "Buffer", "ParsedRequest", "Parser", "parser_for"]
