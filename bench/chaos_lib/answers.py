"""What an engine answers: a function of the request's nonce, so that whoever asked can check each byte."""

from __future__ import annotations

import hashlib
import json
import re

NONCE = re.compile(rb"nonce-[0-9a-f]{16}")

_EVENTS = 4


def plain(nonce: bytes) -> bytes:
    """The body of a plain answer."""
    text = hashlib.sha256(nonce).hexdigest() * 4
    return json.dumps({"nonce": nonce.decode(), "text": text, "usage": _USAGE}).encode()


def events(nonce: bytes) -> list[bytes]:
    """The pieces of a stream."""
    said = [hashlib.sha256(b"%b/%d" % (nonce, number)).hexdigest().encode() for number in range(_EVENTS)]
    last = json.dumps({"choices": [], "usage": _USAGE}).encode()
    return [b"data: %b %b\n\n" % (nonce, text) for text in said] + [
        b"data: %b\n\n" % last,
        b"data: [DONE]\n\n",
    ]


_USAGE = {"prompt_tokens": 200, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 64}}
