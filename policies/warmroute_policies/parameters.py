"""Parameters by name: from what an operator wrote to a keyword argument of the right type.

Flags and environment variables are text, YAML and TOML have types: both come in here. What a class takes
is read from its signature, so a policy's parameters are its constructor's keyword parameters and nothing
has to be declared twice. Every refusal names the parameter, what was given and what was expected.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from math import isfinite

from warmroute_policies.errors import ConfigError

Value = str | float | int | bool
"""What a configuration can say: a number, a truth value or a text that stands for one."""

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


def accepted(make: Callable[..., object]) -> dict[str, tuple[object, object]]:
    """Type and default of every keyword parameter; `inspect.Parameter.empty` is a default that is missing."""
    described = make.__init__ if inspect.isclass(make) else make
    try:
        hints = typing.get_type_hints(described)
    except NameError:  # annotations of names that only a type checker imports
        hints = {}
    return {
        name: (hints.get(name, object), parameter.default)
        for name, parameter in inspect.signature(make).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }


def converted(owner: str, make: Callable[..., object], given: Mapping[str, Value]) -> dict[str, object]:
    """Keyword arguments for `make`. Raises ConfigError for names it does not take and values it cannot."""
    takes = accepted(make)
    for name in given:
        if name not in takes:
            raise ConfigError(f"{owner} has no parameter `{name}`{suggestion(name, takes)}")
    missing = [
        n for n, (_, default) in takes.items() if default is inspect.Parameter.empty and n not in given
    ]
    if missing:
        raise ConfigError(f"{owner} needs the parameter `{missing[0]}`")
    return {name: convert(f"{owner}: `{name}`", takes[name][0], value) for name, value in given.items()}


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, and all of them."""
    names = sorted(known)
    if not names:
        return "; it has none"
    near = get_close_matches(name, names, n=1)
    did_you_mean = f"; did you mean `{near[0]}`?" if near else ";"
    return f"{did_you_mean} known: {', '.join(names)}"


def convert(what: str, wanted: object, value: Value) -> object:
    """The value as the wanted type: bool, int, float, str, or one of them or None."""
    options = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
    if type(None) in options and isinstance(value, str) and value.strip().lower() in ("", "none", "null"):
        return None
    for option in options:
        if option is bool:
            return _truth(what, value)
        if option is int:
            return _whole(what, value)
        if option is float:
            return _number(what, value)
        if option is str:
            return value if isinstance(value, str) else str(value)
    return value  # a type of the policy's own: it judges itself


def _truth(what: str, value: Value) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
        return value.strip().lower() in _TRUE
    raise ConfigError(f"{what} must be true or false, not {value!r}")


def _whole(what: str, value: Value) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass
    raise ConfigError(f"{what} must be a whole number, not {value!r}")


def _number(what: str, value: Value) -> float:
    number: float | None = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
    elif isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            number = None
    if number is None or not isfinite(number):
        raise ConfigError(f"{what} must be a number, not {value!r}")
    return number
