"""What nginx and the router do differently, and why. The test holds the table against both.

nginx passes on what it does not understand; the router chooses a worker by what a request says, so it refuses
what could be read in two ways, and it answers by itself what is none of the workers' business.
"""

from __future__ import annotations

Kinds = tuple[str, ...]
"""Classes of a case's answers, in order."""

Difference = tuple[Kinds, Kinds, str]
"""What nginx does, what the router does, and why."""

_PASSED: Kinds = ("2xx",)
_REFUSED: Kinds = ("4xx",)
_NOT_IMPLEMENTED: Kinds = ("5xx",)
_CLOSED: Kinds = ("close",)


def _listed(nginx: Kinds, router: Kinds, why: str, *names: str) -> dict[str, Difference]:
    return dict.fromkeys(names, (nginx, router, why))


DIFFERENCES: dict[str, Difference] = {
    **_listed(
        _PASSED, _REFUSED,
        "not an endpoint of the workers: the router answers 404 or 405 itself",
        "slash-encoded", "slash-doubled", "backslash", "upper-case-path",
        "put", "delete", "patch", "propfind",
    ),
    **_listed(
        _PASSED, _REFUSED,
        "nginx tidies the path and passes on another one than was sent; the router refuses to guess",
        "dots-up-to-it", "dots-encoded", "dots-with-backslash", "one-dot", "dots-behind", "dots-to-the-admin",
        "slash-doubled-inside",
    ),
    **_listed(
        _PASSED, _REFUSED,
        "llhttp knows the methods that are registered, nginx takes any word",
        "method-unknown", "method-endless",
    ),
    **_listed(
        _PASSED, _REFUSED,
        "not HTTP/1.0 or HTTP/1.1 exactly",
        "http-1.2", "http-1.10", "version-with-space-behind", "absolute-form-ftp",
    ),
    **_listed(
        _REFUSED, _PASSED,
        "nginx knows no `OPTIONS *`; the router tells which methods it knows",
        "asterisk-form-options",
    ),
    **_listed(
        _CLOSED, _REFUSED,
        "nginx answers HTTP/0.9 without a head, or what it takes for it; the router says what is wrong",
        "http-0.9", "http-0.9-post", "smuggle-in-the-target",
    ),
    **_listed(("5xx",), _REFUSED, "505 and 400 say the same of HTTP/2 without negotiation", "http-2.0"),
    **_listed(
        _PASSED, _REFUSED,
        "nginx takes a bare line feed for a line's end; servers that do not can be smuggled requests",
        "bare-lf-everywhere", "bare-lf-behind-the-request-line", "bare-lf-behind-a-field",
        "chunk-with-bare-lf", "chunk-ends-with-bare-lf", "trailer-with-bare-lf", "coding-with-bare-lf",
    ),
    **_listed(
        ("2xx", "4xx"), _REFUSED,
        "a bare line feed ends nginx's head, and what is behind it becomes a second request",
        "bare-lf-before-the-body",
    ),
    **_listed(
        ("2xx", "2xx", "4xx"), _REFUSED,
        "nginx drops a bare carriage return and ends the head there: a request hidden in a value is served",
        "smuggle-in-a-value",
    ),
    **_listed(
        _PASSED, _REFUSED,
        "nginx drops fields that are none, and passes control characters on; the router refuses both",
        "name-with-bytes-beyond-ascii", "name-in-parentheses", "line-without-colon", "value-with-escape",
        "value-with-bell", "value-with-delete", "bytes-beyond-ascii", "host-with-user",
    ),
    **_listed(
        _REFUSED, _PASSED,
        "nginx counts fields; the router bounds the whole head by 64 KiB",
        "thousand-fields",
    ),
    **_listed(
        _REFUSED, _PASSED,
        "the router does not look at names of hosts: an empty one is allowed by RFC 9112, a URL's is dropped",
        "host-empty", "absolute-form-with-user",
    ),
    **_listed(
        _PASSED, _REFUSED,
        "nginx skips over what it does not understand in a chunk's size line or a trailer; llhttp does not",
        "chunk-extension-of-2-kb", "chunk-extension-with-nul", "chunk-size-with-space-behind",
        "trailer-with-a-length", "trailer-without-colon", "trailer-folded",
    ),
    **_listed(
        _NOT_IMPLEMENTED, _REFUSED,
        "a coding that nobody undoes is the client's fault: 400, so that it counts against no worker",
        "chunked-chunked", "coding-gzip", "coding-gzip-chunked", "coding-identity", "coding-misspelt",
        "coding-with-vertical-tab", "coding-quoted", "coding-empty",
    ),
    **_listed(
        ("2xx", "2xx"), ("2xx", "4xx"),
        "behind the body nginx takes `XYZPOST` for a method",
        "early-bytes-behind-the-body",
    ),
    **_listed(
        ("2xx", "4xx"), ("4xx", "4xx"),
        "nginx does not read the body; the router needs a JSON object to choose by",
        "length-too-short", "body-without-length",
    ),
    **_listed(
        _PASSED, _REFUSED,
        "nginx does not read the body; the router needs a JSON object to choose by",
        "length-zero", "length-missing", "chunked-empty-body", "body-cut", "body-with-more-behind",
        "body-two-objects", "body-of-spaces", "body-a-number", "body-a-string", "body-a-list", "body-null",
        "body-single-quotes", "body-comma-behind", "body-comment", "body-byte-order-mark", "body-utf-16",
        "body-not-utf-8-in-the-model", "body-nul-raw", "body-nul-raw-in-the-model", "body-lone-surrogate",
        "body-lone-surrogate-in-the-model", "body-line-ends-in-a-string", "body-all-zeros", "body-form",
        "body-gzip", "body-nested-10000-deep-lists", "body-nested-10000-deep-objects",
        "body-nested-10000-deep-unknown-field", "body-nested-and-never-closed", "body-model-endless",
        "body-max-tokens-1e999", "body-max-tokens-5000-digits", "body-temperature-nan",
    ),
}  # fmt: skip
