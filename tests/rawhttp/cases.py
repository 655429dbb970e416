"""The list of raw requests: bytes that clients, broken clients and attackers send.

Every case says what the router answers. A case ends with whole requests, or with something that is refused:
what merely never ends is a matter of time-outs and has tests of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"
HOST = b"host: x\r\n"
SIZE = len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"
SAYS_SIZE = b"content-length: %d\r\n" % SIZE
ONE_CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, BODY)
SAYS_CHUNKED_SIZE = b"content-length: %d\r\n" % len(ONE_CHUNK)


@dataclass(frozen=True)
class Case:
    """One connection's bytes, and the statuses that the router answers to them, in order."""

    name: str
    data: bytes
    statuses: tuple[int, ...]

    def __str__(self) -> str:
        return self.name


def post(*fields: bytes, body: bytes = BODY, line: bytes = LINE, host: bytes = HOST) -> bytes:
    """A request with a right length behind `fields`."""
    return b"%b%b%bcontent-length: %d\r\n\r\n%b" % (line, host, b"".join(fields), len(body), body)


def framed(*fields: bytes, body: bytes = BODY, line: bytes = LINE) -> bytes:
    """A request whose `fields` say, or do not say, where its body ends."""
    return line + HOST + b"".join(fields) + b"\r\n" + body


def chunks(body: bytes, *fields: bytes) -> bytes:
    """A request whose body is this, chunk framing included."""
    return framed(CHUNKED, *fields, body=body)


def to(target: bytes, method: bytes = b"POST", version: bytes = b"HTTP/1.1") -> bytes:
    """A request to another target, or by another method."""
    return post(line=b"%b %b %b\r\n" % (method, target, version))


def content(text: bytes) -> bytes:
    """A chat whose only message's content is this JSON."""
    return b'{"model": "m", "messages": [{"role": "user", "content": %b}]}' % text


