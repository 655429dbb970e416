"""The model where a body cannot name it, or names it too late: in the URL, `?model=NAME`."""

from __future__ import annotations

from urllib.parse import parse_qsl

from warmroute.dialects.request import BadRequest, Buffer, ParsedRequest, Parser, model_of

# Queries of these APIs have a handful of fields; parsing stops at more.
_FIELDS_MAX = 32


def model_in(target: bytes) -> str:
    """The name in a request's target; empty: it has none. Raises BadRequest for a name that is none."""
    query = target.partition(b"?")[2]
    if b"model=" not in query:
        return ""
    try:
        fields = parse_qsl(query.decode(), max_num_fields=_FIELDS_MAX)
    except ValueError as error:
        raise BadRequest(f"the URL's query cannot be read: {error}") from error
    return model_of(dict(fields).get("model"))


def named(model: str) -> Parser:
    """A dialect for a request whose model is known, and whose body says nothing."""
    parsed = ParsedRequest(model, has_prompt=False)

    def parse(_body: Buffer) -> ParsedRequest:
        return parsed

    return parse
