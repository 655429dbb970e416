"""Classes and tenants as an operator writes them.

A class is `high=16`: its name, and its share of places among the classes that wait. A tenant is its name with
options behind commas, as a backend is: `acme,weight=2,priority_max=high,requests_per_s=5`.
"""

from __future__ import annotations

import re
from math import inf, isfinite
from typing import Annotated, Final, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field

from warmroute.config.kinds import Kind, split_text
from warmroute_policies.admission.buckets import Rate

# Every class has series of its own and is looked at for every place; nobody orders by more.
_CLASSES_MAX: Final = 8

# Tenants that are named have series of their own.
_TENANTS_MAX: Final = 100

# As label values and header values: no blanks, no commas, no quotes.
_NAME: Final = re.compile(r"[A-Za-z0-9._:@-]{1,64}")


class PriorityClass(NamedTuple):
    """One class."""

    name: str
    weight: float


class Tenant(NamedTuple):
    """What is said of one tenant; None: as of all others."""

    name: str
    weight: float = 1.0
    priority_max: str | None = None
    requests_per_s: float | None = None
    prompt_tokens_per_s: float | None = None

    def rate(self, others: Rate) -> Rate:
        """Its limits, where the others have these."""
        requests, tokens = self.requests_per_s, self.prompt_tokens_per_s
        return Rate(
            others.requests_per_s if requests is None else requests,
            others.prompt_tokens_per_s if tokens is None else tokens,
        )


def parse_class(text: str) -> PriorityClass:
    """Raises ValueError with what was expected."""
    name, equals, weight = text.partition("=")
    if not equals or not _NAME.fullmatch(name):
        raise ValueError(f"expected NAME=WEIGHT, such as high=16, got {text!r}")
    return PriorityClass(name, _above_zero(text, weight))


def parse_tenant(text: str) -> Tenant:
    """Raises ValueError with what was expected."""
    name, *options = text.split(",")
    if not _NAME.fullmatch(name):
        raise ValueError(f"expected NAME,option=value,…, got {text!r}")
    given: dict[str, str | float] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise ValueError(f"expected NAME,option=value,…, got {option!r} behind the name")
        if key in given:
            raise ValueError(f"`{key}` of tenant {name} is given twice")
        if key == "priority_max":
            given[key] = value
        elif key in Tenant._fields[1:]:
            given[key] = _above_zero(f"{key}={value}", value, most=inf if key != "weight" else 1e6)
        else:
            raise ValueError(f"a tenant has no option {key!r} (known: {', '.join(Tenant._fields[1:])})")
    return Tenant(name, **given)  # type: ignore[arg-type]  # each was checked above


def ordered_classes(texts: tuple[str, ...]) -> tuple[PriorityClass, ...]:
    """The classes from the highest to the lowest; of equal weights, as they were written."""
    return tuple(sorted(map(parse_class, texts), key=lambda one: -one.weight))


def _above_zero(text: str, value: str, most: float = 1e6) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0.0 < number <= most:
        limit = "" if not isfinite(most) else f" and at most {most:g}"
        raise ValueError(f"{text!r}: expected a number above 0{limit}")
    return number


def _spelled_classes(texts: tuple[str, ...]) -> tuple[str, ...]:
    names = [parse_class(text).name for text in texts]
    _no_twins("class", names)
    return texts


def _spelled_tenants(texts: tuple[str, ...]) -> tuple[str, ...]:
    _no_twins("tenant", [parse_tenant(text).name for text in texts])
    return texts


def _no_twins(what: str, names: list[str]) -> None:
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ValueError(f"{what} {name} is listed twice")


PriorityClasses = Annotated[
    tuple[str, ...],
    BeforeValidator(split_text),
    AfterValidator(_spelled_classes),
    Field(min_length=1, max_length=_CLASSES_MAX),
    Kind(f"at most {_CLASSES_MAX} classes such as high=16", "NAME=WEIGHT"),
]
Tenants = Annotated[
    tuple[str, ...],
    BeforeValidator(split_text),
    AfterValidator(_spelled_tenants),
    Field(max_length=_TENANTS_MAX),
    Kind(f"at most {_TENANTS_MAX} tenants such as acme,weight=2", "NAME"),
]