_WHOLE = [
    Case("plain", post(), (200,)),
    Case("stream-asked-for", post(body=BODY[:-1] + b', "stream": true}'), (200,)),
    Case(
        "field-names-upper-case",
        post(host=b"HOST: x\r\n").replace(b"content-length", b"CONTENT-LENGTH"),
        (200,),
    ),
    Case("no-space-after-colon", post(b"x:y\r\n", host=b"host:x\r\n"), (200,)),
    Case("tabs-around-value", post(b"x: \t y \t \r\n"), (200,)),
    Case("empty-value", post(b"x:\r\n"), (200,)),
    Case("value-of-obs-text", post(b"x: \xe4\xff\x80\r\n"), (200,)),
    Case("same-field-twice", post(b"x: 1\r\nx: 2\r\n"), (200,)),
    Case("every-token-character-in-a-name", post(b"!#$%&'*+-.^_`|~09: y\r\n"), (200,)),
    Case("fifty-fields", post(*(b"x-%d: y\r\n" % n for n in range(50))), (200,)),
    Case("thousand-fields", post(*(b"x-%d: y\r\n" % n for n in range(1000))), (200,)),
    Case("field-of-7-kb", post(b"x: %b\r\n" % (b"y" * 7_000)), (200,)),
    Case("field-of-30-kb", post(b"x: %b\r\n" % (b"y" * 30_000)), (200,)),
    Case("head-of-70-kb", post(b"x: %b\r\n" % (b"y" * 70_000)), (431,)),
    Case("head-of-70-kb-in-small-fields", post(*(b"x-%04d: y\r\n" % n for n in range(7000))), (431,)),
    Case("head-of-70-kb-without-end", LINE + HOST + b"x: " + b"y" * 70_000, (431,)),
    Case("target-of-7-kb", to(b"/v1/chat/completions?q=" + b"y" * 7_000), (200,)),
    Case("target-of-30-kb", to(b"/v1/chat/completions?q=" + b"y" * 30_000), (200,)),
    Case("target-of-70-kb", to(b"/v1/chat/completions?q=" + b"y" * 70_000), (431,)),
    Case("name-of-8-kb", post(b"y" * 8_000 + b": 1\r\n"), (200,)),
    Case("empty-line-first", b"\r\n" + post(), (200,)),
    Case("three-empty-lines-first", b"\r\n\r\n\r\n" + post(), (200,)),
    Case("empty-line-between", post() + b"\r\n" + post(), (200, 200)),
    Case("two-pipelined", post() + post(), (200, 200)),
    Case("twenty-pipelined", post() * 20, (200,) * 20),
    Case("connection-close", post(b"connection: close\r\n"), (200,)),
    Case("behind-connection-close", post(b"connection: close\r\n") + post(), (200,)),
    Case("connection-names-a-field", post(b"connection: x-private\r\nx-private: 1\r\n"), (200,)),
    Case("connection-names-the-length", post(b"connection: content-length\r\n"), (200,)),
    Case("connection-names-the-host", post(b"connection: host\r\n"), (200,)),
    Case("keep-alive-and-close", post(b"connection: keep-alive, close\r\n"), (200,)),
    Case("te-trailers", post(b"te: trailers\r\n"), (200,)),
    Case("expect-continue", post(b"expect: 100-continue\r\n"), (200,)),
    Case("expect-something-else", post(b"expect: a-miracle\r\n"), (200,)),
    Case("upgrade-websocket", post(b"connection: upgrade\r\nupgrade: websocket\r\n"), (200,)),
    Case(
        "upgrade-h2c",
        post(b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"),
        (200,),
    ),
    Case("proxy-authorization", post(b"proxy-authorization: Basic x\r\n"), (200,)),
    Case("content-type-missing-and-odd", post(b"content-type: text/plain; charset=\r\n"), (200,)),
    Case("content-encoding-unknown", post(b"content-encoding: identity\r\n"), (200,)),
    Case("http-1.0", to(b"/v1/chat/completions", version=b"HTTP/1.0"), (200,)),
    Case("http-1.0-without-host", post(host=b"", line=LINE.replace(b"1.1", b"1.0")), (200,)),
    Case(
        "http-1.0-keep-alive",
        post(b"connection: keep-alive\r\n", line=LINE.replace(b"1.1", b"1.0")),
        (200,),
    ),
    Case("host-with-port", post(host=b"host: router:30000\r\n"), (200,)),
    Case("host-ipv6", post(host=b"host: [::1]:80\r\n"), (200,)),
    Case("host-empty", post(host=b"host:\r\n"), (200,)),
]  # fmt: skip

_TARGETS = [
    Case("query", to(b"/v1/chat/completions?a=b&c=%20"), (200,)),
    Case("query-of-questions", to(b"/v1/chat/completions???"), (200,)),
    Case("absolute-form", to(b"http://x/v1/chat/completions"), (200,)),
    Case("absolute-form-of-another-host", to(b"http://elsewhere:9/v1/chat/completions"), (200,)),
    Case("absolute-form-https", to(b"https://x/v1/chat/completions"), (200,)),
    Case("absolute-form-upper-case-scheme", to(b"HTTP://x/v1/chat/completions"), (200,)),
    Case("absolute-form-with-user", to(b"http://u:p@x/v1/chat/completions"), (200,)),
    Case("absolute-form-ftp", to(b"ftp://x/v1/chat/completions"), (400,)),
    Case("authority-form", to(b"x:80"), (400,)),
    Case("authority-form-connect", to(b"x:80", b"CONNECT"), (400,)),
    Case("asterisk-form", to(b"*"), (400,)),
    Case("asterisk-form-options", to(b"*", b"OPTIONS"), (204,)),
    Case("dots-up-to-it", to(b"/v1/../v1/chat/completions"), (400,)),
    Case("dots-beyond-the-root", to(b"/../../etc/passwd"), (400,)),
    Case("dots-encoded", to(b"/v1/%2e%2e/v1/chat/completions"), (400,)),
    Case("dots-encoded-with-slash", to(b"/v1/..%2f..%2fworkers"), (400,)),
    Case("dots-with-backslash", to(b"/v1\\..\\workers"), (400,)),
    Case("one-dot", to(b"/v1/./chat/completions"), (400,)),
    Case("dots-behind", to(b"/v1/chat/completions/.."), (400,)),
    Case("dots-in-a-name", to(b"/v1/x..y/.z"), (200,)),
    Case("dots-to-the-admin", to(b"/v1/../workers"), (400,)),
    Case("slash-encoded", to(b"/v1%2fchat%2fcompletions"), (405,)),
    Case("slash-doubled", to(b"//v1/chat/completions"), (404,)),
    Case("slash-doubled-inside", to(b"/v1//chat/completions"), (400,)),
    Case("slash-behind", to(b"/v1/chat/completions/"), (200,)),
    Case("backslash", to(b"/v1\\chat\\completions"), (404,)),
    Case("letters-encoded", to(b"/v1/chat/%63ompletions"), (200,)),
    Case("nul-encoded", to(b"/v1/chat/completions%00"), (400,)),
    Case("nul-encoded-in-query", to(b"/v1/chat/completions?a=%00"), (200,)),
    Case("percent-broken", to(b"/v1/chat/completions%zz"), (400,)),
    Case("percent-broken-in-query", to(b"/v1/chat/completions?%"), (200,)),
    Case("line-end-encoded-in-query", to(b"/v1/chat/completions?a=%0d%0ahost:%20evil"), (200,)),
    Case("fragment", to(b"/v1/chat/completions#x"), (200,)),
    Case("semicolon", to(b"/v1/chat/completions;x=y"), (200,)),
    Case("upper-case-path", to(b"/V1/CHAT/COMPLETIONS"), (404,)),
    Case("bytes-beyond-ascii", to(b"/v1/chat/completions?\xff\xfe"), (400,)),
    Case("target-empty", post(line=b"POST  HTTP/1.1\r\n"), (400,)),
    Case("target-with-space", to(b"/v1/chat /completions"), (400,)),
    Case("target-with-tab", to(b"/v1/chat\t/completions"), (400,)),
    Case("target-with-nul", to(b"/v1/chat/completions\0"), (400,)),
    Case("target-with-delete", to(b"/v1/chat/completions\x7f"), (400,)),
    Case("target-without-slash", to(b"v1/chat/completions"), (400,)),
    Case("target-of-another-scheme", to(b"javascript:alert(1)"), (400,)),
]  # fmt: skip

_METHODS = [
    Case("get", to(b"/v1/chat/completions", b"GET"), (405,)),
    Case("put", to(b"/v1/chat/completions", b"PUT"), (405,)),
    Case("delete", to(b"/v1/chat/completions", b"DELETE"), (405,)),
    Case("patch", to(b"/v1/chat/completions", b"PATCH"), (405,)),
    Case("options", to(b"/v1/chat/completions", b"OPTIONS"), (204,)),
    Case("trace", to(b"/v1/chat/completions", b"TRACE"), (405,)),
    Case("propfind", to(b"/v1/chat/completions", b"PROPFIND"), (405,)),
    Case("method-lower-case", to(b"/v1/chat/completions", b"post"), (400,)),
    Case("method-mixed-case", to(b"/v1/chat/completions", b"Post"), (400,)),
    Case("method-unknown", to(b"/v1/chat/completions", b"BREW"), (400,)),
    Case("method-with-a-colon", to(b"/v1/chat/completions", b"PO:ST"), (400,)),
    Case("method-empty", post(line=b" /v1/chat/completions HTTP/1.1\r\n"), (400,)),
    Case("method-endless", post(line=b"P" * 5000 + b" /v1/chat/completions HTTP/1.1\r\n"), (400,)),
    Case("method-override", post(b"x-http-method-override: GET\r\n"), (200,)),
]  # fmt: skip

_VERSIONS = [
    Case("http-0.9", b"GET /v1/models\r\n\r\n", (400,)),
    Case("http-0.9-post", post(line=b"POST /v1/chat/completions\r\n"), (400,)),
    Case("http-2.0", to(b"/v1/chat/completions", version=b"HTTP/2.0"), (400,)),
    Case("http-1.2", to(b"/v1/chat/completions", version=b"HTTP/1.2"), (400,)),
    Case("http-1.10", to(b"/v1/chat/completions", version=b"HTTP/1.10"), (400,)),
    Case("http-1", to(b"/v1/chat/completions", version=b"HTTP/1"), (400,)),
    Case("http-lower-case", to(b"/v1/chat/completions", version=b"http/1.1"), (400,)),
    Case("http-misspelt", to(b"/v1/chat/completions", version=b"HTTQ/1.1"), (400,)),
    Case("icap", to(b"/v1/chat/completions", version=b"ICAP/1.0"), (400,)),
    Case("version-with-space-behind", to(b"/v1/chat/completions", version=b"HTTP/1.1 "), (400,)),
    Case("two-spaces-before-version", to(b"/v1/chat/completions "), (200,)),
    Case("http-2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), (400,)),
    Case("tls-hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 32 + b"\r\n\r\n", (400,)),
    Case("ssh", b"SSH-2.0-OpenSSH_9.7\r\n\r\n", (400,)),
    Case("socks", b"\x05\x01\x00\r\n\r\n", (400,)),
    Case("proxy-protocol", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + post(), (400,)),
    Case("answer-instead-of-a-request", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", (400,)),
    Case("garbage", bytes(range(256)) * 8 + b"\r\n\r\n", (400,)),
    Case("zeros", bytes(2000) + b"\r\n\r\n", (400,)),
]  # fmt: skip

_FIELDS = [
    Case("bare-lf-everywhere", post().replace(b"\r\n", b"\n"), (400,)),
    Case("bare-lf-behind-the-request-line", post(line=LINE[:-2] + b"\n"), (400,)),
    Case("bare-lf-behind-a-field", post(b"x: y\n"), (400,)),
    Case("bare-lf-before-the-body", framed(b"content-length: %d\r\n\n" % SIZE, b"x: y\r\n"), (400,)),
    Case("bare-cr-behind-a-field", post(b"x: y\rz: 1\r\n"), (400,)),
    Case("bare-cr-in-a-name", post(b"x\ry: 1\r\n"), (400,)),
    Case("obs-fold", post(b"x: a\r\n b\r\n"), (400,)),
    Case("obs-fold-with-tab", post(b"x: a\r\n\tb\r\n"), (400,)),
    Case("obs-fold-hides-a-length", framed(b"x: a\r\n content-length: 3\r\n", SAYS_SIZE), (400,)),
    Case("first-field-folded", post(host=b" host: x\r\n"), (400,)),
    Case("space-before-colon", post(b"x : y\r\n"), (400,)),
    Case("tab-before-colon", post(b"x\t: y\r\n"), (400,)),
    Case("name-with-space", post(b"x y: z\r\n"), (400,)),
    Case("name-with-nul", post(b"x\0y: z\r\n"), (400,)),
    Case("name-with-bytes-beyond-ascii", post(b"\xe4: z\r\n"), (400,)),
    Case("name-in-parentheses", post(b"(x): z\r\n"), (400,)),
    Case("name-empty", post(b": z\r\n"), (400,)),
    Case("line-without-colon", post(b"xyz\r\n"), (400,)),
    Case("value-with-nul", post(b"x: a\0b\r\n"), (400,)),
    Case("value-with-escape", post(b"x: a\x1bb\r\n"), (400,)),
    Case("value-with-bell", post(b"x: \x07\r\n"), (400,)),
    Case("value-with-delete", post(b"x: \x7f\r\n"), (400,)),
    Case("host-missing", post(host=b""), (400,)),
    Case("host-twice", post(b"host: y\r\n"), (400,)),
    Case("host-twice-the-same", post(b"host: x\r\n"), (400,)),
    Case("host-with-space", post(host=b"host: x y\r\n"), (400,)),
    Case("host-with-slash", post(host=b"host: x/y\r\n"), (400,)),
    Case("host-with-user", post(host=b"host: u@x\r\n"), (400,)),
    Case("request-id-with-nul", post(b"x-request-id: a\0b\r\n"), (400,)),
    Case("request-id-endless", post(b"x-request-id: " + b"r" * 5000 + b"\r\n"), (200,)),
    Case("session-endless", post(b"x-session-id: " + b"s" * 5000 + b"\r\n"), (200,)),
    Case("request-id-twice", post(b"x-request-id: a\r\nx-request-id: b\r\n"), (200,)),
]  # fmt: skip


def _length(name: str, value: bytes, status: int = 400) -> Case:
    return Case(f"length-{name}", framed(b"content-length: " + value + b"\r\n"), (status,))


_LENGTHS = [
    _length("plus", b"+%d" % SIZE),
    _length("minus", b"-1"),
    _length("minus-nothing", b"-0"),
    _length("hex", b"0x%x" % SIZE),
    _length("octal-looking", b"00%d" % SIZE, 200),
    _length("exponent", b"1e1"),
    _length("fraction", b"%d.0" % SIZE),
    _length("underscore", b"6_3"),
    _length("two-numbers", b"%d %d" % (SIZE, SIZE)),
    _length("list", b"%d, %d" % (SIZE, SIZE)),
    _length("list-of-different", b"%d, 3" % SIZE),
    _length("letters", b"%dx" % SIZE),
    _length("empty", b""),
    _length("words", b"all of it"),
    _length("quoted", b'"%d"' % SIZE),
    _length("arabic-digits", "٦٣".encode()),
    _length("beyond-64-bits", b"18446744073709551616"),
    _length("wraps-to-right", b"%d" % (2**64 + SIZE)),
    _length("400-digits", b"9" * 400),
    _length("a-petabyte", b"999999999999999", 413),
    _length("with-nul", b"%d\0" % SIZE),
    _length("with-vertical-tab", b"\x0b%d" % SIZE),
    Case("length-twice", post(SAYS_SIZE), (400,)),
    Case("length-twice-different", post(b"content-length: 3\r\n"), (400,)),
    Case("length-twice-by-case", post(b"Content-Length: 3\r\n"), (400,)),
    Case("length-zero", framed(b"content-length: 0\r\n", body=b""), (400,)),
    Case("length-missing", framed(body=b""), (400,)),
    Case("length-too-short", framed(b"content-length: 5\r\n"), (400, 400)),
    Case("length-with-space-before-colon", framed(b"content-length : %d\r\n" % SIZE), (400,)),
    Case("body-without-length", framed(), (400, 400)),
    Case("early-bytes-behind-the-body", post() + b"XYZ" + post(), (200, 400)),
    Case("bare-lf-behind-the-body", post() + b"\n" + post(), (200, 200)),
]  # fmt: skip

_SMUGGLED = post(line=b"POST /v1/smuggled HTTP/1.1\r\n")

_CHUNKS = [
    Case("one-chunk", chunks(ONE_CHUNK), (200,)),
    Case("chunk-for-each-byte", chunks(b"".join(b"1\r\n%c\r\n" % c for c in BODY) + b"0\r\n\r\n"), (200,)),
    Case("chunk-size-in-capitals", chunks(ONE_CHUNK.replace(b"3f", b"3F")), (200,)),
    Case("chunk-size-with-zeros", chunks(b"0000" + ONE_CHUNK), (200,)),
    Case("chunk-extension", chunks(ONE_CHUNK.replace(b"\r\n", b";a=b\r\n", 1)), (200,)),
    Case("chunk-extension-without-value", chunks(ONE_CHUNK.replace(b"\r\n", b";a\r\n", 1)), (200,)),
    Case("chunk-extension-quoted", chunks(ONE_CHUNK.replace(b"\r\n", b';a="b c"\r\n', 1)), (200,)),
    Case(
        "chunk-extension-of-2-kb",
        chunks(ONE_CHUNK.replace(b"\r\n", b";a=" + b"b" * 2000 + b"\r\n", 1)),
        (400,),
    ),
    Case("chunk-extension-with-bare-lf", chunks(ONE_CHUNK.replace(b"\r\n", b";a=b\n\r\n", 1)), (400,)),
    Case("chunk-extension-with-bare-cr", chunks(ONE_CHUNK.replace(b"\r\n", b";a\rb\r\n", 1)), (400,)),
    Case("chunk-extension-with-nul", chunks(ONE_CHUNK.replace(b"\r\n", b";a=\0\r\n", 1)), (400,)),
    Case("chunk-size-with-space-behind", chunks(ONE_CHUNK.replace(b"\r\n", b" \r\n", 1)), (400,)),
    Case("chunk-size-with-space-before", chunks(b" " + ONE_CHUNK), (400,)),
    Case("chunk-size-signed", chunks(b"+" + ONE_CHUNK), (400,)),
    Case("chunk-size-negative", chunks(b"-1\r\n\r\n"), (400,)),
    Case("chunk-size-hex-mark", chunks(b"0x" + ONE_CHUNK), (400,)),
    Case("chunk-size-no-number", chunks(b"zz\r\n" + ONE_CHUNK), (400,)),
    Case("chunk-size-empty", chunks(b"\r\n" + ONE_CHUNK), (400,)),
    Case("chunk-size-beyond-64-bits", chunks(b"1" + b"0" * 16 + b"\r\n" + ONE_CHUNK), (400,)),
    Case("chunk-size-wraps-to-right", chunks(b"1000000000000003f\r\n" + BODY + b"\r\n0\r\n\r\n"), (400,)),
    Case("chunk-size-underscored", chunks(b"3_f\r\n" + BODY + b"\r\n0\r\n\r\n"), (400,)),
    Case("chunk-too-short", chunks(b"5\r\n" + BODY + b"\r\n0\r\n\r\n"), (400,)),
    Case("chunk-without-line-end", chunks(b"3f\r\n" + BODY + b"0\r\n\r\n"), (400,)),
    Case("chunk-with-bare-lf", chunks(b"3f\n" + BODY + b"\n0\n\n"), (400,)),
    Case("chunk-ends-with-bare-lf", chunks(b"3f\r\n" + BODY + b"\n0\r\n\r\n"), (400,)),
    Case("last-chunk-of-many-zeros", chunks(b"3f\r\n" + BODY + b"\r\n00000\r\n\r\n"), (200,)),
    Case("trailer", chunks(ONE_CHUNK[:-2] + b"x-sum: 1\r\n\r\n"), (200,)),
    Case("trailer-announced", chunks(ONE_CHUNK[:-2] + b"x-sum: 1\r\n\r\n", b"trailer: x-sum\r\n"), (200,)),
    Case("trailer-with-a-length", chunks(ONE_CHUNK[:-2] + b"content-length: 9\r\n\r\n"), (400,)),
    Case("trailer-without-colon", chunks(ONE_CHUNK[:-2] + b"nonsense\r\n\r\n"), (400,)),
    Case("trailer-folded", chunks(ONE_CHUNK[:-2] + b" x: 1\r\n\r\n"), (400,)),
    Case("trailer-with-bare-lf", chunks(ONE_CHUNK[:-2] + b"x: 1\n\n"), (400,)),
    Case("chunked-empty-body", chunks(b"0\r\n\r\n"), (400,)),
    Case("chunked-then-pipelined", chunks(ONE_CHUNK) + post(), (200, 200)),
    Case("chunked-in-capitals", framed(b"Transfer-Encoding: CHUNKED\r\n", body=ONE_CHUNK), (200,)),
    Case("chunked-twice", framed(CHUNKED, CHUNKED, body=ONE_CHUNK), (400,)),
    Case("chunked-chunked", framed(b"transfer-encoding: chunked, chunked\r\n", body=ONE_CHUNK), (400,)),
    Case("coding-gzip", framed(b"transfer-encoding: gzip\r\n", body=ONE_CHUNK), (400,)),
    Case("coding-gzip-chunked", framed(b"transfer-encoding: gzip, chunked\r\n", body=ONE_CHUNK), (400,)),
    Case("coding-identity", framed(b"transfer-encoding: identity\r\n", SAYS_SIZE), (400,)),
    Case("coding-misspelt", framed(b"transfer-encoding: xchunked\r\n", body=ONE_CHUNK), (400,)),
    Case("coding-with-vertical-tab", framed(b"transfer-encoding: \x0bchunked\r\n", body=ONE_CHUNK), (400,)),
    Case("coding-quoted", framed(b'transfer-encoding: "chunked"\r\n', body=ONE_CHUNK), (400,)),
    Case("coding-empty", framed(b"transfer-encoding:\r\n", SAYS_SIZE), (400,)),
    Case(
        "coding-with-space-before-colon",
        framed(b"transfer-encoding : chunked\r\n", body=ONE_CHUNK),
        (400,),
    ),
    Case("coding-folded", framed(b"transfer-encoding:\r\n chunked\r\n", body=ONE_CHUNK), (400,)),
    Case("coding-with-bare-lf", framed(b"x: y\ntransfer-encoding: chunked\r\n", body=ONE_CHUNK), (400,)),
    Case("coding-in-http-1.0", framed(CHUNKED, body=ONE_CHUNK, line=LINE.replace(b"1.1", b"1.0")), (400,)),
    Case("length-and-chunks", framed(SAYS_CHUNKED_SIZE, CHUNKED, body=ONE_CHUNK), (400,)),
    Case("chunks-and-length", framed(CHUNKED, SAYS_CHUNKED_SIZE, body=ONE_CHUNK), (400,)),
    Case(
        "smuggle-cl-te",
        framed(b"content-length: %d\r\n" % (5 + len(_SMUGGLED)), CHUNKED, body=b"0\r\n\r\n" + _SMUGGLED),
        (400,),
    ),
    Case(
        "smuggle-te-cl",
        framed(CHUNKED, b"content-length: 4\r\n", body=b"%x\r\n" % len(_SMUGGLED) + _SMUGGLED),
        (400,),
    ),
    Case(
        "smuggle-te-te",
        framed(CHUNKED, b"transfer-encoding: x\r\n", body=b"0\r\n\r\n" + _SMUGGLED),
        (400,),
    ),
    Case("smuggle-in-a-value", post(b"x: y\r\r\n\r\n" + _SMUGGLED), (400,)),
    Case(
        "smuggle-by-connection",
        framed(b"connection: transfer-encoding\r\n", CHUNKED, body=ONE_CHUNK),
        (200,),
    ),
    Case("smuggle-in-the-target", to(b"/v1/chat/completions?\r\nx: HTTP/1.1\r\nhost: x\r\n\r\n"), (400,)),
]  # fmt: skip


def _body(name: str, body: bytes, status: int = 400) -> Case:
    return Case(f"body-{name}", post(body=body), (status,))


_BODIES = [
    _body("cut", BODY[:-1]),
    _body("with-more-behind", BODY + b"x"),
    _body("two-objects", BODY + BODY),
    _body("of-spaces", b" " * 100),
    _body("a-number", b"1"),
    _body("a-string", b'"hello"'),
    _body("a-list", b"[]"),
    _body("null", b"null"),
    _body("empty-object", b"{}", 200),
    _body("single-quotes", BODY.replace(b'"', b"'")),
    _body("comma-behind", BODY[:-1] + b",}"),
    _body("comment", b"/* x */" + BODY),
    _body("byte-order-mark", b"\xef\xbb\xbf" + BODY),
    _body("utf-16", BODY.decode().encode("utf-16")),
    _body("not-utf-8-in-the-model", BODY.replace(b'"m"', b'"\xff"')),
    _body("not-utf-8-in-the-prompt", content(b'"\xff\xfe"'), 200),
    _body("nul-raw", content(b'"\0"')),
    _body("nul-raw-in-the-model", BODY.replace(b'"m"', b'"a\0b"')),
    _body("nul-escaped", content(b'"\\u0000"'), 200),
    _body("lone-surrogate", content(b'"\\ud800"')),
    _body("lone-surrogate-in-the-model", BODY.replace(b'"m"', b'"\\ud800"')),
    _body("line-ends-in-a-string", content(b'"a\nb"')),
    _body("all-zeros", bytes(5000)),
    _body("form", b"model=m&messages=hi"),
    _body("gzip", b"\x1f\x8b\x08\x00" + bytes(100)),
    _body("nested-10000-deep-lists", content(b"[" * 10_000 + b"]" * 10_000)),
    _body("nested-10000-deep-objects", content(b'{"a":' * 10_000 + b"1" + b"}" * 10_000)),
    _body("nested-10000-deep-unknown-field", b'{"model": "m", "x": %b}' % (b"[" * 10_000 + b"]" * 10_000)),
    _body("nested-and-never-closed", b"[" * 100_000),
    _body("nested-100-deep", content(b"[" * 100 + b"]" * 100), 200),
    _body(
        "100000-tiny-messages",
        b'{"model": "m", "messages": [%b]}' % b", ".join([b'{"role": "user", "content": "x"}'] * 100_000),
        200,
    ),
    _body("100000-fields", b'{"model": "m", %b}' % b", ".join(b'"f%d": 1' % n for n in range(100_000)), 200),
    _body("messages-of-wrong-type", b'{"model": "m", "messages": "hi"}', 200),
    _body("messages-of-numbers", b'{"model": "m", "messages": [1, 2, null, true]}', 200),
    _body("messages-null", b'{"model": "m", "messages": null}', 200),
    _body("model-of-wrong-type", b'{"model": 5, "messages": []}', 200),
    _body("model-an-object", b'{"model": {}, "messages": []}', 200),
    _body("model-endless", json.dumps({"model": "m" * 5000}).encode()),
    _body("model-with-line-ends", b'{"model": "a\\r\\nx-evil: 1", "messages": []}', 200),
    _body("stream-of-wrong-type", BODY[:-1] + b', "stream": "yes"}', 200),
    _body("max-tokens-1e999", BODY[:-1] + b', "max_tokens": 1e999}'),
    _body("max-tokens-minus", BODY[:-1] + b', "max_tokens": -5}', 200),
    _body("max-tokens-400-digits", BODY[:-1] + b', "max_tokens": ' + b"9" * 400 + b"}", 200),
    _body("max-tokens-a-string", BODY[:-1] + b', "max_tokens": "9"}', 200),
    _body("max-tokens-5000-digits", BODY[:-1] + b', "max_tokens": ' + b"9" * 5000 + b"}"),
    _body("priority-400-digits", BODY[:-1] + b', "priority": ' + b"9" * 400 + b"}", 200),
    _body("priority-20-digits", BODY[:-1] + b', "priority": ' + b"9" * 20 + b"}", 200),
    _body("temperature-1e999", BODY[:-1] + b', "temperature": 1e999}', 200),
    _body("temperature-nan", BODY[:-1] + b', "temperature": NaN}'),
    _body("temperature-400-digits", BODY[:-1] + b', "temperature": ' + b"9" * 400 + b"}", 200),
    _body("keys-twice", b'{"model": "a", "model": "m", "messages": [], "messages": [1]}', 200),
    _body("keys-twice-stream", BODY[:-1] + b', "stream": false, "stream": true}', 200),
    _body("key-of-1-mb", b'{"%b": 1}' % (b"k" * (1 << 20)), 200),
    _body("string-of-4-mb", content(b'"%b"' % (b"x" * (4 << 20))), 200),
    _body("escapes-of-1-mb", content(b'"%b"' % (b"\\u0041" * (1 << 17))), 200),
    _body(
        "image-data-without-end",
        content(b'[{"type": "image_url", "image_url": {"url": "data:image/png,%b"}}]' % (b"A" * 100_000)),
        200,
    ),
    _body("session-of-wrong-type", BODY[:-1] + b', "session_id": [1], "user": {}}', 200),
    _body("salt-of-1-mb", BODY[:-1] + b', "cache_salt": "' + b"s" * (1 << 20) + b'"}', 200),
]  # fmt: skip

CASES: tuple[Case, ...] = (
    *_WHOLE, *_TARGETS, *_METHODS, *_VERSIONS, *_FIELDS, *_LENGTHS, *_CHUNKS, *_BODIES,
)  # fmt: skip
