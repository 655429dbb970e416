"""jinja2's sandbox, quicker at what templates do all the time: reading a message's fields.

It asks an object for an attribute before it looks for a key, which for a dictionary is an exception each
time, and then whether the attribute is safe: half of all the time that rendering takes. What is answered here
is what it would answer; all else it is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

from jinja2.runtime import LoopContext
from jinja2.utils import Namespace

_OF_DICTS: Final = frozenset(dir(dict))

# Attributes that the sandbox lets through as they are.
_OF_TEXTS: Final = frozenset(
    ("endswith", "join", "lower", "lstrip", "replace", "rstrip", "split", "startswith", "strip", "upper")
)
_OF_LOOPS: Final = frozenset(
    ("first", "index", "index0", "last", "length", "nextitem", "previtem", "revindex", "revindex0")
)

# What a namespace may hold that is no function.
_PLAIN: Final = frozenset((str, int, bool, float, list, dict))


@final
class Fields:
    """State: none but jinja2's own ways."""

    def __init__(
        self,
        attribute: Callable[[Any, str], Any],
        item: Callable[[Any, Any], Any],
        undefined: Callable[..., Any],
    ) -> None:
        self._slow_attribute = attribute
        self._slow_item = item
        self._nothing = undefined

    def attribute(self, obj: Any, attribute: str) -> Any:
        """Reads. `obj.attribute`, as a template writes it."""
        kind = type(obj)
        if kind is dict:
            if attribute not in _OF_DICTS:
                fields: dict[Any, Any] = obj
                if attribute in fields:
                    return fields[attribute]
                return self._nothing(obj=obj, name=attribute)
        elif kind is str:
            if attribute in _OF_TEXTS:
                return getattr(obj, attribute)
        elif kind is LoopContext:
            if attribute in _OF_LOOPS:
                return getattr(obj, attribute)
        elif kind is Namespace and attribute[:1] != "_":
            value = getattr(obj, attribute, None)
            if type(value) in _PLAIN:
                return value
        return self._slow_attribute(obj, attribute)

    def item(self, obj: Any, argument: Any) -> Any:
        """Reads. `obj[argument]`, as a template writes it."""
        if type(obj) is dict and type(argument) is str and argument not in _OF_DICTS:
            fields: dict[Any, Any] = obj
            if argument in fields:
                return fields[argument]
            return self._nothing(obj=obj, name=argument)
        return self._slow_item(obj, argument)
