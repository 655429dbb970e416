"""The kinds of answer that a peer's flag gets, and the conversions between their units and ours.

SAME            the router has a flag of that name with that meaning
SETS            means the same as a setting, and sets it
TOGETHER        means something only with other flags (`together`)
WITHOUT_EFFECT  tunes a rule that has no counterpart here, or asks for what is so anyway: accepted, and
                a line on stderr says so
REFUSED         asks for what would be missed: refused, with the way to go where there is one
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from warmroute.config.settings import FIELDS, is_list


class Kind(enum.Enum):
    """What becomes of a flag."""

    SAME = "same"
    SETS = "sets"
    TOGETHER = "together"
    WITHOUT_EFFECT = "without effect"
    REFUSED = "refused"


Convert = Callable[[Sequence[str]], object | None]
"""A flag's words as the value of a setting; None: they ask for nothing. Raises ValueError."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of one flag, or of several."""

    kind: Kind
    target: str = ""
    """The setting; for TOGETHER the ones that it is about, for the documentation."""
    text: str = ""
    """Why it has no effect or is refused; else what differs, for the documentation."""
    convert: Convert | None = None
    """None: the words as they are."""

    def value(self, words: Sequence[str]) -> object | None:
        """What the target becomes, None where nothing is asked for. Raises ValueError."""
        if self.convert is not None:
            return self.convert(words)
        if is_list(FIELDS[self.target]):
            return list(words) or None
        if len(words) > 1:
            raise ValueError(f"one value is taken here, got {len(words)}")
        return words[0] if words else None


def same(text: str = "") -> Answer:
    """A flag that is the router's own."""
    return Answer(Kind.SAME, text=text)


def sets(target: str, convert: Convert | None = None, text: str = "") -> Answer:
    """A flag that sets a setting."""
    return Answer(Kind.SETS, target, text, convert)


def together(target: str, text: str) -> Answer:
    """A flag that `together` reads."""
    return Answer(Kind.TOGETHER, target, text)


def without_effect(why: str) -> Answer:
    """A flag that is accepted and changes nothing."""
    return Answer(Kind.WITHOUT_EFFECT, text=why)


def refused(instead: str) -> Answer:
    """A flag that is refused."""
    return Answer(Kind.REFUSED, text=instead)


def constant(value: object) -> Convert:
    """A flag without words that stands for one value."""
    return lambda _: value


def further_workers(words: Sequence[str]) -> object:
    """Attempts in all, as `--retry-max-retries` counts them, as workers beyond the first."""
    try:
        return max(0, int(words[0]) - 1)
    except ValueError:
        raise ValueError(f"expected a whole number of attempts, got {words[0]!r}") from None


def unless_unlimited(words: Sequence[str]) -> object | None:
    """A limit; a negative number, or zero, means that there is none."""
    text = words[0].strip()
    return None if text.startswith("-") or not text.strip("0.") else text


def pairs(words: Sequence[str]) -> object:
    """Labels, each a word or all in one."""
    return [label for word in words for label in word.split()]


NEVER: Final = 2**32 - 1
"""What the peers take for a number of failures that is never reached."""
