"""Every inference endpoint: its path, who serves it, and what of its prompt a cache may hold.

The one list of them: which requests are routed, what a wrong method is told, the API page and docs/api.md
follow from it. A path under /v1/ that is not in it is routed all the same, without prefix knowledge.

Where no prefix is known, it would not help. Embeddings, scores and classes mostly come from encoders, which
keep nothing. Of a decoder that ranks documents the query recurs, which is short; and the engine builds one
prompt per document, so the tokens that it reports would teach a wrong ratio of bytes to tokens. Tokenizing,
rendering and counting compute nothing that is kept. Such requests go where the fewest are in flight.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from warmroute.dialects import anthropic, openai, other, sglang, vllm
from warmroute.dialects.request import Parser

_BOTH: Final = "vLLM, SGLang"


class Endpoint(NamedTuple):
    """A path that takes POST."""

    path: str
    parse: Parser
    kind: str
    """Its table in docs/api.md."""
    engines: str
    """Who serves it, as of vLLM 0.32 and SGLang 0.5.23."""
    prefix: str = ""
    """What the prompt is made of; empty: none is looked up."""
    form: bool = False
    """It takes a form with a file, and the form names the model."""


GENERATION: Final = "Generation"
POOLING: Final = "Embeddings, scores, classes"
TEXT: Final = "Tokens and templates"
MEDIA: Final = "Audio, images, video"
KINDS: Final = (GENERATION, POOLING, TEXT, MEDIA)

ENDPOINTS: Final = (
    Endpoint("/v1/chat/completions", openai.chat, GENERATION, _BOTH, "`tools`, `messages`"),
    Endpoint("/v1/completions", openai.completions, GENERATION, _BOTH, "`prompt`"),
    Endpoint("/v1/responses", openai.responses, GENERATION, _BOTH, "`tools`, `instructions`, `input`"),
    Endpoint("/v1/batches", openai.batches, GENERATION, _BOTH),
    Endpoint("/v1/messages", anthropic.messages, GENERATION, _BOTH, "`tools`, `system`, `messages`"),
    Endpoint("/generate", sglang.generate, GENERATION, "SGLang", "`text` or `input_ids`"),
    Endpoint("/inference/v1/generate", vllm.generate, GENERATION, "vLLM", "`token_ids`"),
    Endpoint("/invocations", openai.invocations, GENERATION, _BOTH, "`tools`, `messages`; or `prompt`"),
    Endpoint("/vertex_generate", other.post, GENERATION, "SGLang"),
    Endpoint("/generate_from_file", other.post, GENERATION, "SGLang"),
    Endpoint("/v1/embeddings", openai.embeddings, POOLING, _BOTH),
    Endpoint("/v2/embed", other.post, POOLING, "vLLM"),
    Endpoint("/encode", other.post, POOLING, "SGLang"),
    Endpoint("/pooling", other.post, POOLING, "vLLM"),
    Endpoint("/v1/rerank", other.post, POOLING, _BOTH),
    Endpoint("/v2/rerank", other.post, POOLING, "vLLM"),
    Endpoint("/rerank", other.post, POOLING, "vLLM"),
    Endpoint("/v1/score", other.post, POOLING, _BOTH),
    Endpoint("/score", other.post, POOLING, "vLLM"),
    Endpoint("/generative_scoring", other.post, POOLING, "vLLM"),
    Endpoint("/v1/classify", other.post, POOLING, _BOTH),
    Endpoint("/classify", other.post, POOLING, _BOTH),
    Endpoint("/v1/tokenize", other.post, TEXT, "SGLang"),
    Endpoint("/tokenize", other.post, TEXT, _BOTH),
    Endpoint("/v1/detokenize", other.post, TEXT, "SGLang"),
    Endpoint("/detokenize", other.post, TEXT, _BOTH),
    Endpoint("/v1/messages/count_tokens", other.post, TEXT, _BOTH),
    Endpoint("/v1/chat/completions/render", other.post, TEXT, "vLLM"),
    Endpoint("/v1/completions/render", other.post, TEXT, "vLLM"),
    Endpoint("/v1/messages/render", other.post, TEXT, "vLLM"),
    Endpoint("/v1/responses/render", other.post, TEXT, "vLLM"),
    Endpoint("/v1/chat/completions/derender", other.post, TEXT, "vLLM"),
    Endpoint("/v1/completions/derender", other.post, TEXT, "vLLM"),
    Endpoint("/v1/audio/transcriptions", other.post, MEDIA, _BOTH, form=True),
    Endpoint("/v1/audio/translations", other.post, MEDIA, "vLLM", form=True),
    Endpoint("/v1/audio/speech", other.post, MEDIA, "vLLM-Omni"),
    Endpoint("/v1/images/generations", other.post, MEDIA, "vLLM-Omni, SGLang-Diffusion"),
    Endpoint("/v1/images/edits", other.post, MEDIA, "vLLM-Omni, SGLang-Diffusion", form=True),
    Endpoint("/v1/images/variations", other.post, MEDIA, "others of OpenAI's API", form=True),
    Endpoint("/v1/videos", other.post, MEDIA, "vLLM-Omni, SGLang-Diffusion", form=True),
)

PARSERS: Final[dict[str, Parser]] = {endpoint.path: endpoint.parse for endpoint in ENDPOINTS}

TUNNELS: Final = ("/v1/realtime",)
"""WebSockets that engines serve, as of the same versions."""

FORMS: Final = frozenset(endpoint.path for endpoint in ENDPOINTS if endpoint.form)
"""Whose forms name a model."""


def parser_for(path: str) -> Parser | None:
    """The parser of an inference endpoint; None for a path that is not one."""
    parser = PARSERS.get(path)
    if parser is None and path.startswith("/v1/"):
        return other.post
    return parser
