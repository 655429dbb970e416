"""POST /v1/embeddings: a deterministic unit vector per input."""

from __future__ import annotations

import base64
import math
import random
from array import array
from dataclasses import dataclass
from typing import Literal

import msgspec
import xxhash

from warmroute_simulator.serve.dialects.base import Positive, decode
from warmroute_simulator.serve.dialects.completions import TextOrIds, batch

DEFAULT_DIMENSIONS = 64
"""Enough to compare vectors by; nobody measures the quality of these."""


class EmbeddingsBody(msgspec.Struct, frozen=True):
    input: TextOrIds
    model: str | None = None
    dimensions: Positive | None = None
    encoding_format: Literal["float", "base64"] = "float"


_DECODER = msgspec.json.Decoder(EmbeddingsBody)


@dataclass(frozen=True, slots=True)
class EmbeddingCall:
    inputs: list[bytes]
    model: str | None
    dimensions: int
    as_base64: bool


def parse(body: bytes | bytearray) -> EmbeddingCall:
    """Raises BadRequest."""
    asked = decode(body, _DECODER)
    dimensions = asked.dimensions or DEFAULT_DIMENSIONS
    return EmbeddingCall(
        batch(asked.input, "input"), asked.model, dimensions, asked.encoding_format == "base64"
    )


def answer(call: EmbeddingCall, model: str) -> bytes:
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(tokens, call)}
        for index, tokens in enumerate(call.inputs)
    ]
    prompt_tokens = sum(len(tokens) // 4 for tokens in call.inputs)
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return msgspec.json.encode({"object": "list", "data": data, "model": model, "usage": usage})


def _vector(tokens: bytes, call: EmbeddingCall) -> list[float] | str:
    chance = random.Random(xxhash.xxh3_64_intdigest(tokens))
    values = [chance.gauss(0.0, 1.0) for _ in range(call.dimensions)]
    norm = math.sqrt(sum(value * value for value in values))
    vector = array("f", [value / norm for value in values])
    return base64.b64encode(vector.tobytes()).decode() if call.as_base64 else vector.tolist()
