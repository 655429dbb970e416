"""Requests by a grammar: what clients send, and what they might."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass

NONCE = re.compile(rb"nonce-[0-9a-f]{16}")

_PATHS = (
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings", "/generate",
    "/v1/anything/else", "/v1/chat/completions?a=b",
)  # fmt: skip

# Their bodies are passed on while they come.
_UPLOADS = ("/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits", "/v1/files")

_HANDSHAKE = (
    b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)

# The router answers these itself. None of them changes the fleet.
_OWN = (
    ("GET", "/health"), ("GET", "/readiness"), ("GET", "/v1/models"), ("GET", "/workers"), ("GET",
    "/metrics"),
    ("GET", "/v1/chat/completions"), ("GET", "/nowhere"), ("PUT", "/generate"), ("POST", "/route"),
    ("OPTIONS", "*"),
)  # fmt: skip

_FIELDS = (
    b"accept: */*\r\n", b"x-session-id: s\r\n", b"x-request-id: r\r\n", b"authorization: Bearer k\r\n",
    b"x:\r\n",
    b"Content-Type: application/json\r\n", b"connection: keep-alive\r\n", b"te: trailers\r\n",
    b"cookie: a=b; c\r\n",
    b"connection: x-y\r\nx-y: z\r\n", b"traceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01\r\n",
    b"user-agent: " + b"u" * 3000 + b"\r\n", b"x: \xe4\r\n", b"expect: 100-continue\r\n",
)  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A request, and whether a worker answers it with its nonce."""

    data: bytes
    nonce: bytes
    served: bool


def made(chance: random.Random) -> Made:
    """A valid request."""
    nonce = b"nonce-%016x" % chance.getrandbits(64)
    if chance.random() < 0.2:
        method, path = chance.choice(_OWN)
        return Made(_framed(chance, method, path, b"" if method == "GET" else b"{}"), nonce, served=False)
    if chance.random() < 0.2:
        boundary = b"b%x" % chance.getrandbits(32)
        form = _form(chance, boundary, nonce)
        field = b"content-type: multipart/form-data; boundary=%b\r\n" % boundary
        return Made(_framed(chance, "POST", chance.choice(_UPLOADS), form, field), nonce, served=True)
    if chance.random() < 0.1:  # no worker of these agrees: it answers as to any request
        path = f"/v1/realtime?user={nonce.decode()}&model=m"
        return Made(_framed(chance, "GET", path, b"", _HANDSHAKE), nonce, served=True)
    body = json.dumps(_body(chance, nonce.decode())).encode()
    return Made(_framed(chance, "POST", chance.choice(_PATHS), body), nonce, served=True)


def _body(chance: random.Random, nonce: str) -> dict[str, object]:
    body: dict[str, object] = {"user": nonce}
    for name, value in (
        ("model", "m"),
        ("messages", [{"role": "user", "content": _text(chance)} for _ in range(chance.randrange(4))]),
        ("prompt", _value(chance)),
        ("stream", chance.random() < 0.5),
        ("max_tokens", _value(chance)),
        ("tools", [{"type": "function", "function": {"name": _text(chance)}}]),
        ("session_id", _value(chance)),
        ("priority", _value(chance)),
        (_text(chance), _value(chance)),
    ):
        if chance.random() < 0.5:
            body |= {name: value}
    if chance.random() < 0.2:  # the order of fields is the client's
        body = dict(sorted(body.items()))
    return body


def _form(chance: random.Random, boundary: bytes, nonce: bytes) -> bytes:
    """With the model before the file, behind it, or not at all."""
    file = b'content-disposition: form-data; name="file"; filename="a.wav"\r\ncontent-type: audio/wav\r\n\r\n'
    file += chance.randbytes(chance.choice((0, 1, 3000, 90_000)))
    parts = [
        b'content-disposition: form-data; name="user"\r\n\r\n' + nonce,
        b'content-disposition: form-data; name="model"\r\n\r\nm',
        file,
    ]
    chance.shuffle(parts)
    if chance.random() < 0.3:
        parts = [part for part in parts if not part.endswith(b"\r\n\r\nm")]
    return b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts) + b"--%b--\r\n" % boundary


def _text(chance: random.Random) -> str:
    return chance.choice(("", "hello", "ü\0\u2028😀", 'a"b\\c', "x" * chance.randrange(3000), "0\r\n\r\n"))


def _value(chance: random.Random) -> object:
    return chance.choice(
        (None, True, 0, -1, 1.5, 2**31, 2**63, 2**64, 10**30, "text", [], {}, [1, 2, 3], [[1], [2]],
         _text(chance), {"a": {"b": [_text(chance)]}})
    )  # fmt: skip


def _framed(chance: random.Random, method: str, path: str, body: bytes, field: bytes = b"") -> bytes:
    fields = field + b"".join(chance.sample(_FIELDS, chance.randrange(4)))
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\n".encode() + fields
    if body and chance.random() < 0.3:
        return head + b"transfer-encoding: chunked\r\n\r\n" + _chunks(chance, body)
    if not body and chance.random() < 0.8:
        return head + b"\r\n"
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


def _chunks(chance: random.Random, body: bytes) -> bytes:
    written = []
    while body:
        size = chance.randrange(1, len(body) + 1)
        extension = chance.choice((b"", b"", b"", b";a=b", b';a="b c"'))
        written.append(b"%x%b\r\n%b\r\n" % (size, extension, body[:size]))
        body = body[size:]
    return b"".join(written) + b"0\r\n" + chance.choice((b"", b"", b"x-sum: 1\r\n")) + b"\r\n"
