"""Images inside a prompt: megabytes of base64 that stand for a few hundred tokens.

An image is part of the prompt's identity, its bytes are not: each is replaced by a hash of them before the
prompt is cut into blocks. Looking for images costs 60 µs per 128 KB, so it is done for those models alone
in whose prompts one was found.
"""

from __future__ import annotations

import re

from xxhash import xxh3_64_intdigest

from warmroute.dialects.request import Buffer

_MARK = b";base64,"

_DATA_URL = re.compile(rb"data:[a-z]+/[A-Za-z0-9.+-]+;base64,[A-Za-z0-9+/=]+")

# Text has from one to eight bytes per token.
_TEXT_BYTES_PER_TOKEN_MAX = 32

# Prompts that are too long for their tokens and hold no image: after so many it is the engine's count that
# is odd.
_LOOKS_MAX = 8

# Clients may name any model where workers accept any.
_MODELS_MAX = 1000


def without_images(material: Buffer) -> bytes:
    """The material with every data URL replaced by the hash of its content."""
    return _DATA_URL.sub(lambda url: b"image:%016x" % xxh3_64_intdigest(url[0]), material)


class ImageModels:
    """State: models whose prompts hold images, and how often others were looked at in vain."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._looks: dict[str, int] = {}

    def look(self, model: str, material: Buffer, prompt_tokens: int) -> None:
        """Writes. A prompt was answered: where it is too long for text of its tokens, is there an image?"""
        if len(material) <= _TEXT_BYTES_PER_TOKEN_MAX * prompt_tokens or model in self.names:
            return
        looks = self._looks.get(model, 0)
        if looks < _LOOKS_MAX and len(self._looks) < _MODELS_MAX:
            self._looks[model] = looks + 1
            if _MARK in bytes(material):
                self.names.add(model)
