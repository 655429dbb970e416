"""The types that settings have: what each accepts, and the words that say so in help, docs and errors.

Values arrive as text (flags, environment) or as native values (YAML, TOML); both end as the same type.
A list given as text is split at whitespace; a mapping given as text is `name=value` pairs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr

from warmroute_policies.spelling import parse_policy


@dataclass(frozen=True, slots=True)
class Kind:
    """How people are told about a type."""

    expects: str
    """Completes "expected …"."""
    metavar: str


def split_text(value: object) -> object:
    """A list written as one text: its words."""
    return value.split() if isinstance(value, str) else value


def pairs_to_mapping(value: object) -> object:
    """`name=value` pairs as a mapping; a value that reads as JSON (2, 0.5, true) is that, else it is text."""
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, list):
        return value
    mapping: dict[str, object] = {}
    for pair in value:
        name, equals, text = str(pair).partition("=")
        if not (name and equals):
            raise ValueError(f"expected name=value, got {pair!r}")
        try:
            parsed = json.loads(text)
        except (json.JSONDecodeError, RecursionError):
            parsed = text
        mapping[name] = parsed
    return mapping


def split_policies(value: object) -> object:
    """Policies written as one text, or several such: names behind commas or blanks. Where there is a `=` it
    is one policy with parameters, `NAME:param=value,…`."""
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        return value
    return tuple(name for word in words for name in ([word] if "=" in word else word.split(",")) if name)


def spelled_policies(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The same texts. Raises ValueError for one that is not spelled as a policy, or stands there twice."""
    for place, text in enumerate(texts):
        parse_policy(text)
        if text in texts[:place]:
            raise ValueError(f"policy {text} is listed twice")
    return texts


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _origins(texts: tuple[str, ...]) -> tuple[str, ...]:
    if "*" in texts and len(texts) > 1:
        raise ValueError("`*` is every origin: name it alone, or the others without it")
    for text in texts:
        if not re.fullmatch(r"\*|[a-z][a-z0-9+.-]*://[^/\s*]+", text):
            raise ValueError(
                f"expected an origin such as https://chat.example.com, without a path, or *, got {text!r}"
            )
    return texts


def _lower_all(value: object) -> object:
    words = split_text(value)
    return tuple(map(_lower, words)) if isinstance(words, (list, tuple)) else words


def _octal(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"(?:0o?)?[0-7]{3}", value):
        return value[-3:]
    # A bare number of YAML is octal or not by its first digit: nobody could tell what was meant.
    raise ValueError(
        f"expected three octal digits, in quotes where it is a file, such as '660'; got {value!r}"
    )


def _rooted(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"/[!-~]*", value):
        raise ValueError(f"expected a path that begins with `/`, got {value!r}")
    return value


# A header's name as in RFC 9110, 5.6.2 (token).
HeaderName = Annotated[
    str,
    BeforeValidator(_lower),
    Field(pattern=r"^[a-z0-9!#$%&'*+.^_`|~-]+$"),
    Kind("a header's name", "NAME"),
]

# An upper end of a day, so that a value in milliseconds is caught.
Seconds = Annotated[
    float, Field(gt=0, le=86400, allow_inf_nan=False), Kind("seconds, above 0 and at most 86400", "SECONDS")
]
Port = Annotated[
    int, Field(ge=0, le=65535), Kind("a whole number from 0 to 65535 (0: any free port)", "PORT")
]
PortOrNone = Annotated[
    Annotated[int, Field(ge=0, le=65535)] | None,
    Kind("a whole number from 0 to 65535 (0: any free port)", "PORT"),
]
Count = Annotated[int, Field(ge=1), Kind("a whole number, at least 1", "N")]
CountOrZero = Annotated[int, Field(ge=0), Kind("a whole number, at least 0", "N")]
# sglang-router writes -1 for "any number".
CountOrNone = Annotated[
    Annotated[int, Field(ge=1)] | None,
    BeforeValidator(lambda value: None if str(value) == "-1" else value),
    Kind("a whole number, at least 1", "N"),
]
RateOrNone = Annotated[
    Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, Kind("a number above 0", "X")
]
WholeNumber = Annotated[int, Kind("a whole number", "N")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), Kind("a number above 0", "X")]
# Beyond, prices leave what a float can count; learned ones stay within 30 times their preset anyway.
Weight = Annotated[
    float, Field(ge=0.001, le=1000, allow_inf_nan=False), Kind("a number from 0.001 to 1000", "X")
]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), Kind("a number, at least 0", "X")]
# Seconds for one token: a thousandth is a network that nobody would load a cache over.
TokenSeconds = Annotated[
    float, Field(ge=0, le=0.001, allow_inf_nan=False), Kind("seconds, from 0 to 0.001", "SECONDS")
]
Share = Annotated[float, Field(ge=0, le=1), Kind("a number from 0 to 1", "X")]
Size = Annotated[ByteSize, Field(gt=0), Kind("bytes, above 0, or a size such as 64KiB or 1GiB", "SIZE")]
Text = Annotated[str, Field(min_length=1), Kind("text that is not empty", "TEXT")]
Words = Annotated[tuple[Text, ...], BeforeValidator(split_text), Kind("words", "WORD")]
Tokenizers = Annotated[
    tuple[Text, ...], BeforeValidator(split_text), Kind("paths, MODEL=PATH, or engine", "PATH")
]
UrlPath = Annotated[str, BeforeValidator(_rooted), Kind("a path that begins with `/`", "PATH")]
HttpUrlOrNone = Annotated[
    Annotated[str, Field(pattern=r"^https?://[^\s/]+\S*$")] | None,
    Kind("a URL that begins with http:// or https://", "URL"),
]
File = Annotated[Path | None, Kind("a path", "FILE")]
Files = Annotated[tuple[Path, ...], BeforeValidator(split_text), Kind("paths", "FILE")]
Origins = Annotated[
    tuple[str, ...],
    BeforeValidator(_lower_all),
    AfterValidator(_origins),
    Kind("origins such as https://chat.example.com, or *", "ORIGIN"),
]
FileMode = Annotated[str, BeforeValidator(_octal), Kind("three octal digits, such as 660", "MODE")]
Switch = Annotated[bool, Kind("true or false", "")]
Secrets = Annotated[
    tuple[Annotated[SecretStr, Field(min_length=1)], ...],
    BeforeValidator(split_text),
    Kind("keys, none of them empty", "KEY"),
]
HeaderNames = Annotated[tuple[HeaderName, ...], BeforeValidator(split_text), Kind("names of headers", "NAME")]
# Two cost a request half as much again and more (docs/operations.md); more would be a load test.
_SHADOWS_MAX = 4
Policies = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(split_policies),
    AfterValidator(spelled_policies),
    Field(max_length=_SHADOWS_MAX),
    Kind(f"at most {_SHADOWS_MAX} policies, none of them twice", "NAME"),
]
Parameters = Annotated[
    Mapping[str, bool | int | float | str],
    BeforeValidator(pairs_to_mapping),
    Kind("name=value pairs, or a mapping", "NAME=VALUE"),
]
