"""From the peers' flags on a command line to settings: pure, and all problems at once.

A flag of the router wins over a peer's flag for the same setting; lists join.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from warmroute.config.peers.answers import ANSWERS
from warmroute.config.peers.shape import Kind
from warmroute.config.peers.together import RULES
from warmroute.config.settings import FIELDS, is_list
from warmroute.config.sources import Given, UsageError

Uses = Mapping[str, Sequence[Sequence[str]]]
"""Flag to the words of each of its uses."""


@dataclass(frozen=True, slots=True)
class Translated:
    """Settings, and what to tell the operator."""

    given: dict[str, Given]
    notes: tuple[str, ...]


def translate(
    uses: Uses, own: Mapping[str, Given], defaults: Mapping[str, frozenset[str]], owners: Mapping[str, str]
) -> Translated:
    """`uses` are the peers' flags, `own` what the router's own flags gave; `defaults` has each flag's default
    values in the peers, `owners` who has the flag. Raises UsageError with every problem."""
    given = dict(own)
    notes: list[str] = []
    problems: list[str] = []
    words = {flag: _joined(flag, list(used), notes) for flag, used in uses.items()}
    for flag, answer in ANSWERS.items():
        if flag not in words:
            continue
        if answer.kind is Kind.REFUSED:
            if not _is_default(words[flag], defaults[flag]):
                problems.append(f"{flag} is a flag of {owners[flag]} without a counterpart: {answer.text}")
        elif answer.kind is Kind.WITHOUT_EFFECT:
            notes.append(f"{flag} has no effect: {answer.text}")
        elif answer.kind is Kind.SETS:
            try:
                value = answer.value(words[flag])
            except ValueError as error:
                problems.append(f"{flag}: {error}")
                continue
            if value is None:
                continue
            name = answer.target
            before = given.get(name)
            if isinstance(value, list) and before is not None and is_list(FIELDS[name]):
                given[name] = Given([*before.value, *value], before.origin)
            elif name in own:
                notes.append(f"{flag} has no effect: {own[name].origin} is there")
            else:
                given[name] = Given(value, flag)
    for rule in RULES:
        added = rule(words, given)
        given |= {name: item for name, item in added.given.items() if name in FIELDS}
        notes += added.notes
        problems += added.problems
    if problems:
        raise UsageError(*problems)
    return Translated(given, tuple(notes))


def _joined(flag: str, used: list[Sequence[str]], notes: list[str]) -> list[str]:
    """The words of all uses of a list, of the last use of anything else."""
    answer = ANSWERS[flag]
    of_list = answer.target in FIELDS and is_list(FIELDS[answer.target])
    if len(used) > 1 and of_list:
        notes.append(f"{flag} is given {len(used)} times: all of them count, as smg takes it")
        return [word for words in used for word in words]
    return list(used[-1])


def _is_default(words: Sequence[str], defaults: frozenset[str]) -> bool:
    """Whether a flag is given what it would be without it."""
    text = " ".join(words)
    return any(_same(text, default) for default in defaults)


def _same(left: str, right: str) -> bool:
    try:
        return float(left) == float(right)
    except ValueError:
        return left == right
