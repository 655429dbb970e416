"""The flags of `router serve`, made from the fields of `Settings`: name, default and meaning have one home.

Flags carry text; `sources.load` turns it into values, so that a wrong value in a flag, a variable and a file
gets the same answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from pydantic.fields import FieldInfo

from warmroute.config import sglang
from warmroute.config.settings import (
    FIELDS,
    flag_of,
    group_of,
    is_list,
    is_switch,
    kind_of,
)
from warmroute.config.sources import Given, UsageError, did_you_mean

GIVEN: Final = "given"
"""Where the namespace of a parsed command line keeps its settings: field name to `Given`."""

GROUPS: Final = {
    "server": "What clients connect to.",
    "workers": "The engines behind the router.",
    "discovery": "How workers are found, beside those that are listed (docs/discovery.md).",
    "policy": "How a worker is chosen.",
    "admission": "How much at a time, who waits, who goes first (docs/overload.md).",
    "timeouts": "Every phase of a request has an end.",
    "health": "Which workers get requests.",
    "retries": "When a worker fails before it answers.",
    "observability": "Logs and the journal.",
}


class Parser(argparse.ArgumentParser):
    """argparse that raises UsageError where the original prints and exits, and that abbreviates nothing."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def parse_words(self, words: Sequence[str]) -> argparse.Namespace:
        """The parsed command line. Raises UsageError that names every unknown flag and the nearest one."""
        namespace, rest = self.parse_known_args(words)
        if rest:
            known = [option for action in self._actions for option in action.option_strings]
            flags = [word.partition("=")[0] for word in rest if word.startswith("-")]
            raise UsageError(*(_unknown(flag, known) for flag in flags or rest))
        return namespace


class _Remember(argparse.Action):
    """Keeps the text and the flag that it came by; a list grows with every use of its flag."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        given: dict[str, Given] = namespace.__dict__.setdefault(GIVEN, {})
        flag = option_string or self.option_strings[0]
        before = given.get(self.dest)
        if isinstance(values, list) and self.nargs == 0:
            given[self.dest] = Given(not flag.startswith("--no-"), flag)
        elif isinstance(values, list):
            given[self.dest] = Given([*(before.value if before else []), *values], flag)
        else:
            given[self.dest] = Given(values, flag)


class _NoEffect(argparse.Action):
    """Remembers that a flag without effect was used."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        namespace.__dict__.setdefault("notes", []).append(
            f"{option_string} has no effect: {sglang.WITHOUT_EFFECT[self.option_strings[0]]}"
        )


def default_text(field: FieldInfo) -> str:
    """A setting's default for people."""
    value = field.default
    if value is None or value == () or value == {}:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(value)
    if kind_of(field).metavar == "SIZE":
        return size_text(value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def size_text(value: int) -> str:
    """Bytes in the largest unit that divides them: 256KiB."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= size and value % size == 0:
            return f"{value // size}{unit}"
    return str(value)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Writes: every setting as a flag, in its group, and sglang-router's names for them."""
    groups = {name: parser.add_argument_group(name, text) for name, text in GROUPS.items()}
    for name, field in FIELDS.items():
        flags = [flag_of(name)]
        options: dict[str, Any] = {
            "action": _Remember,
            "dest": name,
            "default": argparse.SUPPRESS,
            "metavar": kind_of(field).metavar or None,
            "help": f"{field.description} [{default_text(field)}]".replace("%", "%%"),
        }
        if is_switch(field):
            flags.append("--no-" + flags[0].removeprefix("--"))
            options["nargs"] = 0
        elif is_list(field):
            options["nargs"] = "+"
        groups[group_of(field)].add_argument(*flags, **options)
    for flag, name in sglang.ALIASES.items():
        nargs = "*" if is_list(FIELDS[name]) else None
        parser.add_argument(
            flag, action=_Remember, dest=name, nargs=nargs, default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    for flag in sglang.WITHOUT_EFFECT:
        none = 0 if flag in sglang.WITHOUT_VALUE else None
        parser.add_argument(
            flag, action=_NoEffect, nargs=none, default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )


def _unknown(word: str, known: list[str]) -> str:
    if word in sglang.UNSUPPORTED:
        return f"{word} is a flag of sglang-router without a counterpart: {sglang.UNSUPPORTED[word]}"
    if word.startswith("-"):
        return f"unknown flag {word}{did_you_mean(word, known)}"
    return f"unexpected argument {word!r}"
