"""The flags of `router serve`, made from the fields of `Settings`: name, default and meaning have one home.

Flags carry text; `sources.load` turns it into values, so that a wrong value in a flag, a variable and a file
gets the same answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from pydantic.fields import FieldInfo

from warmroute.config import peers
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

_USES: Final = "uses"
"""Where it keeps the peers' flags: flag to the words of each use."""

_NOTES: Final = "notes"
"""Where it keeps what the operator should be told."""

# How `Spelling.values` is said to argparse.
_NARGS: Final[dict[str, int | str | None]] = {"0": 0, "1": None, "*": "*", "+": "+"}

GROUPS: Final = {
    "server": "What clients connect to.",
    "workers": "The engines behind the router.",
    "discovery": "How workers are found, beside those that are listed (docs/discovery.md).",
    "kv_events": "What engines tell of their caches (docs/exact-mode.md).",
    "policy": "How a worker is chosen.",
    "tokenizer": "Prompts as engines see them, where these tell what they hold (docs/exact-mode.md).",
    "admission": "How much at a time, who waits, who goes first (docs/overload.md).",
    "timeouts": "Every phase of a request has an end.",
    "health": "Which workers get requests.",
    "load": "What engines say of their load, for requests of others (docs/load-signals.md).",
    "retries": "When a worker fails before it answers.",
    "observability": "Logs and the journal.",
}


class Parser(argparse.ArgumentParser):
    """argparse that raises UsageError where the original prints and exits, and that abbreviates nothing."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.takes_peers_flags = False
        """Whether sglang-router's flags and their abbreviations are understood."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def parse_words(self, words: Sequence[str]) -> argparse.Namespace:
        """The parsed command line. Raises UsageError that names every unknown flag and the nearest one."""
        known = [option for action in self._actions for option in action.option_strings]
        if self.takes_peers_flags:
            words = [peers.whole_flag(word, _own(known)) for word in words]
        namespace, rest = self.parse_known_args(words)
        if rest:
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
            if self.dest == "backend":
                values = _workers_of(values, namespace)
                if not values:
                    return
            given[self.dest] = Given([*(before.value if before else []), *values], flag)
        else:
            given[self.dest] = Given(values, flag)


def _workers_of(values: list[str], namespace: argparse.Namespace) -> list[str]:
    """What is not the name of an engine, which `--backend` is in the peers."""
    for value in values:
        if value in peers.ENGINES:
            namespace.__dict__.setdefault(_NOTES, []).append(
                f"--backend {value} has no effect: any engine that speaks the OpenAI API is served"
            )
    return [value for value in values if value not in peers.ENGINES]


class _Use(argparse.Action):
    """Keeps every use of a peer's flag; `settled` makes settings of them."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        uses: dict[str, list[list[str]]] = namespace.__dict__.setdefault(_USES, {})
        words = [values] if isinstance(values, str) else list(values or ())
        uses.setdefault(self.option_strings[0], []).append(words)


def settled(namespace: argparse.Namespace) -> tuple[dict[str, Given], tuple[str, ...]]:
    """The settings of a parsed command line, the peers' flags among them, and what to tell the operator.
    Raises UsageError."""
    translated = peers.translate(getattr(namespace, _USES, {}), getattr(namespace, GIVEN, {}))
    return translated.given, (*getattr(namespace, _NOTES, ()), *translated.notes)


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


def add_settings(parser: Parser) -> None:
    """Writes: every setting as a flag, in its group, and the flags of sglang-router and its kin."""
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
    own = {option for action in parser._actions for option in action.option_strings}  # noqa: SLF001 -- argparse tells no other way
    for flag in peers.OWNERS:
        if flag not in own:
            parser.add_argument(
                flag,
                action=_Use,
                nargs=_NARGS[peers.values_of(flag)],
                default=argparse.SUPPRESS,
                help=argparse.SUPPRESS,
            )
    parser.takes_peers_flags = True


def _unknown(word: str, known: list[str]) -> str:
    if not word.startswith("-"):
        return f"unexpected argument {word!r}"
    return f"unknown flag {word}{did_you_mean(word, _own(known)) or did_you_mean(word, known)}"


def _own(known: Sequence[str]) -> list[str]:
    """Those of the flags that are the router's."""
    settings = {flag_of(name) for name in FIELDS}
    return [flag for flag in known if flag in settings or flag not in peers.OWNERS]
