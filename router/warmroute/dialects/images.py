"""Images inside a prompt: megabytes of base64 that stand for a few hundred tokens.

An image is part of the prompt's identity, its bytes are not: each is replaced by a hash of them before the
prompt is cut into blocks. Looking for images costs 20 µs per 128 KB, so it is done for those models alone
whose prompts have turned out to be much longer in bytes than in tokens (`TokenRatio.odd`).
"""

from __future__ import annotations

import re

from xxhash import xxh3_64_intdigest

_DATA_URL = re.compile(rb"data:[a-z]+/[A-Za-z0-9.+-]+;base64,[A-Za-z0-9+/=]+")


def without_images(material: bytes) -> bytes:
    """The material with every data URL replaced by the hash of its content."""
    return _DATA_URL.sub(lambda url: b"image:%016x" % xxh3_64_intdigest(url[0]), material)
